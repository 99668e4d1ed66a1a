//! The other end of a record's life: an auditor asks, two people approve, a reader opens, produces, and anybody verifies.

use std::collections::HashMap;

use core::time::Duration;
use greffe_api::archive::RecordQuery;
use greffe_client::{Client, Person};
use greffe_client::{OpenedRecord, OrderRequest, People};
use greffe_envelope::pb;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::Digest;
use tokio::time::{Instant, sleep};

use super::input::Message;
use super::play::Played;
use super::summary::{PRODUCTION, Summary};
use crate::fail::{Exit, Failure, Result};
use crate::layout::Layout;
use crate::operator::read_key;
use crate::output::narrate;
use crate::produce::{Out, produce};
use crate::verify::root_key;

/// Records that are opened.
const SAMPLE: usize = 12;
/// How long a receipt may take to be in the log.
const LOGGED_WITHIN: Duration = Duration::from_secs(60);
/// How long the order stands.
const ORDER_FOR: Duration = Duration::from_secs(3600);

/// Searches, orders, approves, opens, compares, produces, verifies.
pub(super) async fn open(layout: &Layout, played: Played) -> Result<Summary> {
    let client = played.cast.client();
    let auditor = person(layout, client, "auditor")?;
    let found = auditor.search_all(&RecordQuery::default()).await?;
    let archived = found
        .iter()
        .filter(|r| r.kind() == pb::EntryKind::Message)
        .count();
    let sample = choose(&played.sent);
    let order = order(layout, client, &auditor, &sample).await?;
    let opened = if sample.is_empty() {
        Opened::default()
    } else {
        records(layout, client, &order, &sample).await?
    };
    let checkpoint = client.log().checkpoint(client.trust()?.bundle(), 0).await?;
    Ok(Summary {
        users: played.users,
        conversations: played.conversations,
        messages_sent: played.sent.len(),
        messages_archived: archived,
        messages_delivered: played.delivered,
        receipts_verified: played.receipts,
        wraps_recomputed: played.wraps,
        refused: played.refusals.len(),
        refusals: played.refusals.clone(),
        orders: 1,
        approvals: APPROVERS.len(),
        records_opened: opened.records,
        sample: sample
            .iter()
            .map(|(message, _)| message.item.clone())
            .collect(),
        production: layout.root().join(PRODUCTION),
        production_verified: opened.verified,
        tenant_root: layout.root_key(),
        log_size: checkpoint.head.size,
        checkpoint: String::from_utf8_lossy(&checkpoint.bytes).into_owned(),
        elapsed_ms: 0,
        data: layout.root().to_owned(),
        kept: false,
    })
}

/// Who approves: a principal and compliance, as the packs ask.
const APPROVERS: [&str; 2] = ["principal", "compliance"];

#[derive(Default)]
struct Opened {
    records: usize,
    verified: bool,
}

fn person(layout: &Layout, client: &Client, name: &str) -> Result<People> {
    let person = Person::load(&layout.person(name), name)?;
    Ok(People::new(client, person))
}

/// Evenly over the input, and what is special about it: attachments, empty texts, bytes that are not UTF-8.
fn choose(sent: &[(Message, Digest)]) -> Vec<&(Message, Digest)> {
    let step = (sent.len() / (SAMPLE / 2)).max(1);
    let mut chosen: Vec<&(Message, Digest)> = sent.iter().step_by(step).take(SAMPLE / 2).collect();
    let special = sent.iter().filter(|(message, _)| {
        message.files.len() > 1
            || message.text.is_empty()
            || core::str::from_utf8(&message.text).is_err()
    });
    for one in special {
        if chosen.len() < SAMPLE && !chosen.iter().any(|other| other.1 == one.1) {
            chosen.push(one);
        }
    }
    chosen
}

/// The auditor opens a matter and asks; two people approve; gives the released order's id.
async fn order(
    layout: &Layout,
    client: &Client,
    auditor: &People,
    sample: &[&(Message, Digest)],
) -> Result<greffe_types::OrderId> {
    for (_, envelope) in sample {
        logged(auditor, envelope).await?;
    }
    let matter = auditor.create_matter("Demonstration").await?;
    let now = SystemClock.now();
    let request = OrderRequest {
        matter,
        purpose: "showing that an order opens exactly these records".to_owned(),
        records: sample.iter().map(|(_, envelope)| *envelope).collect(),
        reader: "reader".to_owned(),
        not_before: now.minus(Duration::from_secs(1)),
        expiry: now.plus(ORDER_FOR),
        seal_until: None,
    };
    let order = auditor.request_order(request).await?;
    narrate(format_args!(
        "order {} over {} records: waiting for approvals",
        order.id,
        sample.len()
    ));
    for name in APPROVERS {
        let approver = person(layout, client, name)?;
        approver.approve_order(&order.id).await?;
        narrate(format_args!(
            "{name} has recomputed the list of records and approved"
        ));
    }
    Ok(order.id)
}

/// Waits until a record's receipt is in the log.
async fn logged(auditor: &People, envelope: &Digest) -> Result<()> {
    let until = Instant::now() + LOGGED_WITHIN;
    loop {
        if auditor.record(envelope).await?.receipt_proof.is_some() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(Failure::new(
                Exit::Unavailable,
                "RECEIPT_NOT_LOGGED",
                format_args!(
                    "the receipt of {envelope} is not in the log after {} s",
                    LOGGED_WITHIN.as_secs()
                ),
            ));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The reader opens, compares with the input, writes the production, and verifies it with the root key alone.
async fn records(
    layout: &Layout,
    client: &Client,
    order: &greffe_types::OrderId,
    sample: &[&(Message, Digest)],
) -> Result<Opened> {
    let reader = person(layout, client, "reader")?;
    let mut opening = reader.open_order(order).await?;
    let mut opened = Vec::with_capacity(sample.len());
    for record in opening.all().await? {
        opened.push(record.map_err(|refused| {
            Failure::refused(
                refused.error.reason(),
                format_args!(
                    "record {} was not opened: {}",
                    refused.digest, refused.error
                ),
            )
        })?);
    }
    let expected: HashMap<Digest, &Message> = sample.iter().map(|(m, e)| (*e, m)).collect();
    for record in &opened {
        equals(&opening, record, expected.get(&record.digest).copied()).await?;
    }
    if opened.len() != sample.len() {
        return Err(Failure::unverified(
            "OPENED_DIFFERS",
            "not every record of the order was opened",
        ));
    }
    narrate(format_args!(
        "{} records opened by {} nodes each, equal to the input",
        opened.len(),
        opened.first().map_or(0, |r| r.opened_by.len())
    ));
    let folder = layout.root().join(PRODUCTION);
    let key = read_key(&layout.person("reader").join("signing.key"))?;
    let out = Out::Folder(folder.clone());
    produce(&reader, &opening, &opened, &key, &out).await?;
    let report = greffe_production::verify(&folder, &root_key(&layout.root_key())?);
    if let Some(finding) = report.findings.first() {
        return Err(Failure::unverified(
            "PRODUCTION_INVALID",
            format_args!("{}: {}", finding.item, finding.problem),
        ));
    }
    narrate(format_args!(
        "production of {} files written and verified offline",
        report.files
    ));
    Ok(Opened {
        records: opened.len(),
        verified: report.holds(),
    })
}

/// An opened record is the input, byte for byte, attachments too.
async fn equals(
    opening: &greffe_client::Opening,
    record: &OpenedRecord,
    message: Option<&Message>,
) -> Result<()> {
    let differs = |what: &str| {
        Failure::unverified(
            "OPENED_DIFFERS",
            format_args!("record {}: its {what} is not the input's", record.digest),
        )
    };
    let message = message.ok_or_else(|| differs("envelope"))?;
    if record.content.text != message.text || record.content.subject != message.subject {
        return Err(differs("text"));
    }
    if record.content.attachments.len() != message.files.len() {
        return Err(differs("list of attachments"));
    }
    for (index, file) in (0_u32..).zip(&message.files) {
        let mut bytes = Vec::new();
        opening.attachment(record, index, &mut bytes).await?;
        if bytes != file.bytes {
            return Err(differs("attachment"));
        }
    }
    Ok(())
}

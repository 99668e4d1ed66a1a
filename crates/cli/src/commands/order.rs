//! `greffe order`: an order over an exact list of records, asked for, approved by others, opened by its reader.

use core::time::Duration;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use greffe_client::{OrderInfo, OrderRequest, OrderState, People};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::{Digest, MatterId, Millis, OrderId};
use serde::Serialize;

use super::access::AsPerson;
use super::form::{duration, hex, instant, one_line, time, time_or_none};
use super::opened;
use super::openings;
use super::query::Filters;
use crate::fail::{Failure, Result, chain};
use crate::output::{Output, print};

/// How much earlier than now an order begins: clocks differ.
const SKEW: Duration = Duration::from_secs(1);

/// `greffe order`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe order list --as auditor")]
pub(crate) struct OrderArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one is parsed a process")]
enum What {
    /// Ask for an order over records, named one by one or found by filters.
    #[command(
        after_help = "Example:\n  greffe order request --as auditor --matter MATTER --purpose 'Limit breach of 2 March' --reader reader --record DIGEST"
    )]
    Request(Request),
    /// Approve an order, after recomputing here what it is about.
    #[command(after_help = "Example:\n  greffe order approve ORDER --as compliance")]
    Approve(One),
    /// How an order stands, and which records it is about.
    #[command(after_help = "Example:\n  greffe order status ORDER --as auditor")]
    Status(One),
    /// Every order.
    #[command(after_help = "Example:\n  greffe order list --as auditor")]
    List {
        #[command(flatten)]
        person: AsPerson,
    },
    /// What the log says was opened under an order, by which node; openings under a sealed order are recognised by its nonce,
    /// and those under another leaf of it than the archive has named are told apart.
    #[command(after_help = "Example:\n  greffe order openings ORDER --as auditor")]
    Openings(One),
    /// Open the records of a released order with the escrow nodes' answers, and print them.
    #[command(after_help = "Example:\n  greffe order open ORDER --as reader --save ./attachments")]
    Open {
        #[command(flatten)]
        one: One,
        /// Save attachments into this folder.
        #[arg(long, value_name = "FOLDER")]
        save: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct One {
    /// The order.
    order: OrderId,
    #[command(flatten)]
    person: AsPerson,
}

#[derive(Debug, Args)]
struct Request {
    #[command(flatten)]
    person: AsPerson,
    /// The matter it belongs to.
    #[arg(long, value_name = "MATTER")]
    matter: MatterId,
    /// Why: 1 to 1000 bytes.
    #[arg(long)]
    purpose: String,
    /// Who will read: a reader of the roster.
    #[arg(long, value_name = "PERSON")]
    reader: String,
    /// Envelope digest of a record; may be given several times. What edits, retracts or reacts to it is a record of its own, and
    /// no header says so: an order over the conversation has it.
    #[arg(long, value_name = "DIGEST")]
    record: Vec<Digest>,
    #[command(flatten)]
    filters: Filters,
    /// How long the order stands: 90m, 24h, 7d.
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = duration)]
    expires: Duration,
    /// From when; now without it.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    not_before: Option<Millis>,
    /// Until when the log shows a commitment only.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    seal_until: Option<Millis>,
}

#[derive(Serialize)]
struct OrderView {
    order: String,
    state: &'static str,
    matter: String,
    purpose: String,
    requester: String,
    reader: String,
    records_count: u64,
    records_root: String,
    not_before: String,
    expiry: String,
    seal_until: Option<String>,
    approved_by: Vec<String>,
    missing: String,
    log_index: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    records: Vec<String>,
}

#[derive(Serialize)]
struct List {
    orders: Vec<OrderView>,
    /// Listed by the archive, and signed by nobody whom this client knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unverified: Vec<Unverified>,
}

#[derive(Serialize)]
struct Unverified {
    order: String,
    reason: String,
    message: String,
}

impl Unverified {
    fn new(order: Option<OrderId>, why: &Failure) -> Self {
        Self {
            order: order.map_or_else(|| "?".to_owned(), |id| id.to_string()),
            reason: why.reason().to_owned(),
            message: one_line(why.message()),
        }
    }

    fn line(&self) -> String {
        let Self {
            order,
            reason,
            message,
        } = self;
        format!("{order}  NOT VERIFIED  {reason}: {message}\n")
    }
}

impl OrderView {
    fn new(people: &People, info: &OrderInfo) -> Result<Self> {
        let order = info.order.message();
        let released = info.state == OrderState::Released;
        Ok(Self {
            order: info.id.to_string(),
            state: match info.state {
                OrderState::Unspecified => "unspecified",
                OrderState::Pending => "pending",
                OrderState::Released => "released",
                OrderState::Expired => "expired",
            },
            matter: hex(&order.matter),
            purpose: order.purpose.clone(),
            requester: order.requester.clone(),
            reader: order.reader.clone(),
            records_count: order.records_count,
            records_root: hex(&order.records_root),
            not_before: time(order.not_before),
            expiry: time(order.expiry),
            seal_until: time_or_none(order.seal_until),
            approved_by: approvers(people, info)?,
            missing: info.missing.clone(),
            log_index: released.then_some(info.log_index),
            records: Vec::new(),
        })
    }

    fn line(&self) -> String {
        let mut line = format!(
            "{} {}: {} records for {}, asked by {} ({}), until {}",
            self.order,
            self.state,
            self.records_count,
            self.reader,
            self.requester,
            one_line(&self.purpose),
            self.expiry
        );
        if !self.approved_by.is_empty() {
            line.push_str(&format!("; approved by {}", self.approved_by.join(", ")));
        }
        if !self.missing.is_empty() {
            line.push_str(&format!("; missing: {}", one_line(&self.missing)));
        }
        if let Some(index) = self.log_index {
            line.push_str(&format!("; entry {index} of the log"));
        }
        line.push('\n');
        line
    }
}

/// Who approved: each one's signature is verified, over this very order, by the roster of whichever bundle. Whether they may
/// still approve is what the nodes decide.
fn approvers(people: &People, info: &OrderInfo) -> Result<Vec<String>> {
    let trust = people.client().trust()?;
    let refused = |what: String| {
        Failure::unverified(
            "APPROVAL_INVALID",
            format_args!(
                "an approval of order {} does not hold: {what}; do not act on it",
                info.id
            ),
        )
    };
    let one = |raw: &pb::SignedStatement| {
        let approval =
            Signed::<pb::Approval>::decode(raw.clone()).map_err(|error| refused(chain(&error)))?;
        let (person, at) = (&approval.person, Millis::new(approval.at));
        let in_force = trust.bundle().verify_person(&approval, person, &[], at);
        if let Err(error) = in_force
            && !trust
                .older_bundles()
                .any(|older| older.verify_person(&approval, person, &[], at).is_ok())
        {
            return Err(refused(chain(&error)));
        }
        if approval.order != info.order.digest().as_bytes() {
            return Err(refused("it is of another order".to_owned()));
        }
        Ok(approval.person.clone())
    };
    info.approvals.iter().map(one).collect()
}

/// Does what was asked.
pub(crate) async fn run(arguments: OrderArguments, output: Output) -> Result<()> {
    match arguments.what {
        What::Request(arguments) => request(arguments, output).await,
        What::Approve(one) => {
            let people = one.person.open().await?;
            let info = people.approve_order(&one.order).await?;
            print(output, &OrderView::new(&people, &info)?, OrderView::line)
        }
        What::Status(one) => status(&one, output).await,
        What::List { person } => list(&person.open().await?, output).await,
        What::Openings(one) => openings::show(&one.person.open().await?, &one.order, output).await,
        What::Open { one, save } => {
            let people = one.person.open().await?;
            opened::show(&people, &one.order, save.as_deref(), output).await
        }
    }
}

async fn request(arguments: Request, output: Output) -> Result<()> {
    if arguments.record.is_empty() == arguments.filters.is_empty() {
        return Err(Failure::usage(
            "ORDER_SCOPE",
            "say which records: either --record, once for each, or filters such as --participant",
        ));
    }
    let people = arguments.person.open().await?;
    let mut records = arguments.record;
    if records.is_empty() {
        let found = people.search_all(&arguments.filters.query()).await?;
        // Only messages have content that can be opened, and what was disposed of has none any more.
        records = found
            .iter()
            .filter(|record| record.kind() == pb::EntryKind::Message && !record.disposed)
            .filter_map(|record| Digest::try_from(record.digest.as_slice()).ok())
            .collect();
    }
    if records.is_empty() {
        return Err(Failure::refused(
            "ORDER_EMPTY",
            "the filters find no message: an order is over at least one record",
        ));
    }
    let now = SystemClock.now();
    let not_before = arguments.not_before.unwrap_or_else(|| now.minus(SKEW));
    let order = OrderRequest {
        matter: arguments.matter,
        purpose: arguments.purpose,
        records,
        reader: arguments.reader,
        not_before,
        expiry: not_before.max(now).plus(arguments.expires),
        seal_until: arguments.seal_until,
    };
    let info = people.request_order(order).await?;
    print(output, &OrderView::new(&people, &info)?, OrderView::line)
}

async fn status(one: &One, output: Output) -> Result<()> {
    let people = one.person.open().await?;
    let (info, list) = people.order(&one.order).await?;
    let mut view = OrderView::new(&people, &info)?;
    view.records = list.digests().iter().map(ToString::to_string).collect();
    print(output, &view, |view| {
        let mut text = view.line();
        for record in &view.records {
            text.push_str(&format!("  {record}\n"));
        }
        text
    })
}

async fn list(people: &People, output: Output) -> Result<()> {
    let (mut orders, mut unverified, mut token) = (Vec::new(), Vec::new(), None);
    loop {
        let page = people.orders(token).await?;
        for listed in page.items {
            let viewed = match listed {
                Ok(info) => OrderView::new(people, &info).map_err(|why| (Some(info.id), why)),
                Err(order) => Err((order.id, order.error.into())),
            };
            match viewed {
                Ok(view) => orders.push(view),
                Err((order, why)) => unverified.push(Unverified::new(order, &why)),
            }
        }
        match page.next {
            Some(next) => token = Some(next),
            None => break,
        }
    }
    print(output, &List { orders, unverified }, |list| {
        let orders = list.orders.iter().map(OrderView::line);
        let unverified = list.unverified.iter().map(Unverified::line);
        orders.chain(unverified).collect()
    })
}

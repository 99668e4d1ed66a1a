//! The order: approved as the rule asks, in a log that a quorum of witnesses vouches for, over exactly these records.

use core::time::Duration;

use greffe_envelope::opening::{RecordList, order_event};
use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, decode_strict};
use greffe_envelope::trust::Bundle;
use greffe_policy::{ApprovalRule, ReleaseCase, Role, Signer, permit_release};
use greffe_tlog::{CosignerKey, Freshness, NoteVerifier, Quorum, SignedCheckpoint, TreeHead};
use greffe_types::{Digest, Millis, TimeRange};

use super::Report;
use super::bundles::Anchors;
use super::record::in_log;
use crate::evidence::Production;
use crate::layout;
use crate::opened::{Opened, why};

/// Clocks of witnesses and reader may differ by this much.
const SKEW: Duration = Duration::from_secs(600);

/// The checkpoint: signed by the log, cosigned by the quorum, and by nobody else.
pub(super) fn checkpoint(
    production: &Production,
    anchors: &Anchors,
    at: Millis,
    report: &mut Report,
) -> Option<TreeHead> {
    let checked = check_checkpoint(&production.checkpoint, anchors.current(), at);
    checked
        .map_err(|problem| report.add(layout::CHECKPOINT, problem))
        .ok()
}

fn check_checkpoint(bytes: &[u8], bundle: &Bundle, at: Millis) -> Result<TreeHead, String> {
    let key =
        |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(|_| "a key has not 32 bytes".to_owned());
    let log = bundle.log();
    let verifier =
        NoteVerifier::new(&log.origin, &key(&log.key)?).map_err(|e| why("log key", &e))?;
    let signed = SignedCheckpoint::open(bytes, &verifier).map_err(|e| why("it is refused", &e))?;
    let witnesses = &bundle.message().witnesses;
    let witnesses = witnesses
        .iter()
        .map(|w| CosignerKey::new(&w.name, &key(&w.key)?).map_err(|e| why("witness key", &e)))
        .collect::<Result<Vec<_>, _>>()?;
    let quorum = Quorum::new(witnesses, bundle.message().cosigner_quorum as usize)
        .map_err(|e| why("witnesses", &e))?;
    let any_age = Freshness {
        now: at,
        max_age: Duration::from_millis(u64::MAX),
        max_ahead: SKEW,
    };
    let witnessed = quorum
        .check(&signed, &any_age)
        .map_err(|e| why("it is refused", &e))?;
    // One line by the log, one by each witness that was counted: nothing may hide in others.
    if signed.note().signatures().len() != 1 + witnessed.by().len() || signed.encode() != bytes {
        return Err("it carries lines that are not those of the log and its witnesses".to_owned());
    }
    Ok(signed.head())
}

/// The order, its approvals, its leaf and its records.
pub(super) fn verify(
    production: &Production,
    records: &[Opened],
    anchors: &Anchors,
    head: Option<TreeHead>,
    report: &mut Report,
) {
    let raw = production.order.order.clone().unwrap_or_default();
    let order = match Signed::<pb::Order>::decode(raw) {
        Ok(order) => order,
        Err(error) => return report.add(layout::ORDER, why("the order is refused", &error)),
    };
    let released_at = match leaf(production, head) {
        Ok(at) => at,
        Err(problem) => {
            report.add(layout::ORDER_LEAF, problem);
            return;
        }
    };
    let approved = anchors
        .newest_first()
        .map(|bundle| approvals(&production.order, &order, bundle, released_at))
        .reduce(|newest, older| {
            if newest.is_ok() {
                newest
            } else {
                older.or(newest)
            }
        });
    if let Some(Err(problem)) = approved {
        report.add(layout::ORDER, problem);
    }
    if let Err(problem) = exactly(&order, records) {
        report.add(layout::ORDER_RECORDS, problem);
    }
}

/// The reader's statement is about this order, by the reader it names, and about as many records as are here.
pub(super) fn stated(
    production: &Production,
    statement: &pb::ProductionStatement,
    report: &mut Report,
) {
    let raw = production.order.order.clone().unwrap_or_default();
    // An order that cannot be read has been named already.
    let Ok(order) = Signed::<pb::Order>::decode(raw) else {
        return;
    };
    if statement.order != order.digest().as_bytes() || statement.reader != order.reader {
        report.add(
            layout::STATEMENT,
            "it is about another order, or not by the reader whom the order names",
        );
    }
    if statement.records != production.records.len() as u64 {
        report.add(layout::STATEMENT, "it is about another number of records");
    }
}

/// The leaf says that this order was released; gives when it was logged.
fn leaf(production: &Production, head: Option<TreeHead>) -> Result<Millis, String> {
    let proof = &production.order_proof;
    let entry: pb::LogEntry =
        decode_strict("log entry", &proof.leaf).map_err(|e| why("log entry", &e))?;
    if entry.event.as_ref() != Some(&order_event(&production.order)) {
        return Err("it does not say that this order was released".to_owned());
    }
    if entry.recorded_by != "archive" {
        return Err("it was not the archive that had it logged".to_owned());
    }
    in_log(proof, head.ok_or("there is no checkpoint")?)?;
    Ok(Millis::new(entry.at))
}

/// Whether a released order has the approvals that a bundle's rule asked for when it was released; gives the order's digest.
///
/// # Errors
/// What is wrong with it, in words.
pub fn approved(
    released: &pb::ReleasedOrder,
    bundle: &Bundle,
    at: Millis,
) -> Result<Digest, String> {
    let raw = released.order.clone().unwrap_or_default();
    let order = Signed::<pb::Order>::decode(raw).map_err(|e| why("the order is refused", &e))?;
    approvals(released, &order, bundle, at)?;
    Ok(order.digest())
}

/// Order and approvals are signed by people of the roster, and are what the rule asks for.
fn approvals(
    released: &pb::ReleasedOrder,
    order: &Signed<pb::Order>,
    bundle: &Bundle,
    at: Millis,
) -> Result<(), String> {
    if order.tenant != bundle.tenant().as_str() || order.raw().signatures.len() != 1 {
        return Err(
            "the order is another tenant's, or carries other signatures than its requester's"
                .to_owned(),
        );
    }
    bundle
        .verify_person(order, &order.requester, &[], at)
        .map_err(|e| why("the requester", &e))?;
    let mut signers = Vec::with_capacity(released.approvals.len());
    let mut last = String::new();
    for raw in &released.approvals {
        let approval =
            Signed::<pb::Approval>::decode(raw.clone()).map_err(|e| why("an approval", &e))?;
        let person = bundle
            .verify_person(&approval, &approval.person, &[], at)
            .map_err(|e| why("an approval", &e))?;
        let same = approval.order == order.digest().as_bytes()
            && approval.records_root == order.records_root
            && approval.records_count == order.records_count
            && approval.tenant == order.tenant;
        if !same || raw.signatures.len() != 1 || approval.person <= last {
            return Err(format!(
                "the approval of {:?} is for another order, or out of place",
                approval.person
            ));
        }
        last.clone_from(&approval.person);
        signers.push(signer(person, Millis::new(approval.at))?);
    }
    let rule = bundle.approvals();
    let rule = ApprovalRule::new(rule.minimum, &rule.required_roles, rule.bulk_threshold)
        .map_err(|e| why("the bundle's rule", &e))?;
    let window = TimeRange::new(Millis::new(order.not_before), Millis::new(order.expiry))
        .ok_or("the order's window is empty")?;
    let case = ReleaseCase {
        order: order.digest(),
        requester: &order.requester,
        records: order.records_count,
        window,
        now: at,
        approvals: &signers,
    };
    permit_release(&rule, &case)
        .map(drop)
        .map_err(|e| why("the approvals", &e))
}

fn signer(person: &pb::Person, at: Millis) -> Result<Signer, String> {
    let roles = person
        .roles
        .iter()
        .map(|role| role.parse::<Role>().map_err(|e| e.to_string()));
    Ok(Signer {
        person: person.name.clone(),
        roles: roles.collect::<Result<_, _>>()?,
        valid: TimeRange::new(
            Millis::new(person.not_before),
            Millis::new(person.not_after),
        )
        .ok_or("a person's validity is empty")?,
        revoked: person.revoked,
        at,
    })
}

/// The order covers exactly the records that are here.
fn exactly(order: &Signed<pb::Order>, records: &[Opened]) -> Result<(), String> {
    let mut digests: Vec<Digest> = records
        .iter()
        .map(|record| record.envelope.digest())
        .collect();
    digests.sort();
    let root = Digest::try_from(order.records_root.as_slice()).map_err(|e| why("the order", &e))?;
    RecordList::new(digests)
        .and_then(|list| list.check(&root, order.records_count))
        .map_err(|e| why("the records are not exactly those of the order", &e))
}

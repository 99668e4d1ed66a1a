//! `custody.json`: who asked, who approved, where the log has it, what was opened.

use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_types::to_hex;
use serde::Serialize;

use super::{digest, time};
use crate::evidence::Production;
use crate::opened::Opened;

#[derive(Serialize)]
struct Custody {
    tenant: String,
    order: Order,
    approvals: Vec<Approval>,
    log_index: u64,
    sealed_leaf: bool,
    checkpoint: String,
    records: Vec<Opening>,
}

#[derive(Serialize)]
struct Order {
    id: String,
    digest: String,
    matter: String,
    purpose: String,
    requester: String,
    reader: String,
    records: u64,
    records_root: String,
    not_before: String,
    expiry: String,
}

#[derive(Serialize)]
struct Approval {
    person: String,
    at: String,
}

#[derive(Serialize)]
struct Opening {
    envelope: String,
    receipt_log_index: u64,
}

pub(super) fn all(production: &Production, records: &[Opened]) -> Result<Vec<u8>, String> {
    let order = order(production)?;
    let mut approvals = Vec::with_capacity(production.order.approvals.len());
    for raw in &production.order.approvals {
        let approval = Signed::<pb::Approval>::decode(raw.clone()).map_err(|e| e.to_string())?;
        approvals.push(Approval {
            person: approval.person.clone(),
            at: time(approval.at),
        });
    }
    let custody = Custody {
        tenant: order.tenant.clone(),
        order: Order {
            id: to_hex(&order.id),
            digest: order.digest().to_string(),
            matter: to_hex(&order.matter),
            purpose: order.purpose.clone(),
            requester: order.requester.clone(),
            reader: order.reader.clone(),
            records: order.records_count,
            records_root: digest(&order.records_root),
            not_before: time(order.not_before),
            expiry: time(order.expiry),
        },
        approvals,
        log_index: production.order_proof.index,
        sealed_leaf: !production.order.salt.is_empty(),
        checkpoint: String::from_utf8_lossy(&production.checkpoint).into_owned(),
        records: records
            .iter()
            .zip(&production.records)
            .map(|(opened, record)| Opening {
                envelope: opened.envelope.digest().to_string(),
                receipt_log_index: record.log.index,
            })
            .collect(),
    };
    let mut bytes = serde_json::to_vec_pretty(&custody).map_err(|e| e.to_string())?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The order, decoded.
pub(super) fn order(production: &Production) -> Result<Signed<pb::Order>, String> {
    let raw = production.order.order.clone().unwrap_or_default();
    Signed::<pb::Order>::decode(raw).map_err(|e| format!("order: {e}"))
}

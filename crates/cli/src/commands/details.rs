//! What an entry of the log says, for people and programs.

use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use serde_json::{Value, json};

use super::form::{hex, time};

/// Kind and details of an event.
pub(super) fn details(event: &Event) -> (&'static str, Value) {
    match event {
        Event::Statement(statement) => {
            let signers: Vec<&str> = statement
                .signatures
                .iter()
                .map(|s| s.signer.as_str())
                .collect();
            let digest = sha256(&statement.statement).to_string();
            let mut said =
                json!({"type": statement.r#type, "digest": digest, "signed_by": signers});
            if let Ok(act) = Signed::<pb::PersonAct>::decode(statement.clone()) {
                said["action"] = json!(act.action);
            }
            ("statement", said)
        }
        Event::Receipts(batch) => (
            "receipts",
            json!({"root": hex(&batch.root), "count": batch.count, "first": batch.first, "proofs_verified": batch.proofs_verified}),
        ),
        Event::ReleasedOrder(released) => {
            let order = released.order.as_ref();
            let digest = order.map(|order| sha256(&order.statement).to_string());
            (
                "released-order",
                json!({"order": digest, "approvals": released.approvals.len()}),
            )
        }
        Event::SealedOrder(commitment) => ("sealed-order", json!({"commitment": hex(commitment)})),
        Event::Opened(opened) => (
            "opened",
            json!({"order": hex(&opened.order), "envelope": hex(&opened.envelope), "key": hex(&opened.key_id), "node": opened.node}),
        ),
        Event::SealedOpened(sealed) => (
            "sealed-opened",
            json!({"sealed_order": hex(&sealed.sealed_order), "commitment": hex(&sealed.opened)}),
        ),
        Event::Refusal(refusal) => (
            "refusal",
            json!({"reason": refusal.reason, "operation": refusal.operation, "caller": refusal.caller, "subject": hex(&refusal.subject)}),
        ),
        Event::Access(access) => (
            "access",
            json!({"person": access.person, "action": access.action, "count": access.count, "subject": hex(&access.subject)}),
        ),
        Event::Conversation(created) => (
            "conversation",
            json!({"conversation": hex(&created.conversation), "mode": greffe_client::mode_name(created.mode()), "disclosure": hex(&created.disclosure), "device": hex(&created.device)}),
        ),
        Event::Tombstone(tombstone) => (
            "tombstone",
            json!({"envelope": hex(&tombstone.envelope), "acts": tombstone.acts.len(), "backups_expire_at": time(tombstone.backups_expire_at)}),
        ),
    }
}

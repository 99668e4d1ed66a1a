//! Opening records: the order and its place in the log first, then records in batches. Nothing of what the caller says is
//! believed; every check is this node's own.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use greffe_api::escrow::{OpenOrder, OpenResponse};
use greffe_envelope::envelope::envelope_digest;
use greffe_envelope::opening::order_event;
use greffe_envelope::pb;
use greffe_envelope::statement::decode_strict;
use greffe_tlog::{TreeHead, leaf_hash, verify_inclusion};
use greffe_types::Digest;

use super::Node;
use super::log::check_witnessed;
use super::order::CheckedOrder;
use super::record::{check_records, digests};
use super::release::Answered;
use crate::error::{MALFORMED, ORDER_LEAF, ORDER_NOT_IN_LOG, Refusal};

/// An order that passed every check, and under what.
#[derive(Debug)]
pub struct Opening {
    order: Arc<CheckedOrder>,
    checkpoint: Vec<u8>,
    caller: String,
}

impl Node {
    /// Checks an order and that it is in the log: signatures and roster, quorum, window, reader, leaf, inclusion under a
    /// recent witnessed checkpoint that agrees with what this node has followed.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub async fn open_order(
        self: &Arc<Self>,
        open: OpenOrder,
        caller: String,
    ) -> Result<Opening, Refusal> {
        let checked = self.check_order(open).await;
        checked
            .map(|(order, checkpoint)| Opening {
                order: Arc::new(order),
                checkpoint,
                caller: caller.clone(),
            })
            .inspect_err(|refusal| {
                let reason = refusal.reason().as_str();
                self.appender.append_refusal("Open", &caller, reason, &[]);
            })
    }

    async fn check_order(&self, open: OpenOrder) -> Result<(CheckedOrder, Vec<u8>), Refusal> {
        let released = open
            .released
            .ok_or_else(|| Refusal::malformed(MALFORMED, "there is no released order"))?;
        let now = self.clock.now();
        // What was cosigned is followed first: the roster that counts is the newest that the checkpoint covers.
        let bundle = self.trust.read().bundle().clone();
        let head = check_witnessed(&open.checkpoint, &bundle, now)?;
        let wait = Duration::from_millis(self.settings.catch_up_ms);
        let size = head.size.max(open.log_index.saturating_add(1));
        self.log.wait_for(size, wait).await?;
        self.log.check_root(&head).await?;

        let bundle = self.trust.read().bundle().clone();
        let order = CheckedOrder::check(&released, &bundle, now)?;
        // Given up here; each batch asks again.
        let _ = order.permit(now)?.into_inner();
        check_leaf(&open.leaf, order.released(), self.scope.tenant.as_str())?;
        let leaf = leaf_hash(&open.leaf);
        let path = digests(&open.path)
            .ok_or_else(|| Refusal::malformed(MALFORMED, "the order's path is malformed"))?;
        self.check_included(&leaf, open.log_index, &head, &path)
            .await?;
        Ok((order, open.checkpoint))
    }

    /// Under the checkpoint by its path, and at that index as this node has followed the log itself.
    async fn check_included(
        &self,
        leaf: &Digest,
        index: u64,
        head: &TreeHead,
        path: &[Digest],
    ) -> Result<(), Refusal> {
        let refused = |message: &'static str| Refusal::denied(ORDER_NOT_IN_LOG, message);
        verify_inclusion(leaf, index, head, path).map_err(|error| {
            refused("the order is not in the log under this checkpoint").because(error)
        })?;
        if self.log.leaf(index).await? == Some(*leaf) {
            Ok(())
        } else {
            Err(refused(
                "the log that this node has followed has another leaf there",
            ))
        }
    }

    /// Checks, counts, answers, logs and stores a batch of records: one response a record, in order.
    pub async fn open_records(
        self: &Arc<Self>,
        opening: &mut Opening,
        records: Vec<pb::OpeningRecord>,
    ) -> Vec<OpenResponse> {
        let names: Vec<OpenResponse> = records.iter().map(name).collect();
        let results = match self.answer_records(opening, records).await {
            Ok(results) => results,
            Err(refusal) => names.iter().map(|_| Err(refusal.again())).collect(),
        };
        let finish = |(mut response, result): (OpenResponse, Result<Answered, Refusal>)| {
            match result {
                Ok(Answered { answer, index }) => {
                    response.answer = answer;
                    response.index = index;
                }
                Err(refusal) => {
                    let (reason, caller) = (refusal.reason().as_str(), &opening.caller);
                    // Its members know an envelope's digest: under a sealed order the log must not tell them.
                    let subject: &[u8] = if opening.order.is_sealed() {
                        &[]
                    } else {
                        &response.envelope
                    };
                    self.appender
                        .append_refusal("Open", caller, reason, subject);
                    tracing::debug!(reason, message = refusal.message(), "a record is refused");
                    response.reason = reason.to_owned();
                    response.message = refusal.message();
                }
            }
            response
        };
        names.into_iter().zip(results).map(finish).collect()
    }

    async fn answer_records(
        self: &Arc<Self>,
        opening: &mut Opening,
        records: Vec<pb::OpeningRecord>,
    ) -> Result<Vec<Result<Answered, Refusal>>, Refusal> {
        self.check_still(opening)?;
        let leaves = self.receipt_leaves(&records).await?;
        let (node, order) = (self.clone(), opening.order.clone());
        let checked = greffe_service_kit::blocking(move || {
            let trust = node.trust.read();
            check_records(records, &order, &trust, &leaves)
        })
        .await
        .map_err(Refusal::internal)?;
        Ok(self.release(&opening.order, checked).await)
    }

    /// A stream may be long: the checkpoint has to stay recent, and a newer roster has to approve as well.
    fn check_still(&self, opening: &mut Opening) -> Result<(), Refusal> {
        let now = self.clock.now();
        let bundle = self.trust.read().bundle().clone();
        check_witnessed(&opening.checkpoint, &bundle, now)?;
        if bundle.version() != opening.order.bundle_version() {
            let order = CheckedOrder::check(opening.order.released(), &bundle, now)?;
            opening.order = Arc::new(order);
        }
        Ok(())
    }

    /// The leaves that the records' receipts are in, as this node has followed them.
    async fn receipt_leaves(
        &self,
        records: &[pb::OpeningRecord],
    ) -> Result<HashMap<u64, Digest>, Refusal> {
        let mut leaves = HashMap::new();
        let proofs = records.iter().filter_map(|r| r.receipt_proof.as_ref());
        for index in proofs.map(|proof| proof.log_index) {
            if !leaves.contains_key(&index)
                && let Some(hash) = self.log.leaf(index).await?
            {
                leaves.insert(index, hash);
            }
        }
        Ok(leaves)
    }
}

/// The leaf says this order, released by the archive, and nothing else; a sealed one commits to it with its salt.
fn check_leaf(leaf: &[u8], released: &pb::ReleasedOrder, tenant: &str) -> Result<(), Refusal> {
    let refused = |message: &'static str| Refusal::denied(ORDER_LEAF, message);
    let entry: pb::LogEntry = decode_strict("log-entry", leaf)
        .map_err(|error| refused("the leaf does not decode").because(error))?;
    if entry.tenant != tenant || entry.event != Some(order_event(released)) {
        return Err(refused("the leaf is not this order's"));
    }
    // Whoever watches the log counts no other's.
    if entry.recorded_by != "archive" {
        return Err(refused(
            "it was not the archive that had the order logged: ask for it under the archive's own leaf",
        ));
    }
    Ok(())
}

/// The response's name for a record, whatever becomes of it.
fn name(record: &pb::OpeningRecord) -> OpenResponse {
    OpenResponse {
        envelope: record
            .envelope
            .as_ref()
            .map(|envelope| envelope_digest(&envelope.body).to_vec())
            .unwrap_or_default(),
        key_id: record
            .wrap
            .as_ref()
            .map(|wrap| wrap.key_id.clone())
            .unwrap_or_default(),
        ..Default::default()
    }
}

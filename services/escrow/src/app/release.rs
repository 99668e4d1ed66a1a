//! Answering for records under a released order. A share answers in one function, and that one takes the permit.
//!
//! ```text
//! count      one transaction: no tombstone, ML-KEM ciphertext unused elsewhere, order's count, node's rate; begun
//! answer     the share is unsealed for the batch, used, wiped
//! log        one "opened" entry a record, a commitment under a sealed order; without it nothing leaves
//! store      one transaction: the answer and its leaf; whoever asks again gets these bytes
//! ```
//!
//! After a crash anywhere a record is at worst counted without an answer; asking again completes it.

use core::time::Duration;
use greffe_service_kit::db::Connection;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::future::join_all;
use greffe_envelope::ceremony::NodeShare;
use greffe_envelope::label::{hash, lp};
use greffe_envelope::opening::opened_event;
use greffe_envelope::pb;
use greffe_policy::{Permit, Release};
use greffe_service_kit::harden::wiping_stack;
use greffe_service_kit::telemetry::metrics;
use greffe_types::{Digest, Millis};

use super::order::CheckedOrder;
use super::record::CheckedRecord;
use super::share::unseal;
use super::{Keys, Node, log_id};
use crate::error::{
    KEY_RETIRED, Kind, LOG_UNAVAILABLE, NO_SHARE, ORDER_COUNT, RATE_LIMITED, RECORD_DISPOSED,
    Refusal, WRAP_REUSED,
};
use crate::rng::system;
use crate::store::openings::{self, Ciphertext, Made, Opening};
use crate::store::{Scope, shares, tombstones};

/// The period of the rate cap.
const HOUR: Duration = Duration::from_secs(3600);

/// An answer as the reader gets it.
#[derive(Debug)]
pub struct Answered {
    /// The node's share index in the epoch that answered.
    pub index: u32,
    /// The answer, sealed to the reader.
    pub answer: Vec<u8>,
}

/// A record on its way, and what it has come to.
struct Work {
    opening: Opening,
    index: u32,
    record: CheckedRecord,
    /// The stored answer, when the record was answered before.
    stored: Option<Vec<u8>>,
    /// The answer made now, and where the log has its entry.
    made: Option<(Vec<u8>, u64)>,
}

type Slot = Result<Work, Refusal>;

impl Work {
    const fn ciphertext(&self) -> Ciphertext {
        (self.opening.key_id, self.record.ciphertext)
    }
}

/// What a batch is counted against.
struct Caps {
    records: u64,
    per_hour: u64,
    now: Millis,
}

/// What is known of a batch's records when a record's turn comes: what the database has, and what those before it have added.
struct Known {
    disposed: HashSet<Digest>,
    /// Records of the order that were begun, with any key.
    begun: HashSet<Digest>,
    /// The same by key and share epoch, with their answers.
    openings: HashMap<Opening, Option<Vec<u8>>>,
    /// Which envelope an ML-KEM ciphertext belongs to.
    owners: HashMap<Ciphertext, Digest>,
    in_hour: u64,
    /// Records of the order: never fewer than there are.
    of_order: u64,
    /// What the batch begins, with its ciphertext.
    fresh: Vec<(Opening, Ciphertext)>,
    /// Ciphertexts that belong to nobody yet, with who is to have them.
    claims: BTreeMap<Ciphertext, Digest>,
}

/// A share, sealed, by journaling key and share epoch.
type Sealed = HashMap<(Digest, Digest), Vec<u8>>;

impl Node {
    /// Answers for records whose every check has passed: one result a record, in order.
    pub(super) async fn release(
        &self,
        order: &Arc<CheckedOrder>,
        records: Vec<Result<CheckedRecord, Refusal>>,
    ) -> Vec<Result<Answered, Refusal>> {
        let count = records.len();
        self.release_all(order, records)
            .await
            .unwrap_or_else(|refusal| (0..count).map(|_| Err(refusal.again())).collect())
    }

    async fn release_all(
        &self,
        order: &Arc<CheckedOrder>,
        records: Vec<Result<CheckedRecord, Refusal>>,
    ) -> Result<Vec<Result<Answered, Refusal>>, Refusal> {
        let now = self.clock.now();
        let permit = order.permit(now)?;
        let slots = self.place(order, records);
        let caps = Caps {
            records: permit.what().records,
            per_hour: self.settings.records_per_hour,
            now,
        };
        let (scope, digest) = (&self.scope, order.digest());
        let slots = self
            .db
            .run_tx("open_count", async |tx: &mut Connection| {
                count_all(tx, scope, &digest, &caps, slots).await
            })
            .await?;
        measure(&slots);
        let sealed = self.sealed_shares(&slots).await?;
        let (keys, checked) = (self.keys.clone(), order.clone());
        let slots = greffe_service_kit::blocking(move || {
            wiping_stack(|| answer(permit, &keys, &sealed, &checked, slots))
        })
        .await
        .map_err(Refusal::internal)?;
        let slots = join_all(slots.into_iter().map(|slot| self.log_opened(order, slot))).await;
        let stored = self
            .db
            .run_tx("open_store", async |tx: &mut Connection| {
                store_all(tx, scope, &digest, slots).await
            })
            .await?;
        Ok(stored)
    }

    /// Names each record's answer: by the share epoch in force for its key.
    fn place(
        &self,
        order: &CheckedOrder,
        records: Vec<Result<CheckedRecord, Refusal>>,
    ) -> Vec<Slot> {
        let trust = self.trust.read();
        let place = |record: CheckedRecord| {
            let key_id = record.context.key_id;
            if trust.retirement(&key_id).is_some() {
                return Err(retired(&key_id));
            }
            let epoch = trust
                .share_epoch(&key_id)
                .ok_or_else(|| no_share(&key_id))?;
            let (index, _, _) = epoch
                .holders()
                .find(|(_, node, _)| *node == self.keys.name())
                .ok_or_else(|| no_share(&key_id))?;
            Ok(Work {
                index,
                opening: Opening {
                    order: order.digest(),
                    envelope: record.context.envelope,
                    key_id,
                    share_epoch: epoch.digest(),
                },
                record,
                stored: None,
                made: None,
            })
        };
        records
            .into_iter()
            .map(|record| record.and_then(place))
            .collect()
    }

    async fn sealed_shares(&self, slots: &[Slot]) -> Result<Sealed, Refusal> {
        let mut sealed = Sealed::new();
        for work in slots.iter().flatten().filter(|work| work.stored.is_none()) {
            let key = (work.opening.key_id, work.opening.share_epoch);
            if !sealed.contains_key(&key)
                && let Some(share) =
                    shares::get(self.db.read(), &self.scope, &key.0, &key.1).await?
            {
                sealed.insert(key, share);
            }
        }
        Ok(sealed)
    }

    /// Has the log take the entry of an answer made now; its id makes a repetition the same entry.
    async fn log_opened(&self, order: &CheckedOrder, slot: Slot) -> Slot {
        let mut work = slot?;
        let Some((_, index)) = &mut work.made else {
            return Ok(work);
        };
        let opened = pb::Opened {
            order: work.opening.order.to_vec(),
            envelope: work.opening.envelope.to_vec(),
            key_id: work.opening.key_id.to_vec(),
            share_epoch: work.opening.share_epoch.to_vec(),
            node: self.keys.name().to_owned(),
        };
        let entry = pb::LogEntry {
            tenant: self.scope.tenant.as_str().to_owned(),
            event: Some(opened_event(order.released(), order.message(), opened)),
            ..Default::default()
        };
        let id = entry_id(&work.opening, self.keys.name(), order.is_sealed());
        let unavailable = || {
            Refusal::new(
                Kind::Unavailable,
                LOG_UNAVAILABLE,
                "the log has not taken the entry of this opening in time; ask again with a fresh checkpoint",
            )
        };
        let wait = Duration::from_millis(self.settings.log_wait_ms);
        let appended = tokio::time::timeout(wait, self.appender.append(id, entry))
            .await
            .map_err(|_| unavailable())?
            .map_err(|error| unavailable().because(error))?;
        *index = appended.index;
        Ok(work)
    }
}

/// What the alerts on openings read.
fn measure(slots: &[Slot]) {
    let counted = slots.iter().flatten().filter(|work| work.stored.is_none());
    metrics::ESCROW_OPENED.add(counted.count() as u64);
    let capped = |slot: &&Slot| slot.as_ref().is_err_and(|no| no.reason() == RATE_LIMITED);
    metrics::ESCROW_CAPPED.add(slots.iter().filter(capped).count() as u64);
}

/// The only function that opens with a share. It cannot be called without the policy's permit, which it uses up; what it
/// answers for has been counted in the database.
fn answer(
    permit: Permit<Release>,
    keys: &Keys,
    sealed: &Sealed,
    order: &CheckedOrder,
    slots: Vec<Slot>,
) -> Vec<Slot> {
    let release = permit.into_inner();
    let mut open: HashMap<(Digest, Digest), NodeShare> = HashMap::new();
    let mut answer_one = |mut work: Work| {
        if work.stored.is_some() {
            return Ok(work);
        }
        // The permit is for one order, and so is the batch.
        if work.opening.order != release.order {
            return Err(no_share(&work.opening.key_id));
        }
        let key = (work.opening.key_id, work.opening.share_epoch);
        let share = match open.entry(key) {
            Entry::Occupied(share) => share.into_mut(),
            Entry::Vacant(place) => {
                let sealed = sealed.get(&key).ok_or_else(|| no_share(&key.0))?;
                place.insert(unseal(keys.seal(), &key.0, &key.1, sealed)?)
            }
        };
        let reader = order.reader().map_err(Refusal::internal)?;
        let answer = work
            .record
            .context
            .answer_to(reader, share, keys.name(), keys.signing(), &mut system())
            .map_err(Refusal::internal)?;
        work.made = Some((answer, 0));
        Ok(work)
    };
    slots
        .into_iter()
        .map(|slot| slot.and_then(&mut answer_one))
        .collect()
}

/// Counts a batch. A record that is refused leaves nothing behind. What the database has of the batch is read at once, and what
/// the batch adds is written at once: a statement for each record would cost more than the openings themselves.
async fn count_all(
    tx: &mut Connection,
    scope: &Scope,
    order: &Digest,
    caps: &Caps,
    slots: Vec<Slot>,
) -> Result<Vec<Slot>, Refusal> {
    let mut known = Known::read(tx, scope, order, caps, &slots).await?;
    let mut slots: Vec<Slot> = slots
        .into_iter()
        .map(|slot| count_one(caps, &mut known, slot?))
        .collect();
    let Known {
        mut fresh, claims, ..
    } = known;
    // In one order, so that of two batches neither waits for the other's.
    let claims: Vec<(Ciphertext, Digest)> = claims.into_iter().collect();
    let claimed = openings::claim(tx, scope, &claims).await?;
    if claimed < claims.len() as u64 {
        // Another batch was first with one of them.
        let named: Vec<Ciphertext> = claims.iter().map(|(ciphertext, _)| *ciphertext).collect();
        let owners = openings::owners(tx, scope, &named).await?;
        let lost = |opening: &Opening, ciphertext: &Ciphertext| {
            owners
                .get(ciphertext)
                .is_some_and(|owner| *owner != opening.envelope)
        };
        fresh.retain(|(opening, ciphertext)| !lost(opening, ciphertext));
        for slot in &mut slots {
            if let Ok(work) = slot
                && lost(&work.opening, &work.ciphertext())
            {
                *slot = Err(reused());
            }
        }
    }
    let begun: Vec<Opening> = fresh.iter().map(|(opening, _)| *opening).collect();
    openings::begin(tx, scope, &begun, caps.now).await?;
    Ok(slots)
}

impl Known {
    async fn read(
        tx: &mut Connection,
        scope: &Scope,
        order: &Digest,
        caps: &Caps,
        slots: &[Slot],
    ) -> Result<Self, Refusal> {
        let works = || slots.iter().flatten();
        let envelopes: Vec<Digest> = works().map(|work| work.opening.envelope).collect();
        let ciphertexts: Vec<Ciphertext> = works().map(Work::ciphertext).collect();
        let openings = openings::of_records(tx, scope, order, &envelopes).await?;
        // A batch is under one order: it is counted once, not for each record of it, and to the record where it matters.
        let mut of_order = openings::count_at_most(&mut *tx, scope, order).await?;
        if of_order + envelopes.len() as u64 > caps.records {
            of_order = openings::count_of_order(&mut *tx, scope, order).await?;
        }
        Ok(Self {
            disposed: tombstones::among(tx, scope, &envelopes).await?,
            begun: openings.keys().map(|opening| opening.envelope).collect(),
            openings,
            owners: openings::owners(tx, scope, &ciphertexts).await?,
            in_hour: openings::count_since(&mut *tx, scope, caps.now.minus(HOUR)).await?,
            of_order,
            fresh: Vec::new(),
            claims: BTreeMap::new(),
        })
    }
}

fn count_one(caps: &Caps, known: &mut Known, mut work: Work) -> Slot {
    let (opening, ciphertext) = (work.opening, work.ciphertext());
    if known.disposed.contains(&opening.envelope) {
        return Err(Refusal::denied(
            RECORD_DISPOSED,
            "the record was disposed of",
        ));
    }
    if let Some(stored) = known.openings.get(&opening) {
        work.stored.clone_from(stored);
        return Ok(work);
    }
    let counted = known.begun.contains(&opening.envelope);
    if !counted && known.of_order >= caps.records {
        return Err(Refusal::denied(
            ORDER_COUNT,
            "as many records as the order covers are opened",
        ));
    }
    if known.in_hour >= caps.per_hour {
        tracing::warn!(per_hour = caps.per_hour, order = %opening.order, "the node's rate cap is reached");
        return Err(Refusal::new(
            Kind::Exhausted,
            RATE_LIMITED,
            "the node opens no more records in this hour",
        ));
    }
    let owner = match known.owners.get(&ciphertext) {
        Some(owner) => *owner,
        None => *known.claims.entry(ciphertext).or_insert(opening.envelope),
    };
    if owner != opening.envelope {
        return Err(reused());
    }
    known.fresh.push((opening, ciphertext));
    known.openings.insert(opening, None);
    known.begun.insert(opening.envelope);
    known.in_hour += 1;
    known.of_order += u64::from(!counted);
    Ok(work)
}

fn reused() -> Refusal {
    Refusal::denied(
        WRAP_REUSED,
        "the ML-KEM ciphertext was opened for another envelope",
    )
}

/// Stores a batch's answers; whoever was first with one, that one counts.
async fn store_all(
    tx: &mut Connection,
    scope: &Scope,
    order: &Digest,
    slots: Vec<Slot>,
) -> Result<Vec<Result<Answered, Refusal>>, Refusal> {
    let mut made = Vec::new();
    let mut answered: Vec<Result<(Opening, Answered), Refusal>> = Vec::with_capacity(slots.len());
    for slot in slots {
        answered.push(slot.and_then(|work| {
            let (opening, index) = (work.opening, work.index);
            let answer = match (work.stored, work.made) {
                (Some(stored), _) => stored,
                (None, Some((answer, log_index))) => {
                    made.push(Made {
                        opening,
                        answer: answer.clone(),
                        log_index,
                    });
                    answer
                }
                (None, None) => return Err(no_share(&opening.key_id)),
            };
            Ok((opening, Answered { index, answer }))
        }));
    }
    let stored = openings::complete(tx, scope, order, &made).await?;
    if stored < made.len() as u64 {
        let envelopes: Vec<Digest> = made.iter().map(|made| made.opening.envelope).collect();
        let kept = openings::of_records(tx, scope, order, &envelopes).await?;
        for (opening, answered) in answered.iter_mut().flatten() {
            if made.iter().any(|made| made.opening == *opening) {
                let kept = kept.get(opening).cloned().flatten();
                answered.answer = kept.ok_or(sqlx::Error::RowNotFound)?;
            }
        }
    }
    Ok(answered
        .into_iter()
        .map(|answered| answered.map(|(_, answered)| answered))
        .collect())
}

/// Id of an opening's log entry: the same for every attempt at the same answer. A commitment has an id of its own: what an older
/// version has logged in clear under a sealed order is another entry, and would refuse this one for ever.
fn entry_id(opening: &Opening, node: &str, sealed: bool) -> [u8; 16] {
    let digest = hash(
        if sealed {
            "sealed-opened-id"
        } else {
            "opened-id"
        },
        &[
            opening.order.as_bytes(),
            opening.envelope.as_bytes(),
            opening.key_id.as_bytes(),
            opening.share_epoch.as_bytes(),
            &lp(node.as_bytes()),
        ],
    );
    log_id(&digest)
}

/// A key that is retired opens nothing, ever again.
pub(super) fn retired(key_id: &Digest) -> Refusal {
    Refusal::denied(
        KEY_RETIRED,
        format!(
            "the key {key_id} is retired, and every share of it destroyed: nothing that was sealed to it can be opened"
        ),
    )
}

pub(super) fn no_share(key_id: &Digest) -> Refusal {
    Refusal::state(
        NO_SHARE,
        format!("the node holds no active share of the key {key_id}"),
    )
}

//! Receipts: verified, stored, and only then the sender is answered and the members' mailboxes are woken.
//!
//! A receipt counts when the archive's key signed it, when it continues the conversation's chain, and when it is for the
//! very item that has this number. Anything else stops the conversation: relay and archive disagree about the past.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use greffe_api::archive::IngestResponse;
use greffe_envelope::chain::ChainState;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{Bundle, verify_receipt, verify_void};
use greffe_service_kit::db::Connection;
use greffe_types::{ConversationId, DeviceId, Digest};
use prost::Message as _;
use tokio::sync::mpsc;

use super::{Core, Settled, commit};
use crate::error::RelayError;
use crate::replicas;
use crate::store::answers::{self, Answer, Entry, Place};
use crate::store::conversations::ConversationRow;
use crate::store::items::Kind;
use crate::store::{commits, conversations, items, members, standing};

/// Most answers of one transaction.
const BATCH: usize = 256;

/// An answer whose signatures were verified.
struct Verified {
    conversation: ConversationId,
    receipt: Signed<pb::Receipt>,
    void: Option<Signed<pb::Void>>,
}

/// What was released.
struct Released {
    conversation: ConversationId,
    digest: Digest,
    size: u64,
    settled: Arc<Settled>,
}

/// Releases until nothing more can come.
pub(super) async fn run(core: Arc<Core>, mut answers: mpsc::Receiver<IngestResponse>) {
    let mut batch = Vec::with_capacity(BATCH);
    while answers.recv_many(&mut batch, BATCH).await > 0 {
        let mut verified = Vec::with_capacity(batch.len());
        for response in batch.drain(..) {
            verified.extend(verify(&core, response).await);
        }
        release(&core, verified).await;
    }
}

async fn verify(core: &Core, response: IngestResponse) -> Option<Verified> {
    let Ok(conversation) = ConversationId::try_from(response.conversation.as_slice()) else {
        tracing::error!("the archive answered without a conversation");
        return None;
    };
    match verify_answer(core, conversation, response) {
        Ok(verified) => Some(verified),
        Err(error) => {
            tracing::error!(%conversation, %error, "an answer of the archive does not verify");
            core.stall(conversation, "an answer of the archive does not verify")
                .await;
            None
        }
    }
}

fn verify_answer(
    core: &Core,
    conversation: ConversationId,
    response: IngestResponse,
) -> Result<Verified, RelayError> {
    let refused = |why| RelayError::Statement("receipt", why);
    let receipt = response.receipt.ok_or(RelayError::Field("receipt"))?;
    let receipt = Signed::<pb::Receipt>::decode(receipt).map_err(|e| refused(e.into()))?;
    let bundle = bundle(core, receipt.bundle_version);
    let state = verify_receipt(&receipt, &bundle).map_err(refused)?;
    if state.conversation != conversation || state.sequence != response.sequence {
        return Err(RelayError::Field("receipt"));
    }
    let void = match (receipt.kind(), response.void) {
        (pb::EntryKind::Void, Some(void)) => {
            let void = Signed::<pb::Void>::decode(void).map_err(|e| refused(e.into()))?;
            let entry = verify_void(&void, &bundle).map_err(refused)?;
            let same = receipt.entry_digest == entry.as_bytes()
                && void.conversation == receipt.conversation
                && void.sequence == receipt.sequence;
            if !same {
                return Err(RelayError::Field("void"));
            }
            Some(void)
        }
        (pb::EntryKind::Message | pb::EntryKind::Handshake, None) => None,
        _ => return Err(RelayError::Field("void")),
    };
    Ok(Verified {
        conversation,
        receipt,
        void,
    })
}

/// The bundle that the archive judged by, or ours when we have not followed the log as far.
fn bundle(core: &Core, version: u64) -> Arc<Bundle> {
    let trust = core.trust.read();
    let bundle = trust
        .bundle_version(version)
        .unwrap_or_else(|| trust.bundle());
    bundle.clone()
}

async fn release(core: &Core, answers: Vec<Verified>) {
    if answers.is_empty() {
        return;
    }
    let done = core
        .db
        .run_tx("release", async |conn: &mut Connection| {
            let mut batch = Batch::load(core, conn, &answers).await?;
            for answer in &answers {
                batch.take(conn, core, answer).await?;
            }
            batch.flush(conn, core).await?;
            for (id, why) in &batch.stalled {
                conversations::stall(conn, &core.scope, id, why).await?;
                core.tell(conn, &replicas::stalled(id)).await?;
            }
            core.tell(conn, replicas::RELEASED).await?;
            Ok::<_, RelayError>(batch)
        })
        .await;
    match done {
        Ok(batch) => batch.tell(core),
        Err(error) => {
            // Nothing is lost: the items still have no receipt, and the archive gives the same ones again.
            tracing::error!(%error, answers = answers.len(), "storing receipts failed");
            core.resume.notify_one();
        }
    }
}

/// What one transaction releases.
#[derive(Default)]
struct Batch {
    rows: HashMap<ConversationId, ConversationRow>,
    released: Vec<Released>,
    /// Devices whose stay began or ended.
    moved: HashSet<DeviceId>,
    stalled: Vec<(ConversationId, &'static str)>,
    /// Place of the item released last.
    last: u64,
    /// Items that had no receipt when the transaction began.
    unanswered: HashMap<Place, Entry>,
    /// Answers that are not written.
    unwritten: Vec<(Place, Answer)>,
}

impl Batch {
    /// Reads what these answers are held against.
    async fn load(
        core: &Core,
        conn: &mut Connection,
        verified: &[Verified],
    ) -> Result<Self, RelayError> {
        let scope = &core.scope;
        let ids: HashSet<_> = verified.iter().map(|answer| answer.conversation).collect();
        let ids: Vec<_> = ids.into_iter().collect();
        let tails = standing::tails(conn, scope, &ids).await?;
        let places: HashSet<Place> = verified.iter().map(Verified::place).collect();
        let places: Vec<_> = places.into_iter().collect();
        Ok(Self {
            rows: tails.into_iter().map(|(id, tail)| (id, tail.row)).collect(),
            last: items::last_released(&mut *conn, scope).await?,
            unanswered: answers::unanswered(conn, scope, &places).await?,
            ..Self::default()
        })
    }

    /// Writes what was only decided in memory.
    async fn flush(&mut self, conn: &mut Connection, core: &Core) -> Result<(), RelayError> {
        let unwritten = std::mem::take(&mut self.unwritten);
        answers::store(conn, &core.scope, &unwritten).await?;
        let advances: Vec<_> = self.rows.iter().map(|(id, row)| row.advance(*id)).collect();
        Ok(conversations::advance(conn, &core.scope, &advances).await?)
    }

    async fn take(
        &mut self,
        conn: &mut Connection,
        core: &Core,
        answer: &Verified,
    ) -> Result<(), RelayError> {
        let (scope, id) = (&core.scope, &answer.conversation);
        let receipt = answer.receipt.message();
        let row = self.rows.get_mut(id);
        let row = row.ok_or(RelayError::Damaged("conversation of a receipt"))?;
        if receipt.sequence <= row.released {
            // A stream that began anew: answered before.
            return Ok(());
        }
        let chain = ChainState {
            conversation: *id,
            sequence: row.released,
            head: row.head,
        };
        let Ok(next) = chain.accept(receipt) else {
            self.stalled
                .push((*id, "a receipt does not continue the chain"));
            return Ok(());
        };
        let place = (*id, next.sequence);
        let item = self.unanswered.get(&place);
        let Some(item) = item.filter(|item| answer.is_for(item)).copied() else {
            self.stalled.push((*id, "a receipt is for another item"));
            return Ok(());
        };
        let stored = Answer {
            receipt: answer.receipt.raw().encode_to_vec(),
            void: answer.void.as_ref().map(|void| void.raw().encode_to_vec()),
            head: next.head,
            release: self.last + 1,
        };
        self.last += 1;
        self.unwritten.push((place, stored));
        (row.released, row.head) = (next.sequence, next.head);
        if item.kind == Kind::Handshake {
            let members = members::at(&mut *conn, scope, id, next.sequence).await?;
            self.moved
                .extend(members.into_iter().map(|(_, device)| device));
            if answer.void.is_some() {
                commit::undo(conn, scope, id, next.sequence).await?;
            } else {
                commits::settle(conn, scope, id, next.sequence).await?;
            }
        }
        self.released.push(Released {
            conversation: *id,
            digest: item.digest,
            size: item.size,
            settled: Arc::new(Settled {
                sequence: next.sequence,
                receipt: answer.receipt.raw().clone(),
                void: answer.void.as_ref().map(|void| void.raw().clone()),
            }),
        });
        Ok(())
    }

    /// After the transaction: answers and wakes.
    fn tell(self, core: &Core) {
        for (id, why) in self.stalled {
            core.stop_here(id, why, true);
        }
        for released in &self.released {
            core.load.released(released.size);
            core.waiters.settle(released.digest, &released.settled);
        }
        let latest: HashMap<ConversationId, u64> = self
            .released
            .iter()
            .map(|released| (released.conversation, released.settled.sequence))
            .collect();
        core.mailbox.released(&latest);
        core.mailbox.wake(&self.moved);
    }
}

impl Verified {
    fn place(&self) -> Place {
        (self.conversation, self.receipt.message().sequence)
    }

    /// Whether it answers this item.
    fn is_for(&self, item: &Entry) -> bool {
        let receipt = self.receipt.message();
        match (&self.void, item.kind) {
            (Some(void), _) => void.refused_digest == item.digest.as_bytes(),
            (None, Kind::Message) => {
                receipt.kind() == pb::EntryKind::Message
                    && receipt.entry_digest == item.digest.as_bytes()
            }
            (None, Kind::Handshake) => {
                receipt.kind() == pb::EntryKind::Handshake
                    && receipt.entry_digest == item.digest.as_bytes()
            }
            (None, Kind::Void) => false,
        }
    }
}

//! Numbers: whatever waits gets its own in ONE transaction, together with the outbox to the archive.
//!
//! Everything that could have changed since the check is looked at again inside the transaction, so two commits of one
//! epoch, two bodies under one message id, or a message behind the commit that ends its epoch cannot both get a number: not at
//! one replica, and not at two.

use greffe_service_kit::db::Connection;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use greffe_types::{ConversationId, DeviceId, Digest};
use tokio::sync::{mpsc, oneshot};

use super::check::Checked;
use super::fair::Place;
use super::load::Room;
use super::{Answer, Commit, Core, MessageRefusal, Settled, settled};
use crate::error::RelayError;
use crate::replicas;
use crate::session::Session;
use crate::store::conversations::ConversationRow;
use crate::store::items::NewItem;
use crate::store::members::MemberRow;
use crate::store::{acknowledgements, attachments, conversations, items, members};

/// Most jobs of one transaction.
const BATCH: usize = 512;

/// What waits for a number.
pub(super) struct Job {
    work: Work,
    session: Session,
    answer: oneshot::Sender<Answer>,
    _room: Room,
    place: Place,
}

enum Work {
    Message(Box<Checked>),
    Commit(Box<Commit>),
}

impl Job {
    pub(super) fn message(
        message: Checked,
        answer: oneshot::Sender<Answer>,
        (room, place): (Room, Place),
        session: Session,
    ) -> Self {
        Self {
            work: Work::Message(Box::new(message)),
            session,
            answer,
            _room: room,
            place,
        }
    }

    pub(super) fn commit(
        commit: Commit,
        answer: oneshot::Sender<Answer>,
        (room, place): (Room, Place),
        session: Session,
    ) -> Self {
        Self {
            work: Work::Commit(Box::new(commit)),
            session,
            answer,
            _room: room,
            place,
        }
    }

    pub(super) fn conversation(&self) -> ConversationId {
        self.work.conversation()
    }

    /// The message, when it is one.
    pub(super) fn as_message(&self) -> Option<&Checked> {
        match &self.work {
            Work::Message(message) => Some(message),
            Work::Commit(_) => None,
        }
    }

    pub(super) fn has_proofs(&self) -> bool {
        self.as_message().is_some_and(|m| !m.wraps.is_empty())
    }

    /// Refuses it.
    pub(super) fn refuse(self, core: &Core, error: RelayError) {
        let digest = self.work.digest();
        core.refused(self.work.operation(), &self.session, &error, Some(digest));
        // A sender who has gone asks again.
        let _ = self.answer.send(Err(error));
    }
}

impl Work {
    fn conversation(&self) -> ConversationId {
        match self {
            Self::Message(message) => message.item.conversation,
            Self::Commit(commit) => commit.conversation,
        }
    }

    fn digest(&self) -> Digest {
        match self {
            Self::Message(message) => message.item.digest,
            Self::Commit(commit) => commit.digest(),
        }
    }

    const fn operation(&self) -> &'static str {
        match self {
            Self::Message(_) => "Send",
            Self::Commit(_) => "SubmitCommit",
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Message(message) => message.payload.len() as u64,
            Self::Commit(commit) => commit.commit.len() as u64,
        }
    }
}

/// What the transaction decided on a job.
enum Verdict {
    /// It has a number now.
    Sequenced,
    /// It had one, and its receipt.
    Settled(Settled),
    /// It had one, and waits for the archive.
    Waiting,
    /// No number.
    Refused(RelayError),
}

/// Sequences until nothing more can come.
pub(super) async fn run(core: Arc<Core>, mut waiting: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        sequence(&core, std::mem::take(&mut batch)).await;
    }
}

async fn sequence(core: &Core, jobs: Vec<Job>) {
    // Waiters first: an item may be released before this task runs again.
    let (mut works, mut senders) = (Vec::new(), Vec::new());
    for job in jobs {
        let digest = job.work.digest();
        let place = (job.work.conversation(), job.place);
        let ticket = core.waiters.add(digest, job.answer, Some(place));
        senders.push((digest, ticket, job.session, job._room));
        works.push(job.work);
    }
    let done = core
        .db
        .run_tx("sequence", async |conn: &mut Connection| {
            let mut batch = Batch {
                core,
                conversations: HashMap::new(),
            };
            let mut verdicts = Vec::with_capacity(works.len());
            for work in &works {
                verdicts.push(batch.decide(conn, work).await?);
            }
            batch.flush(conn).await?;
            if verdicts.iter().any(|v| matches!(v, Verdict::Sequenced)) {
                core.tell(conn, replicas::SEQUENCED).await?;
            }
            Ok::<_, RelayError>(verdicts)
        })
        .await;
    match done {
        Ok(verdicts) => {
            let jobs = works.iter().zip(senders);
            for ((work, (digest, ticket, session, _)), verdict) in jobs.zip(verdicts) {
                let answer = match verdict {
                    Verdict::Sequenced => {
                        core.load.sequenced(work.size());
                        continue;
                    }
                    Verdict::Waiting => continue,
                    Verdict::Settled(settled) => Ok(Arc::new(settled)),
                    Verdict::Refused(error) => {
                        core.refused(work.operation(), &session, &error, Some(digest));
                        Err(error)
                    }
                };
                if let Some(sender) = core.waiters.take(digest, ticket) {
                    let _ = sender.send(answer);
                }
            }
            core.sequenced.notify_one();
        }
        Err(error) => {
            tracing::error!(%error, jobs = works.len(), "sequencing failed, nothing got a number");
            for (digest, ticket, ..) in senders {
                if let Some(sender) = core.waiters.take(digest, ticket) {
                    let _ = sender.send(Err(RelayError::Busy("the database failed")));
                }
            }
        }
    }
}

/// Rows that one transaction works on.
struct Batch<'a> {
    core: &'a Core,
    conversations: HashMap<ConversationId, Option<Conversation>>,
}

struct Conversation {
    row: ConversationRow,
    /// A commit has no receipt yet.
    commit_pending: bool,
    /// Present members that sent something, and whether their last message is another now.
    members: HashMap<DeviceId, Option<(MemberRow, bool)>>,
    acknowledged: HashMap<DeviceId, bool>,
    changed: bool,
}

impl Batch<'_> {
    async fn decide(&mut self, conn: &mut Connection, work: &Work) -> Result<Verdict, RelayError> {
        let scope = &self.core.scope;
        let digest = work.digest();
        if let Some(known) = items::by_digest(&mut *conn, scope, &digest).await? {
            return Ok(match settled(&known)? {
                Some(settled) => Verdict::Settled(settled),
                None => Verdict::Waiting,
            });
        }
        let decided = match work {
            Work::Message(message) => self.message(conn, message).await,
            Work::Commit(commit) => self.commit(conn, commit).await,
        };
        match decided {
            Ok(()) => Ok(Verdict::Sequenced),
            Err(error) if super::refusal::ends_stream(&error) => Err(error),
            Err(error) => Ok(Verdict::Refused(error)),
        }
    }

    async fn message(
        &mut self,
        conn: &mut Connection,
        message: &Checked,
    ) -> Result<(), RelayError> {
        let core = self.core;
        let scope = &core.scope;
        let item = &message.item;
        let conversation = self.conversation(conn, &item.conversation).await?;
        conversation.open(item)?;
        if !conversation.has_acknowledged(conn, core, item).await? {
            return Err(RelayError::NotAcknowledged);
        }
        let id = item
            .message_id
            .as_ref()
            .ok_or(RelayError::Field("message_id"))?;
        if items::digest_of_message(&mut *conn, scope, &item.conversation, id)
            .await?
            .is_some()
        {
            return Err(RelayError::Conflict);
        }
        for (digest, size) in &message.attachments {
            let found = attachments::find(&mut *conn, scope, &item.conversation, digest).await?;
            if found != Some((*size, true)) {
                return Err(MessageRefusal::Attachment(*digest).into());
            }
        }
        let sequence = conversation.row.sequence + 1;
        let (member, changed) = conversation.member(conn, core, item).await?;
        if member.certificate != item.certificate {
            return Err(MessageRefusal::Leaf.into());
        }
        let expected = member.counter + 1;
        if message.counter != expected {
            return Err(MessageRefusal::Counter { expected }.into());
        }
        if message.previous != member.previous {
            return Err(MessageRefusal::Previous.into());
        }
        let item = NewItem {
            sequence,
            ..item.clone()
        };
        if !items::insert(conn, scope, &item, &message.payload).await? {
            return Err(RelayError::Conflict);
        }
        (member.counter, member.previous, *changed) = (message.counter, item.digest, true);
        conversation.row.sequence = sequence;
        conversation.changed = true;
        for (digest, _) in &message.attachments {
            attachments::name(conn, scope, &item.conversation, digest, sequence).await?;
        }
        Ok(())
    }

    async fn commit(&mut self, conn: &mut Connection, commit: &Commit) -> Result<(), RelayError> {
        let core = self.core;
        // Counters of earlier messages of this batch have to be in the rows that the commit copies.
        self.flush(conn).await?;
        let conversation = self.conversation(conn, &commit.conversation).await?;
        let item = commit.item();
        conversation.open(&item)?;
        conversation.member(conn, core, &item).await?;
        let item = NewItem {
            sequence: conversation.row.sequence + 1,
            ..item
        };
        if !items::insert(conn, &core.scope, &item, &commit.commit).await? {
            let current = conversation.row.epoch;
            return Err(RelayError::EpochStale { current });
        }
        commit.write(conn, &core.scope, item.sequence).await?;
        conversation.row.sequence = item.sequence;
        conversation.row.epoch = commit.after.epoch;
        conversation.row.disclosure = commit.after.disclosure;
        conversation.row.mode = commit.after.mode;
        conversation.commit_pending = true;
        conversation.members.clear();
        conversation.acknowledged.clear();
        conversation.changed = true;
        Ok(())
    }

    async fn conversation(
        &mut self,
        conn: &mut Connection,
        id: &ConversationId,
    ) -> Result<&mut Conversation, RelayError> {
        if !self.conversations.contains_key(id) {
            let scope = &self.core.scope;
            let found = match conversations::get(&mut *conn, scope, id).await? {
                Some(row) => Some(Conversation {
                    commit_pending: items::commit_pending(conn, scope, id, row.released).await?,
                    row,
                    members: HashMap::new(),
                    acknowledged: HashMap::new(),
                    changed: false,
                }),
                None => None,
            };
            self.conversations.insert(*id, found);
        }
        let found = self.conversations.get_mut(id).and_then(Option::as_mut);
        let conversation = found.ok_or(RelayError::NoConversation)?;
        if conversation.row.stalled || self.core.is_stalled(id) {
            return Err(RelayError::Stalled);
        }
        Ok(conversation)
    }

    /// Writes what was only counted in memory.
    async fn flush(&mut self, conn: &mut Connection) -> Result<(), RelayError> {
        let scope = &self.core.scope;
        for (id, conversation) in &mut self.conversations {
            let Some(conversation) = conversation else {
                continue;
            };
            for (device, member) in &mut conversation.members {
                if let Some((member, changed @ true)) = member {
                    let (counter, previous) = (member.counter, &member.previous);
                    members::set_counter(conn, scope, id, device, counter, previous).await?;
                    *changed = false;
                }
            }
            if std::mem::take(&mut conversation.changed) {
                let row = &conversation.row;
                conversations::advance(conn, scope, id, row.sequence, row.released, &row.head)
                    .await?;
            }
        }
        Ok(())
    }
}

impl Conversation {
    /// Whether anything of this epoch and disclosure may get a number now.
    fn open(&self, item: &NewItem) -> Result<(), RelayError> {
        if item.epoch != self.row.epoch || item.disclosure != self.row.disclosure {
            let current = self.row.epoch;
            return Err(RelayError::EpochStale { current });
        }
        if self.commit_pending {
            return Err(RelayError::CommitPending);
        }
        Ok(())
    }

    async fn member(
        &mut self,
        conn: &mut Connection,
        core: &Core,
        item: &NewItem,
    ) -> Result<&mut (MemberRow, bool), RelayError> {
        let found = match self.members.entry(item.device) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let (scope, id) = (&core.scope, &item.conversation);
                let stays = members::stays(&mut *conn, scope, &item.device, Some(id)).await?;
                let present = stays.into_iter().rfind(|stay| stay.until_seq.is_none());
                unknown.insert(present.map(|stay| (stay, false)))
            }
        };
        found.as_mut().ok_or(RelayError::NoConversation)
    }

    async fn has_acknowledged(
        &mut self,
        conn: &mut Connection,
        core: &Core,
        item: &NewItem,
    ) -> Result<bool, RelayError> {
        if let Some(known) = self.acknowledged.get(&item.device) {
            return Ok(*known);
        }
        let (scope, id) = (&core.scope, &item.conversation);
        let found =
            acknowledgements::find(conn, scope, id, &item.device, &self.row.disclosure).await?;
        self.acknowledged.insert(item.device, found.is_some());
        Ok(found.is_some())
    }
}

//! One transaction that gives numbers: what its jobs are decided on is read once for all of them, and what they leave is written once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use greffe_service_kit::db::Connection;
use greffe_types::{ConversationId, DeviceId, Digest, MessageId};

use super::check::Checked;
use super::sequence::Work;
use super::{Commit, Core, MessageRefusal, Settled, settled};
use crate::error::RelayError;
use crate::store::conversations::ConversationRow;
use crate::store::items::{NewItem, Sequenced};
use crate::store::members::{MemberRow, Sent};
use crate::store::standing::{self, Tail};
use crate::store::{Scope, acknowledgements, attachments, conversations, items, members};

/// What the transaction decided on a job.
pub(super) enum Verdict {
    /// It has a number now.
    Sequenced,
    /// It had one, and its receipt.
    Settled(Settled),
    /// It had one, and waits for the archive.
    Waiting,
    /// No number.
    Refused(RelayError),
}

/// Rows that one transaction works on. Nobody else writes meanwhile, so what was read and what was decided since is all there is.
pub(super) struct Batch<'a> {
    core: &'a Core,
    conversations: HashMap<ConversationId, Option<Conversation>>,
    /// Of the jobs' digests, those that have a number.
    known: HashMap<Digest, Sequenced>,
    /// Of the jobs' message ids, those that an envelope has taken.
    taken: HashSet<(ConversationId, MessageId)>,
    /// Messages that have a number and are not written.
    unwritten: Vec<(NewItem, &'a [u8])>,
}

struct Conversation {
    row: ConversationRow,
    /// A commit has no receipt yet.
    commit_pending: bool,
    /// Its next number, or a later one, is taken already.
    overrun: bool,
    /// Present members that sent something, and whether their last message is another now.
    members: HashMap<DeviceId, Option<(MemberRow, bool)>>,
    acknowledged: HashMap<DeviceId, bool>,
    changed: bool,
}

impl<'a> Batch<'a> {
    /// Reads what these jobs are decided on.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn load(
        core: &'a Core,
        conn: &mut Connection,
        works: &[Work],
    ) -> Result<Self, RelayError> {
        let scope = &core.scope;
        let digests = distinct(works.iter().map(Work::digest));
        let ids = distinct(works.iter().filter_map(message_id));
        Ok(Self {
            core,
            conversations: load_conversations(conn, scope, works).await?,
            known: standing::sequenced(conn, scope, &digests).await?,
            taken: standing::taken(conn, scope, &ids).await?,
            unwritten: Vec::new(),
        })
    }

    /// Decides on the next job.
    ///
    /// # Errors
    /// Failures of our own; nothing of the transaction may stay then.
    pub(super) async fn decide(
        &mut self,
        conn: &mut Connection,
        work: &'a Work,
    ) -> Result<Verdict, RelayError> {
        let digest = work.digest();
        if let Some(known) = self.known.get(&digest) {
            return Ok(match settled(known)? {
                Some(settled) => Verdict::Settled(settled),
                None => Verdict::Waiting,
            });
        }
        let decided = match work {
            Work::Message(message) => self.message(conn, message).await,
            Work::Commit(commit) => self.commit(conn, commit).await,
        };
        let item = match decided {
            Ok(item) => item,
            Err(error) if super::refusal::ends_stream(&error) => return Err(error),
            Err(error) => return Ok(Verdict::Refused(error)),
        };
        if let Some(id) = item.message_id {
            self.taken.insert((item.conversation, id));
        }
        let sequenced = Sequenced {
            conversation: item.conversation,
            sequence: item.sequence,
            device: item.device,
            receipt: None,
            void: None,
        };
        self.known.insert(digest, sequenced);
        Ok(Verdict::Sequenced)
    }

    async fn message(
        &mut self,
        conn: &mut Connection,
        message: &'a Checked,
    ) -> Result<NewItem, RelayError> {
        let core = self.core;
        let scope = &core.scope;
        let item = &message.item;
        let conversation = open(&mut self.conversations, core, &item.conversation)?;
        conversation.takes(item)?;
        if !conversation.has_acknowledged(conn, core, item).await? {
            return Err(RelayError::NotAcknowledged);
        }
        let id = item.message_id.ok_or(RelayError::Field("message_id"))?;
        if self.taken.contains(&(item.conversation, id)) {
            return Err(RelayError::Conflict);
        }
        for (digest, size) in &message.attachments {
            let found = attachments::find(&mut *conn, scope, &item.conversation, digest).await?;
            if found != Some((*size, true)) {
                return Err(MessageRefusal::Attachment(*digest).into());
            }
        }
        let sequence = conversation.row.sequence + 1;
        let overrun = conversation.overrun;
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
        if overrun {
            return Err(RelayError::Conflict);
        }
        let item = NewItem {
            sequence,
            ..item.clone()
        };
        (member.counter, member.previous, *changed) = (message.counter, item.digest, true);
        conversation.row.sequence = sequence;
        conversation.changed = true;
        for (digest, _) in &message.attachments {
            attachments::name(conn, scope, &item.conversation, digest, sequence).await?;
        }
        self.unwritten.push((item.clone(), &message.payload));
        Ok(item)
    }

    async fn commit(
        &mut self,
        conn: &mut Connection,
        commit: &Commit,
    ) -> Result<NewItem, RelayError> {
        let core = self.core;
        // Counters of earlier messages of this batch have to be in the rows that the commit copies.
        self.flush(conn).await?;
        let conversation = open(&mut self.conversations, core, &commit.conversation)?;
        let item = commit.item();
        conversation.takes(&item)?;
        conversation.member(conn, core, &item).await?;
        if conversation.overrun {
            return Err(RelayError::Conflict);
        }
        let item = NewItem {
            sequence: conversation.row.sequence + 1,
            ..item
        };
        let with_bytes = [(item, commit.commit.as_slice())];
        if !items::insert(conn, &core.scope, &with_bytes).await? {
            let current = conversation.row.epoch;
            return Err(RelayError::EpochStale { current });
        }
        let [(item, _)] = with_bytes;
        commit.write(conn, &core.scope, item.sequence).await?;
        conversation.row.sequence = item.sequence;
        conversation.row.epoch = commit.after.epoch;
        conversation.row.disclosure = commit.after.disclosure;
        conversation.row.mode = commit.after.mode;
        conversation.commit_pending = true;
        conversation.members.clear();
        conversation.acknowledged.clear();
        conversation.changed = true;
        Ok(item)
    }

    /// Writes what was only decided in memory.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn flush(&mut self, conn: &mut Connection) -> Result<(), RelayError> {
        let scope = &self.core.scope;
        let unwritten = std::mem::take(&mut self.unwritten);
        if !items::insert(conn, scope, &unwritten).await? {
            return Err(RelayError::Damaged("items, taken without being there"));
        }
        let (mut sent, mut advances) = (Vec::new(), Vec::new());
        for (id, conversation) in &mut self.conversations {
            let Some(conversation) = conversation else {
                continue;
            };
            for (member, changed) in conversation.members.values_mut().flatten() {
                if std::mem::take(changed) {
                    sent.push(Sent {
                        conversation: *id,
                        device: member.device,
                        counter: member.counter,
                        previous: member.previous,
                    });
                }
            }
            if std::mem::take(&mut conversation.changed) {
                advances.push(conversation.row.advance(*id));
            }
        }
        members::set_counters(conn, scope, &sent).await?;
        Ok(conversations::advance(conn, scope, &advances).await?)
    }
}

fn distinct<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.collect::<BTreeSet<T>>().into_iter().collect()
}

fn message_id(work: &Work) -> Option<(ConversationId, MessageId)> {
    match work {
        Work::Message(message) => Some((message.item.conversation, message.item.message_id?)),
        Work::Commit(_) => None,
    }
}

async fn load_conversations(
    conn: &mut Connection,
    scope: &Scope,
    works: &[Work],
) -> Result<HashMap<ConversationId, Option<Conversation>>, RelayError> {
    let ids = distinct(works.iter().map(Work::conversation));
    let senders = distinct(
        works
            .iter()
            .map(|work| (work.conversation(), work.device())),
    );
    let mut tails = standing::tails(conn, scope, &ids).await?;
    let acknowledged = acknowledgements::given(conn, scope, &senders).await?;
    let mut conversations: HashMap<_, _> = ids
        .into_iter()
        .map(|id| (id, tails.remove(&id).map(Conversation::from)))
        .collect();
    for (id, device) in &senders {
        if let Some(Some(conversation)) = conversations.get_mut(id) {
            let given = acknowledged.contains(&(*id, *device, conversation.row.disclosure));
            conversation.acknowledged.insert(*device, given);
            conversation.members.insert(*device, None);
        }
    }
    // Of several stays the last one counts.
    for member in members::present_of(conn, scope, &senders).await? {
        if let Some(Some(conversation)) = conversations.get_mut(&member.conversation) {
            let device = member.device;
            conversation.members.insert(device, Some((member, false)));
        }
    }
    Ok(conversations)
}

/// A conversation that goes on.
fn open<'c>(
    conversations: &'c mut HashMap<ConversationId, Option<Conversation>>,
    core: &Core,
    id: &ConversationId,
) -> Result<&'c mut Conversation, RelayError> {
    let found = conversations.get_mut(id).and_then(Option::as_mut);
    let conversation = found.ok_or(RelayError::NoConversation)?;
    if conversation.row.stalled || core.is_stalled(id) {
        return Err(RelayError::Stalled);
    }
    Ok(conversation)
}

impl From<Tail> for Conversation {
    fn from(tail: Tail) -> Self {
        Self {
            row: tail.row,
            commit_pending: tail.commit_pending,
            overrun: tail.overrun,
            members: HashMap::new(),
            acknowledged: HashMap::new(),
            changed: false,
        }
    }
}

impl Conversation {
    /// Whether anything of this epoch and disclosure may get a number now.
    fn takes(&self, item: &NewItem) -> Result<(), RelayError> {
        if item.epoch != self.row.epoch || item.disclosure != self.row.disclosure {
            let current = self.row.epoch;
            return Err(RelayError::EpochStale { current });
        }
        if self.commit_pending {
            return Err(RelayError::CommitPending);
        }
        Ok(())
    }

    /// The sender's stay: read again after a commit of this transaction, which may have begun or ended it.
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

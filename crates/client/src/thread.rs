//! A message with everything that was said about it: its versions, whether it was taken back, the reactions to it. And what is
//! asked before an edit, a retraction or a reaction goes out: whether it would have effect, and whether everybody can show it.

use greffe_envelope::content::{self, Kind};
use greffe_envelope::history::{History, Message, Said, Why};
use greffe_envelope::pb;
use greffe_types::{ConversationId, Digest};

use crate::conversation::HistoryItem;
use crate::device::Device;
use crate::error::{ClientError, Result};
use crate::live::LiveGuard;
use crate::send::Outgoing;
use crate::store::OutboxKind;

/// What has one envelope digest in a conversation, and everything about it.
#[derive(Debug, Clone, Default)]
pub struct Thread {
    /// In the order of their numbers; the message itself is among them when it is here.
    pub items: Vec<HistoryItem>,
    /// What became of it.
    pub history: History<String>,
}

impl Thread {
    /// Of items in their order: all of one message, or any part of a conversation from its beginning.
    pub fn new(items: Vec<HistoryItem>) -> Self {
        let mut thread = Self::default();
        for item in &items {
            if let Some(said) = item.said() {
                let earlier = |digest: &Digest| withheld(&items, item.sequence, digest);
                thread.history.take(&said, earlier);
            }
        }
        thread.items = items;
        thread
    }

    /// The text or mail, when it is here and was opened.
    pub fn message(&self, envelope: &Digest) -> Option<&Message<String>> {
        self.history.message(envelope)
    }

    /// The item of a number.
    pub fn item(&self, sequence: u64) -> Option<&HistoryItem> {
        let index = self.items.binary_search_by_key(&sequence, |i| i.sequence);
        self.items.get(index.ok()?)
    }

    /// Whether the edit, retraction or reaction of a number has effect; none when the number is something else's.
    pub fn verdict(&self, sequence: u64) -> Option<Result<(), Why>> {
        let messages = self.history.messages().iter();
        let acts = messages.flat_map(|message| &message.acts);
        acts.chain(self.history.strays())
            .find(|act| act.sequence == sequence)
            .map(|act| act.verdict)
    }
}

impl HistoryItem {
    /// As histories are made of it; none when it was not opened.
    fn said(&self) -> Option<Said<'_, String>> {
        Some(Said {
            sequence: self.sequence,
            envelope: self.digest,
            author: self.sender.clone(),
            content: self.content.as_ref()?,
        })
    }
}

/// Whether an earlier item has that digest, and was withheld.
fn withheld(items: &[HistoryItem], before: u64, digest: &Digest) -> bool {
    items.iter().any(|item| {
        item.sequence < before
            && item.digest == *digest
            && item.kind == pb::EntryKind::Message
            && item.content.is_none()
    })
}

impl Device {
    /// What has an envelope digest in a conversation, with everything about it that was taken in. Where nothing has it, what
    /// claims to be about it.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn thread(&self, id: &ConversationId, envelope: &Digest) -> Result<Thread> {
        let store = &self.client().0.store;
        let mut rows = store.about(&self.id(), id, envelope).await?;
        rows.extend(store.item_of(&self.id(), id, envelope).await?);
        rows.sort_by_key(|row| row.sequence);
        let items = rows.into_iter().map(|row| self.history_item(row));
        Ok(Thread::new(items.collect::<Result<_>>()?))
    }

    /// As [`Device::thread`], of an item that is at hand.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn thread_of(&self, id: &ConversationId, item: HistoryItem) -> Result<Thread> {
        let store = &self.client().0.store;
        let rows = store.about(&self.id(), id, &item.digest).await?;
        let items = rows.into_iter().map(|row| self.history_item(row));
        let mut items = items.collect::<Result<Vec<_>>>()?;
        items.push(item);
        items.sort_by_key(|item| item.sequence);
        Ok(Thread::new(items))
    }

    /// Refuses an edit, a retraction or a reaction that would have no effect, or that a member's client could not show.
    pub(crate) async fn check_act(&self, guard: LiveGuard, outgoing: &Outgoing) -> Result<()> {
        let content = outgoing.content();
        let kind = Kind::of(&content).ok_or(content::ContentError::Kind);
        let checked = kind.and_then(|kind| content::check(&content).map(|()| kind));
        let kind =
            checked.map_err(|error| ClientError::refused(error.reason(), error.to_string()))?;
        let Some(target) = outgoing.target.filter(|_| kind.is_act()) else {
            return Ok(());
        };
        self.everybody_shows(guard)?;
        let id = &outgoing.conversation;
        // Read before what has come back: what does so meanwhile is then in both, and not in neither.
        let sent = self.on_their_way(id, &target).await?;
        let mut thread = self.thread(id, &target).await?;
        for (digest, content) in &sent {
            if thread.items.iter().all(|item| item.digest != *digest) {
                let said = Said {
                    sequence: u64::MAX,
                    envelope: *digest,
                    author: self.user().to_owned(),
                    content,
                };
                thread.history.take(&said, |_| false);
            }
        }
        let said = Said {
            sequence: u64::MAX,
            envelope: Digest::ZERO,
            author: self.user().to_owned(),
            content: &content,
        };
        let earlier = |digest: &Digest| withheld(&thread.items, u64::MAX, digest);
        match thread.history.take(&said, earlier) {
            Some(Err(why)) => Err(ClientError::refused(
                why.reason(),
                format!("{why}: it would be archived and shown without effect, so it was not sent"),
            )),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// A message of this device, and what this device said about one, as far as it has not come back with its number: what is
    /// sent now comes after it all the same.
    async fn on_their_way(
        &self,
        id: &ConversationId,
        target: &Digest,
    ) -> Result<Vec<(Digest, pb::Content)>> {
        let store = &self.client().0.store;
        let mut found = Vec::new();
        for row in store.outbox(&self.id()).await? {
            if row.kind != OutboxKind::Message || row.conversation != *id {
                continue;
            }
            let stored = store.open_content(&self.id(), &row.digest, &row.content)?;
            let about = |content: &pb::Content| {
                row.digest == *target || content.target == target.as_bytes()
            };
            found.extend(
                stored
                    .content
                    .filter(about)
                    .map(|content| (row.digest, content)),
            );
        }
        Ok(found)
    }

    /// An older client would withhold what it does not understand, as if somebody had cheated. Asked when a message is handed
    /// over: an older client that is let in while it is on its way withholds that one, which is archived and shown to others.
    fn everybody_shows(&self, mut guard: LiveGuard) -> Result<()> {
        let mut users: Vec<String> = guard
            .speaking()?
            .without_history()
            .into_iter()
            .map(|member| {
                let cert = self.client().0.certificates.get(&member.certificate);
                cert.map_or_else(|| member.device.to_string(), |cert| cert.user.clone())
            })
            .collect();
        if users.is_empty() {
            return Ok(());
        }
        users.sort_unstable();
        users.dedup();
        Err(ClientError::refused(
            "MEMBERS_TOO_OLD",
            format!(
                "clients of {} cannot show edits, retractions and reactions, or have not said that they can: have them update, \
                 then refresh their keys in the conversation; until then, send a text",
                users.join(", ")
            ),
        ))
    }
}

//! What a mailbox brings: taken in, told on standard error where something is wrong, and read back from the device's database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use greffe_client::{Device, Event, HistoryItem};
use greffe_envelope::content::Kind;
use greffe_envelope::history::Why;
use greffe_envelope::pb;
use greffe_types::{ConversationId, Digest};
use serde::Serialize;

use super::access::Held;
use super::form::{ContentView, file_name, one_line, time, time_or_none};
use super::history::{AboutView, Entry, HistoryView, says};
use super::query::kind_name;
use crate::fail::{Failure, Result};
use crate::layout::{private_folder, write};
use crate::output::narrate;
use crate::save::{OWN, Saving};

/// Items read from the database at once.
const BATCH: u32 = 500;

/// Takes in what waits in the mailbox, and tells what should not have happened.
pub(crate) async fn take_in(held: &Held) -> Result<()> {
    for event in held.device.catch_up().await? {
        tell(&event);
    }
    Ok(())
}

/// Says on standard error what a person should know beside messages.
pub(crate) fn tell(event: &Event) {
    match event {
        Event::Invited {
            conversation, mode, ..
        } => narrate(format_args!(
            "invited to conversation {conversation} ({}): look at its notice and acknowledge it",
            greffe_client::mode_name(*mode)
        )),
        Event::Changed {
            conversation,
            disclosure: Some(_),
            ..
        } => narrate(format_args!(
            "conversation {conversation} can be read by others than before: look at its new notice and acknowledge it"
        )),
        Event::Removed { conversation, .. } => {
            narrate(format_args!("removed from conversation {conversation}"));
        }
        Event::Withheld {
            conversation,
            sequence,
            sender,
            reason,
            reported,
            ..
        } => narrate(format_args!(
            "number {sequence} of {conversation}, from {}, was withheld ({reason}){}",
            one_line(sender),
            if *reported { " and reported" } else { "" }
        )),
        Event::Refused {
            conversation,
            sequence,
            reason,
        } => narrate(format_args!(
            "number {sequence} of {} was refused: {reason}",
            conversation.map_or_else(|| "a conversation".to_owned(), |id| id.to_string())
        )),
        Event::Resynchronised {
            conversation,
            expected,
            found,
        } => narrate(format_args!(
            "the relay left out number {expected} of {conversation} (it sent {found}): read anew"
        )),
        Event::NotSent {
            conversation,
            envelope,
            reason,
        } => narrate(format_args!(
            "what was made before as {envelope} for {conversation} could not be sent: {reason}"
        )),
        _ => {}
    }
}

/// An item as it is printed.
#[derive(Debug, Serialize)]
pub(crate) struct ItemView {
    pub(crate) conversation: String,
    pub(crate) sequence: u64,
    /// "message", "commit" or "void".
    kind: &'static str,
    digest: String,
    sender: String,
    /// Sent by the same user.
    own: bool,
    sent_at: Option<String>,
    archived_at: String,
    /// Why it was withheld.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// As it was sent; `history` says what became of it.
    content: Option<ContentView>,
    /// What became of a message that something is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<HistoryView>,
    /// Of an edit, a retraction or a reaction: what it is about, and whether it has effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<AboutView>,
    #[serde(skip)]
    text: Vec<u8>,
}

impl ItemView {
    /// For a terminal; with `all`, every version of a message and everything about it.
    pub(crate) fn lines(&self, all: bool) -> String {
        let sender = one_line(&self.sender);
        let says = match (&self.content, self.kind) {
            (Some(content), _) => says(
                content,
                self.about.as_ref(),
                self.history.as_ref(),
                (sender.as_str(), self.text.as_slice()),
                all,
            ),
            (None, "commit") => format!("* {sender} changed members or keys"),
            (None, "void") => "* withdrawn by the archive".to_owned(),
            (None, _) => format!("* withheld, from {sender}"),
        };
        let reason = if self.reason.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.reason)
        };
        format!("{} #{} {says}{reason}\n", self.archived_at, self.sequence)
    }
}

/// Items of a conversation after a number, at most so many; attachments are saved when a folder is named.
pub(crate) async fn items(
    device: &Device,
    conversation: &ConversationId,
    after: u64,
    limit: usize,
    save: Option<&Path>,
) -> Result<Vec<ItemView>> {
    let mut views = Vec::new();
    let mut after = after;
    while views.len() < limit {
        let most = u32::try_from(limit - views.len()).unwrap_or(BATCH);
        let items = device.history(conversation, after, most.min(BATCH)).await?;
        let Some(last) = items.last() else { break };
        after = last.sequence;
        for item in items {
            views.push(view(device, conversation, item, save).await?);
        }
    }
    Ok(views)
}

async fn view(
    device: &Device,
    conversation: &ConversationId,
    item: HistoryItem,
    save: Option<&Path>,
) -> Result<ItemView> {
    let mut content = item.content.as_ref().map(ContentView::new);
    if let (Some(folder), Some(content)) = (save, &mut content) {
        for (index, attachment) in (0_u32..).zip(&mut content.attachments) {
            let unique = format!(
                "{}-{}-{index}",
                &conversation.to_string()[..8],
                item.sequence
            );
            let path = folder.join(file_name(&unique, &attachment.name));
            let mut saving = Saving::create(&path, OWN)?;
            device
                .attachment(conversation, item.sequence, index, &mut saving)
                .await?;
            saving.finish()?;
            attachment.saved = Some(path.display().to_string());
        }
    }
    let (history, about) = match &item.content {
        Some(said) => became(device, conversation, &item, said).await?,
        None => (None, None),
    };
    let kind = item.kind;
    Ok(ItemView {
        conversation: conversation.to_string(),
        sequence: item.sequence,
        kind: kind_name(kind),
        digest: item.digest.to_string(),
        own: kind == pb::EntryKind::Message && item.sender == device.user(),
        sender: item.sender,
        sent_at: time_or_none(item.sent_at.get()),
        archived_at: time(item.archived_at.get()),
        reason: item.reason,
        text: item.content.map(|content| content.text).unwrap_or_default(),
        content,
        history,
        about,
    })
}

/// What became of a message, or what something about a message came to.
async fn became(
    device: &Device,
    conversation: &ConversationId,
    item: &HistoryItem,
    content: &pb::Content,
) -> Result<(Option<HistoryView>, Option<AboutView>)> {
    if !Kind::of(content).is_some_and(Kind::is_act) {
        let thread = device.thread_of(conversation, item.clone()).await?;
        let message = thread.message(&item.digest);
        let at = |sequence| thread.item(sequence).and_then(entry);
        return Ok((message.and_then(|m| HistoryView::new(m, at)), None));
    }
    let Ok(target) = Digest::try_from(content.target.as_slice()) else {
        let malformed = Some(Err(Why::Malformed));
        return Ok((None, AboutView::new(content, None, malformed)));
    };
    let thread = device.thread(conversation, &target).await?;
    let named = thread.items.iter().find(|item| item.digest == target);
    let (named, verdict) = (
        named.map(|item| item.sequence),
        thread.verdict(item.sequence),
    );
    Ok((None, AboutView::new(content, named, verdict)))
}

fn entry(item: &HistoryItem) -> Option<Entry<'_>> {
    Some(Entry {
        sequence: item.sequence,
        digest: item.digest,
        sender: &item.sender,
        sent_at: item.sent_at.get(),
        archived_at: item.archived_at.get(),
        content: item.content.as_ref()?,
    })
}

/// How far a device's user has been shown each conversation.
pub(crate) struct Shown {
    path: PathBuf,
    seen: BTreeMap<ConversationId, u64>,
}

impl Shown {
    /// Reads it; nothing has been shown when there is no file.
    pub(crate) fn open(held: &Held) -> Result<Self> {
        let folder = held.folder.join("shown");
        private_folder(&folder)?;
        let path = folder.join(format!("{}.json", held.device.id()));
        let seen = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Failure::failed(
                    "STORE_DAMAGED",
                    format_args!(
                        "{} is not understood: {error}; remove it, and everything is shown again",
                        path.display()
                    ),
                )
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Failure::io("read", &path, &error)),
        };
        Ok(Self { path, seen })
    }

    /// Number up to which a conversation was shown.
    pub(crate) fn up_to(&self, conversation: &ConversationId) -> u64 {
        self.seen.get(conversation).copied().unwrap_or(0)
    }

    /// Notes that it was shown up to a number, and keeps that.
    pub(crate) fn note(&mut self, conversation: ConversationId, sequence: u64) -> Result<()> {
        self.seen.insert(conversation, sequence);
        let bytes = serde_json::to_vec(&self.seen).map_err(|error| {
            Failure::because("OUTPUT", "what was shown cannot be noted", &error)
        })?;
        let next = self.path.with_extension("new");
        write(&next, &bytes)?;
        std::fs::rename(&next, &self.path)
            .map_err(|error| Failure::io("replace", &self.path, &error))
    }
}

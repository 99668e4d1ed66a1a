//! `greffe read` and `greffe watch`: what came for a user, verified and opened by their own device.

use std::path::PathBuf;

use clap::Args;
use greffe_client::Event;
use greffe_types::ConversationId;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::access::{AsUser, Held};
use super::device::KEY_PACKAGES;
use super::told::{ItemView, Shown, items, take_in, tell};
use crate::fail::{Failure, Result};
use crate::layout::private_folder;
use crate::output::{Output, narrate, print};

/// `greffe read`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe read --as bob                                                  what came since the last time\n  greffe read --as bob --conversation CONVERSATION --after 0            a conversation from its beginning\n  greffe read --as bob --conversation CONVERSATION --after 0 --history  with every version of every message\n  greffe read --as bob --save ./attachments\n\nIn JSON, an item's content is what was sent. A message that something is about has `history`: versions (the message first, last what is in force), retracted, reactions (text, by), and acts: everything about it in order, with applied, or not_applied and a reason. An edit, retraction or reaction has `about`: target, target_sequence, applied, not_applied."
)]
pub(crate) struct ReadArguments {
    #[command(flatten)]
    user: AsUser,
    /// This conversation only.
    #[arg(long, value_name = "CONVERSATION")]
    conversation: Option<ConversationId>,
    /// Everything after this number, whether it was shown before or not.
    #[arg(long, value_name = "NUMBER", requires = "conversation")]
    after: Option<u64>,
    /// At most this many items of a conversation.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Show every version of a message and everything about it: who edited, retracted or reacted, and when. JSON always says so.
    #[arg(long)]
    history: bool,
    /// Save attachments into this folder.
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,
}

/// `greffe watch`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  greffe watch --as bob            until interrupted; with --output json, one object a line"
)]
pub(crate) struct WatchArguments {
    #[command(flatten)]
    user: AsUser,
    /// This conversation only.
    #[arg(long, value_name = "CONVERSATION")]
    conversation: Option<ConversationId>,
    /// Save attachments into this folder.
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,
}

#[derive(Serialize)]
struct Came {
    items: Vec<ItemView>,
    /// Conversations whose notice has to be acknowledged before anything is delivered.
    to_acknowledge: Vec<String>,
    /// Conversations of which there is more than was asked for.
    more: Vec<String>,
}

/// Reads the mailbox and prints what was not shown yet.
pub(crate) async fn run(arguments: ReadArguments, output: Output) -> Result<()> {
    let held = arguments.user.open().await?;
    take_in(&held).await?;
    held.device.publish_key_packages(KEY_PACKAGES).await?;
    if let Some(folder) = &arguments.save {
        private_folder(folder)?;
    }
    let mut shown = Shown::open(&held)?;
    let limit = arguments.limit as usize;
    let mut came = Came {
        items: Vec::new(),
        to_acknowledge: Vec::new(),
        more: Vec::new(),
    };
    let mut notes = Vec::new();
    for id in chosen(&held, arguments.conversation).await? {
        let info = held.device.conversation(&id).await?;
        if !info.acknowledged && info.epoch > 0 {
            came.to_acknowledge.push(id.to_string());
        }
        let after = arguments.after.unwrap_or_else(|| shown.up_to(&id));
        let save = arguments.save.as_deref();
        let found = items(&held.device, &id, after, limit, save).await?;
        let Some(last) = found.last().map(|item| item.sequence) else {
            continue;
        };
        if last < info.sequence && found.len() == limit {
            came.more.push(id.to_string());
        }
        notes.push((id, last.max(shown.up_to(&id))));
        came.items.extend(found);
    }
    print(output, &came, |came| text(came, arguments.history))?;
    // Only what was printed has been shown.
    for (id, last) in notes {
        shown.note(id, last)?;
    }
    Ok(())
}

async fn chosen(held: &Held, only: Option<ConversationId>) -> Result<Vec<ConversationId>> {
    match only {
        // Says when it is not known.
        Some(id) => Ok(vec![held.device.conversation(&id).await?.conversation]),
        None => Ok(held.device.conversations().await?),
    }
}

fn text(came: &Came, all: bool) -> String {
    let mut text = String::new();
    let mut conversation = "";
    for item in &came.items {
        if item.conversation != conversation {
            conversation = &item.conversation;
            text.push_str(&format!("conversation {conversation}\n"));
        }
        text.push_str(&item.lines(all));
    }
    for id in &came.more {
        text.push_str(&format!("more in conversation {id}: read again\n"));
    }
    for id in &came.to_acknowledge {
        text.push_str(&format!(
            "conversation {id} waits for its notice to be acknowledged\n"
        ));
    }
    if text.is_empty() {
        text.push_str("nothing new\n");
    }
    text
}

/// Prints what comes until interrupted.
pub(crate) async fn watch(arguments: WatchArguments, output: Output) -> Result<()> {
    let caught =
        |error| Failure::failed("SIGNALS", format_args!("signals cannot be caught: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(caught)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(caught)?;
    let watching = async {
        let held = arguments.user.open().await?;
        if let Some(folder) = &arguments.save {
            private_folder(folder)?;
        }
        if let Some(id) = &arguments.conversation {
            held.device.conversation(id).await?;
        }
        follow(&held, &arguments, output).await
    };
    tokio::select! {
        ended = watching => ended,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn follow(held: &Held, arguments: &WatchArguments, output: Output) -> Result<()> {
    let mut shown = Shown::open(held)?;
    let mut receiver = held.device.receiver(0).await?;
    narrate(format_args!(
        "watching as {}; interrupt to end",
        super::form::one_line(held.device.user())
    ));
    loop {
        for id in chosen(held, arguments.conversation).await? {
            let save = arguments.save.as_deref();
            let after = shown.up_to(&id);
            let found = items(&held.device, &id, after, usize::MAX, save).await?;
            for item in &found {
                print(output, item, |item| {
                    format!("{} {}", item.conversation, item.lines(false))
                })?;
            }
            if let Some(last) = found.last() {
                shown.note(id, last.sequence)?;
            }
        }
        let events: Vec<Event> = receiver.next_batch().await?;
        events.iter().for_each(tell);
    }
}

//! `greffe send`: one message, done when the archive's receipt has been verified.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use greffe_client::{Outgoing, OutgoingAttachment, Source};
use greffe_envelope::limits::MAX_CONTENT;
use greffe_envelope::pb;
use greffe_types::{ConversationId, Digest};
use serde::Serialize;

use super::access::{AsUser, Held};
use super::form::time;
use super::told::take_in;
use crate::fail::{Failure, Result};
use crate::output::{Output, print};

/// `greffe send`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe send --as alice --conversation CONVERSATION --text 'The limit is 5 million.' --attach limits.pdf\n  greffe send --as alice --conversation CONVERSATION --edit DIGEST --text 'The limit is 6 million.'\n  greffe send --as alice --conversation CONVERSATION --retract DIGEST\n  greffe send --as bob --conversation CONVERSATION --react DIGEST --text Agreed\n  greffe send --as alice --conversation CONVERSATION < message.txt"
)]
pub(crate) struct SendArguments {
    #[command(flatten)]
    user: AsUser,
    /// The conversation.
    #[arg(long, value_name = "CONVERSATION")]
    conversation: ConversationId,
    /// The text; without it and --file, standard input, byte for byte.
    #[arg(long, conflicts_with = "file")]
    text: Option<String>,
    /// File with the text, byte for byte.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A file to attach; may be given several times.
    #[arg(long, value_name = "FILE")]
    attach: Vec<PathBuf>,
    /// Envelope digest of the message this one answers.
    #[arg(long, value_name = "DIGEST")]
    reply_to: Option<Digest>,
    /// Another version of an own message, by its envelope digest: the text is the new one. Earlier versions stay on record.
    #[arg(long, value_name = "DIGEST", group = "about", conflicts_with_all = ["attach", "reply_to"])]
    edit: Option<Digest>,
    /// Take an own message back, by its envelope digest. It stays on record.
    #[arg(long, value_name = "DIGEST", group = "about", conflicts_with_all = ["attach", "reply_to", "subject", "text", "file"])]
    retract: Option<Digest>,
    /// React to a message, by its envelope digest: --text is the sign, at most 64 bytes.
    #[arg(long, value_name = "DIGEST", group = "about", requires = "text", conflicts_with_all = ["attach", "reply_to", "subject"])]
    react: Option<Digest>,
    /// Take an own reaction back: --text is the sign.
    #[arg(long, value_name = "DIGEST", group = "about", requires = "text", conflicts_with_all = ["attach", "reply_to", "subject"])]
    unreact: Option<Digest>,
    /// Subject line; without it an edit keeps that of the version in force.
    #[arg(long)]
    subject: Option<String>,
    /// Record class of the policy pack; without it, the pack's class of messages.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
}

#[derive(Serialize)]
struct SentView {
    conversation: String,
    sequence: u64,
    envelope: String,
    archived_at: String,
    retain_until: String,
    head: String,
}

/// Sends and prints the receipt.
pub(crate) async fn run(arguments: SendArguments, output: Output) -> Result<()> {
    let attachments = arguments.attach.iter().map(|path| attachment(path));
    let attachments = attachments.collect::<Result<Vec<_>>>()?;
    let text = if arguments.retract.is_some() {
        Vec::new()
    } else {
        text(&arguments)?
    };
    let held = arguments.user.open().await?;
    // A message belongs to the epoch its sender knows, and an invitation may still wait in the mailbox.
    take_in(&held).await?;
    let (kind, target) = kind(&arguments);
    let outgoing = Outgoing {
        kind,
        target,
        subject: subject(&held, &arguments).await?,
        reply_to: arguments.reply_to,
        attachments,
        record_class: arguments.class,
        ..Outgoing::text(arguments.conversation, text)
    };
    let sent = held.device.send(outgoing).await?;
    let view = SentView {
        conversation: sent.conversation.to_string(),
        sequence: sent.sequence,
        envelope: sent.envelope.to_string(),
        archived_at: time(sent.receipt.archived_at),
        retain_until: time(sent.receipt.retain_until),
        head: super::form::hex(&sent.receipt.head),
    };
    print(output, &view, |view| {
        format!(
            "{} is number {}, archived {} and kept until {}\n",
            view.envelope, view.sequence, view.archived_at, view.retain_until
        )
    })
}

/// What is sent, and what it is about.
fn kind(arguments: &SendArguments) -> (pb::ContentKind, Option<Digest>) {
    let about = [
        (pb::ContentKind::Edit, arguments.edit),
        (pb::ContentKind::Retraction, arguments.retract),
        (pb::ContentKind::Reaction, arguments.react),
        (pb::ContentKind::ReactionRemoval, arguments.unreact),
    ];
    let named = about.into_iter().find(|(_, target)| target.is_some());
    named.unwrap_or((pb::ContentKind::Text, None))
}

/// The subject given; of an edit without one, that of the version in force.
async fn subject(held: &Held, arguments: &SendArguments) -> Result<String> {
    let (Some(target), None) = (&arguments.edit, &arguments.subject) else {
        return Ok(arguments.subject.clone().unwrap_or_default());
    };
    let thread = held.device.thread(&arguments.conversation, target).await?;
    let current = thread.message(target).map(|message| message.current());
    let content = current
        .and_then(|number| thread.item(number))
        .and_then(|item| item.content.as_ref());
    Ok(content.map_or_else(String::new, |content| content.subject.clone()))
}

fn text(arguments: &SendArguments) -> Result<Vec<u8>> {
    let (mut source, name): (Box<dyn std::io::Read>, &Path) =
        match (&arguments.text, &arguments.file) {
            (Some(text), _) => return Ok(text.clone().into_bytes()),
            (None, Some(path)) => {
                let file = std::fs::File::open(path)
                    .map_err(|error| Failure::io("read the text", path, &error))?;
                (Box::new(file), path)
            }
            (None, None) => (Box::new(std::io::stdin().lock()), Path::new("-")),
        };
    let mut text = Vec::new();
    // One byte more than fits says that it does not, whatever follows.
    (&mut source)
        .take(MAX_CONTENT + 1)
        .read_to_end(&mut text)
        .map_err(|error| Failure::io("read the text", name, &error))?;
    Ok(text)
}

fn attachment(path: &Path) -> Result<OutgoingAttachment> {
    let about = std::fs::metadata(path).map_err(|error| Failure::io("attach", path, &error))?;
    if !about.is_file() {
        return Err(Failure::usage(
            "ATTACHMENT_NOT_A_FILE",
            format_args!("{} is no file: attach files only", path.display()),
        ));
    }
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    Ok(OutgoingAttachment {
        name: name.unwrap_or_default(),
        media_type: media_type(path).to_owned(),
        source: Source::File(path.to_owned()),
    })
}

/// By the name's ending; what is not known is bytes.
fn media_type(path: &Path) -> &'static str {
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    match ending.as_deref() {
        Some("txt" | "log" | "md") => "text/plain",
        Some("csv") => "text/csv",
        Some("html" | "htm") => "text/html",
        Some("json") => "application/json",
        Some("pdf") => "application/pdf",
        Some("eml") => "message/rfc822",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("zip") => "application/zip",
        _ => "application/octet-stream",
    }
}

//! Conversations: users join when they first speak, every input message is sealed, archived, delivered and opened.

use std::collections::HashMap;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use greffe_client::{Device, Event, Outgoing, OutgoingAttachment, Pending, Source};
use greffe_envelope::pb;
use greffe_types::{ConversationId, Digest, UserId};
use indicatif::ProgressBar;

use super::cast::Cast;
use super::input::{Input, Message, Refusal};
use crate::fail::{Failure, Result};
use crate::output::{narrate, progress};

/// Devices that read their mailboxes at the same time.
const READERS: usize = 4;
/// Language in which notices are shown and acknowledged.
const LANGUAGE: &str = "en";

/// What was counted, and everything that was sent.
pub(super) struct Played {
    /// Who took part.
    pub(super) cast: Cast,
    /// Users.
    pub(super) users: usize,
    /// Conversations with at least one message.
    pub(super) conversations: usize,
    /// Every message that has a receipt, with its envelope, in the order of the input.
    pub(super) sent: Vec<(Message, Digest)>,
    /// What was not sent.
    pub(super) refusals: Vec<Refusal>,
    /// Messages opened by others.
    pub(super) delivered: u64,
    /// Journal wraps recomputed.
    pub(super) wraps: u64,
    /// Receipts verified.
    pub(super) receipts: u64,
}

/// Plays an input.
pub(super) async fn play(cast: Cast, input: Input) -> Result<Played> {
    let bar = progress(input.messages() as u64, "sending");
    let mut stage = Stage {
        cast,
        sent: Vec::with_capacity(input.messages()),
        refusals: input.refusals,
        tally: Tally::default(),
        bar,
    };
    let mut conversations = 0;
    for (_, messages) in input.conversations {
        if stage.converse(messages).await? {
            conversations += 1;
        }
    }
    stage.bar.finish_and_clear();
    narrate(format_args!(
        "{} messages are archived; everybody reads the rest of their mail",
        stage.sent.len()
    ));
    stage.read_everything().await?;
    stage.tally.compare(&stage.sent)?;
    Ok(Played {
        users: stage.cast.devices().len(),
        conversations,
        delivered: stage.tally.received.len() as u64,
        wraps: stage.tally.wraps,
        receipts: stage.tally.received.len() as u64 + stage.sent.len() as u64,
        cast: stage.cast,
        sent: stage.sent,
        refusals: stage.refusals,
    })
}

struct Stage {
    cast: Cast,
    sent: Vec<(Message, Digest)>,
    refusals: Vec<Refusal>,
    tally: Tally,
    bar: ProgressBar,
}

/// A conversation that is going on.
struct Room {
    id: ConversationId,
    host: Device,
    /// Members, each with the number of commits they know to have taken effect.
    members: HashMap<String, u64>,
    commits: u64,
    /// Messages on their way.
    pending: Vec<(Message, Pending)>,
}

impl Stage {
    /// Plays one conversation; false when none of its messages could be sent.
    async fn converse(&mut self, messages: Vec<Message>) -> Result<bool> {
        let mut messages = messages.into_iter();
        let Some(first) = messages.next() else {
            return Ok(false);
        };
        let host = self.cast.device(&first.sender).await?;
        let id = host.create(pb::Mode::Journaled).await?;
        host.acknowledge(&id, LANGUAGE).await?;
        let mut room = Room {
            id,
            members: HashMap::from([(first.sender.clone(), 0)]),
            host,
            commits: 0,
            pending: Vec::new(),
        };
        self.speak(&mut room, first).await?;
        for message in messages {
            self.speak(&mut room, message).await?;
        }
        self.settle(&mut room).await?;
        Ok(true)
    }

    async fn speak(&mut self, room: &mut Room, message: Message) -> Result<()> {
        if !room.members.contains_key(&message.sender) {
            self.admit(room, &message.sender).await?;
        }
        let device = self.cast.device(&message.sender).await?;
        let known = room.members.get_mut(&message.sender);
        if let Some(known) = known
            && *known < room.commits
        {
            // Others have joined since: a message belongs to the epoch that its sender knows.
            self.tally.take(&device, device.catch_up().await?)?;
            *known = room.commits;
        }
        let sender = device.sender().await?;
        match sender.send(outgoing(room.id, &message)).await {
            Ok(pending) => room.pending.push((message, pending)),
            Err(error) => self.refuse(message, error.reason()),
        }
        Ok(())
    }

    /// Lets a user in: invited by the host, shown the notice, acknowledged.
    async fn admit(&mut self, room: &mut Room, user: &str) -> Result<()> {
        self.settle(room).await?;
        let device = self.cast.device(user).await?;
        let name = UserId::new(user)
            .map_err(|error| Failure::refused("USER_NAME", format_args!("{user:?}: {error}")))?;
        room.host.invite(&room.id, &[name]).await?;
        room.commits += 1;
        self.tally.take(&device, device.catch_up().await?)?;
        device.acknowledge(&room.id, LANGUAGE).await?;
        room.members.insert(user.to_owned(), room.commits);
        if let Some(host) = room.members.get_mut(room.host.user()) {
            *host = room.commits;
        }
        Ok(())
    }

    /// Waits for the receipts of everything on its way.
    async fn settle(&mut self, room: &mut Room) -> Result<()> {
        for (message, pending) in core::mem::take(&mut room.pending) {
            match pending.await {
                Ok(sent) => {
                    self.bar.inc(1);
                    self.sent.push((message, sent.envelope));
                }
                Err(error) if error.is_retryable() => return Err(error.into()),
                Err(error) => self.refuse(message, error.reason()),
            }
        }
        Ok(())
    }

    fn refuse(&mut self, message: Message, reason: &str) {
        self.bar.inc(1);
        self.refusals.push(Refusal {
            item: message.item,
            reason: reason.to_owned(),
        });
    }

    async fn read_everything(&mut self) -> Result<()> {
        let devices = self.cast.devices();
        let bar = progress(devices.len() as u64, "delivering");
        let mut waiting = devices.into_iter();
        let mut reading = FuturesUnordered::new();
        loop {
            while reading.len() < READERS
                && let Some(device) = waiting.next()
            {
                reading.push(async move {
                    let events = device.catch_up().await;
                    (device, events)
                });
            }
            let Some((device, events)) = reading.next().await else {
                break;
            };
            self.tally.take(&device, events?)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }
}

fn outgoing(conversation: ConversationId, message: &Message) -> Outgoing {
    Outgoing {
        kind: if message.is_mail {
            pb::ContentKind::Mail
        } else {
            pb::ContentKind::Text
        },
        subject: message.subject.clone(),
        unknown_sender: message.unknown_sender,
        attachments: message
            .files
            .iter()
            .map(|file| OutgoingAttachment {
                name: file.name.clone(),
                media_type: file.media_type.clone(),
                source: Source::Bytes(file.bytes.as_slice().into()),
            })
            .collect(),
        ..Outgoing::text(conversation, message.text.clone())
    }
}

/// What recipients saw.
#[derive(Default)]
struct Tally {
    /// Envelope and digest of what was opened, once a delivery.
    received: Vec<(Digest, [u8; 32])>,
    wraps: u64,
}

impl Tally {
    /// Counts a device's events; anything that should not happen ends the demonstration.
    fn take(&mut self, device: &Device, events: Vec<Event>) -> Result<()> {
        for event in events {
            match event {
                Event::Message(message) => {
                    self.wraps += message.wraps_recomputed as u64;
                    self.received
                        .push((message.envelope, fingerprint(&message.content)));
                }
                Event::Own { .. }
                | Event::Invited { .. }
                | Event::Changed { .. }
                | Event::CaughtUp => {}
                other => {
                    return Err(Failure::refused(
                        "UNEXPECTED_EVENT",
                        format_args!("the device of {} saw {other:?}", device.user()),
                    ));
                }
            }
        }
        Ok(())
    }

    /// What was opened is what was sent.
    fn compare(&self, sent: &[(Message, Digest)]) -> Result<()> {
        let expected: HashMap<Digest, [u8; 32]> = sent
            .iter()
            .map(|(message, envelope)| (*envelope, expected(message)))
            .collect();
        for (envelope, found) in &self.received {
            if expected.get(envelope) != Some(found) {
                return Err(Failure::unverified(
                    "DELIVERED_DIFFERS",
                    format_args!("envelope {envelope} was opened as something else than was sent"),
                ));
            }
        }
        Ok(())
    }
}

/// SHA-256 over what a member sees of a message, attachments by size.
fn fingerprint(content: &pb::Content) -> [u8; 32] {
    let sizes = content
        .attachments
        .iter()
        .map(|a| (a.name.as_str(), a.size));
    digest_of(content.subject.as_bytes(), &content.text, sizes)
}

fn expected(message: &Message) -> [u8; 32] {
    let sizes = message
        .files
        .iter()
        .map(|file| (file.name.as_str(), file.bytes.len() as u64));
    digest_of(message.subject.as_bytes(), &message.text, sizes)
}

fn digest_of<'a>(
    subject: &[u8],
    text: &[u8],
    attachments: impl Iterator<Item = (&'a str, u64)>,
) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in [subject, text] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    for (name, size) in attachments {
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name.as_bytes());
        hash.update(size.to_be_bytes());
    }
    hash.finalize().into()
}

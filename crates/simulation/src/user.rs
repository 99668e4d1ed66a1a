//! A user's application: it reads its mailbox, acknowledges what it is shown, and does what it is told.

use core::time::Duration;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use greffe_client::{Client, ClientStore, Connection, ConversationState, Device, Event, Outgoing};
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::ISSUER;
use greffe_service_kit::clock::SystemClock;
use greffe_types::{ConversationId, Millis, UserId};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep;

use crate::ledger::{Item, Ledger};
use crate::process::Life;
use crate::tenant;
use crate::trace::Trace;

/// How long a call is tried again.
const PATIENCE: Duration = Duration::from_secs(20);
/// Before something that failed is begun again.
const PAUSE: Duration = Duration::from_secs(1);

/// What a user is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Send a text.
    Send(ConversationId, String),
    /// Have somebody join.
    Invite(ConversationId, &'static str),
    /// Have somebody leave.
    Remove(ConversationId, &'static str),
    /// Replace the own keys.
    Update(ConversationId),
    /// Say how far the conversation was taken in.
    Report(ConversationId),
}

/// What an application shares with the simulation.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// What was told.
    pub(crate) ledger: Arc<Ledger>,
    /// What happened.
    pub(crate) trace: Arc<Trace>,
}

/// Opens the client of an application's folder.
///
/// # Errors
/// When settings or folder are refused.
pub(crate) async fn open(base: &Path, name: &str) -> Result<Client> {
    let connection = Connection::open(&tenant::connection(base, name))?.with_patience(PATIENCE);
    let store = ClientStore::open(&tenant::data(base, name), &tenant::tenant()).await?;
    Ok(Client::open(connection, store, Arc::new(SystemClock)).await?)
}

/// Makes a user's device, which others can invite.
///
/// # Errors
/// What a service refuses.
pub(crate) async fn enrol(client: &Client, user: &str) -> Result<Device> {
    let enrolment = client
        .enrol(&UserId::new(user)?, Millis::new(4_000_000_000_000))
        .await?;
    let certificate = Signed::sign(enrolment.certificate, &[(ISSUER, &tenant::issuer())]);
    let device = client.register(certificate.into_raw()).await?;
    device.publish_key_packages(8).await?;
    Ok(device)
}

/// Runs until there is nobody who tells it anything.
pub(crate) fn live(
    base: &Path,
    name: &'static str,
    shared: Shared,
    mut commands: UnboundedReceiver<Command>,
) -> Life {
    let base = base.to_owned();
    Box::pin(async move {
        let device = loop {
            match device(&base, name).await {
                Ok(device) => break device,
                Err(error) => shared
                    .trace
                    .note(name, format_args!("cannot open: {error:#}")),
            }
            sleep(PAUSE).await;
        };
        shared.trace.note(name, format_args!("is there"));
        tokio::spawn(receive(device.clone(), name, shared.clone()));
        tokio::spawn(send_what_is_left(device.clone()));
        while let Some(command) = commands.recv().await {
            tokio::spawn(obey(device.clone(), name, shared.clone(), command));
        }
        Ok(())
    })
}

/// What was sealed before a crash goes out again, and whatever is sealed later: while a sender is open, all are the same.
async fn send_what_is_left(device: Device) {
    loop {
        if let Ok(sender) = device.sender().await {
            std::future::pending::<()>().await;
            drop(sender);
        }
        sleep(PAUSE).await;
    }
}

async fn device(base: &Path, name: &str) -> Result<Device> {
    let client = open(base, name).await?;
    let held = client.devices().await?;
    let first = held.first().ok_or_else(|| anyhow::anyhow!("no device"))?;
    Ok(client.device(&first.device).await?)
}

async fn obey(device: Device, name: &'static str, shared: Shared, command: Command) {
    let outcome = match &command {
        Command::Report(id) => {
            report(&device, name, &shared, id).await;
            return;
        }
        Command::Send(id, text) => {
            let sent = device.send(Outgoing::text(*id, text.as_str())).await;
            sent.map(|sent| {
                let item = Item {
                    conversation: sent.conversation,
                    sequence: sent.sequence,
                    envelope: sent.envelope,
                };
                shared.ledger.told().sent.push((item, text.clone()));
                format!("sent {text:?} as {}", sent.sequence)
            })
        }
        Command::Invite(id, who) => invite(&device, id, who)
            .await
            .map(|()| format!("invited {who}")),
        Command::Remove(id, who) => remove(&device, id, who)
            .await
            .map(|()| format!("removed {who}")),
        Command::Update(id) => device.update_keys(id).await.map(|()| "new keys".to_owned()),
    };
    match outcome {
        Ok(done) => shared.trace.note(name, format_args!("{done}")),
        Err(error) => shared
            .trace
            .note(name, format_args!("{}: {}", kind(&command), error.reason())),
    }
}

async fn report(device: &Device, name: &'static str, shared: &Shared, id: &ConversationId) {
    // What a call left without an answer is done by the next call, whichever that is.
    if let Err(error) = device.resume().await {
        shared
            .trace
            .note(name, format_args!("resume: {}", error.reason()));
    }
    // Nobody who was never invited knows the conversation.
    let info = device.conversation(id).await.ok();
    let mut told = shared.ledger.told();
    if let Some(info) = info
        .as_ref()
        .filter(|i| i.state == ConversationState::Broken)
    {
        let why = &info.reason;
        told.broken
            .push(format!("P7: the conversation is broken for {name}: {why}"));
    }
    let taken = info.filter(|info| info.state == ConversationState::Active);
    told.reported.insert(name, taken.map(|info| info.sequence));
}

fn kind(command: &Command) -> &'static str {
    match command {
        Command::Send(..) => "send",
        Command::Invite(..) => "invite",
        Command::Remove(..) => "remove",
        Command::Update(_) => "update",
        Command::Report(_) => "report",
    }
}

async fn invite(device: &Device, id: &ConversationId, who: &str) -> greffe_client::Result<()> {
    let Ok(user) = UserId::new(who) else {
        return Ok(());
    };
    device.invite(id, &[user]).await.map(drop)
}

async fn remove(device: &Device, id: &ConversationId, who: &str) -> greffe_client::Result<()> {
    let Ok(user) = UserId::new(who) else {
        return Ok(());
    };
    device.remove(id, &[user]).await.map(drop)
}

async fn receive(device: Device, name: &'static str, shared: Shared) {
    loop {
        if let Err(error) = read(&device, name, &shared).await {
            shared
                .trace
                .note(name, format_args!("mailbox: {}", error.reason()));
        }
        sleep(PAUSE).await;
    }
}

async fn read(device: &Device, name: &'static str, shared: &Shared) -> greffe_client::Result<()> {
    for id in device.conversations().await? {
        acknowledge(device, id);
    }
    let mut receiver = device.receiver(0).await?;
    loop {
        for event in receiver.next_batch().await? {
            heard(device, name, shared, event);
        }
    }
}

fn heard(device: &Device, name: &'static str, shared: &Shared, event: Event) {
    let mut told = shared.ledger.told();
    match event {
        Event::Message(message) => {
            let item = Item {
                conversation: message.conversation,
                sequence: message.sequence,
                envelope: message.envelope,
            };
            let text = String::from_utf8_lossy(&message.content.text).into_owned();
            if told.wanted.get(&text).copied() != Some(message.sender.as_str()) {
                let from = &message.sender;
                let problem =
                    format!("{name} was shown {text:?} from {from}, who did not write it");
                told.broken.push(problem);
            }
            if message.wraps_recomputed == 0 {
                let problem = format!("P4: {name} was shown {text:?} and recomputed no wrap");
                told.broken.push(problem);
            }
            shared.trace.note(
                name,
                format_args!("is shown {text:?} at {}", message.sequence),
            );
            told.shown.push((name, item, text));
        }
        Event::Invited {
            conversation,
            sequence,
            ..
        } => {
            shared
                .trace
                .note(name, format_args!("joined at {sequence}"));
            acknowledge(device, conversation);
        }
        Event::Changed {
            conversation,
            sequence,
            disclosure,
            ..
        } => {
            shared
                .trace
                .note(name, format_args!("changed at {sequence}"));
            if disclosure.is_some() {
                acknowledge(device, conversation);
            }
        }
        // Nobody cheats in these simulations: whatever is withheld was made wrong on its way.
        Event::Withheld {
            sequence, reason, ..
        } => {
            let problem = format!("P4: {sequence} was withheld from {name}: {reason}");
            told.broken.push(problem);
        }
        Event::Refused {
            sequence, reason, ..
        } => {
            let problem = format!("P4: {name} refused {sequence}: {reason}");
            told.broken.push(problem);
        }
        Event::Resynchronised {
            expected, found, ..
        } => {
            let problem = format!("P7: {name} was given {found} in the place of {expected}");
            told.broken.push(problem);
        }
        other => shared.trace.note(name, format_args!("{}", brief(&other))),
    }
}

fn brief(event: &Event) -> String {
    match event {
        Event::Own { sequence, .. } => format!("has its own {sequence}"),
        Event::Removed { sequence, .. } => format!("was removed at {sequence}"),
        Event::Void {
            sequence, reason, ..
        } => format!("void at {sequence}: {reason}"),
        Event::NotSent { reason, .. } => format!("not sent: {reason}"),
        _ => "has caught up".to_owned(),
    }
}

/// Until it is in the log, or the device is no member any more.
fn acknowledge(device: &Device, id: ConversationId) {
    let device = device.clone();
    tokio::spawn(async move {
        while let Err(error) = device.acknowledge(&id, "en").await {
            if !error.is_retryable() {
                return;
            }
            sleep(PAUSE).await;
        }
    });
}

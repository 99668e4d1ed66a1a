//! Follows the log: trust bundles, journaling keys, share epochs, disclosures and the creation of conversations come to the
//! archive this way and no other. What is not validly signed is ignored, and said.

use std::sync::Arc;

use greffe_envelope::pb::{self, log_entry::Event};
use greffe_envelope::trust::Applied;
use greffe_service_kit::errors::Causes;
use greffe_service_kit::follow::{self, FollowError, FollowState, Followed, Follower};
use greffe_service_kit::health::Condition;
use greffe_types::{ConversationId, Digest};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::ArchiveError;
use crate::jobs::disposition;
use crate::store::{conversations, followed};

/// Takes in again what was followed before a restart, by this process or another, and gives how far that was.
///
/// # Errors
/// [`ArchiveError`]; [`ArchiveError::Damaged`] when a statement that was once believed no longer is.
pub async fn restore(app: &App) -> Result<FollowState, ArchiveError> {
    // Of one moment: another replica may be moving on.
    let mut tx = app.db.read().begin().await?;
    let state = followed::state(&mut *tx, &app.scope).await?;
    for (index, statement) in followed::statements(&mut *tx, &app.scope).await? {
        app.trust
            .write()
            // The file may name a newer first bundle by now than the ones that were stored.
            .recall(&statement, index)
            .map_err(|_| ArchiveError::Damaged("a statement of the log is no longer believed"))?;
    }
    Ok(state)
}

/// Where following goes on.
///
/// # Errors
/// When the stored state cannot be one.
pub async fn follower(app: &App, log: Condition) -> Result<Follower, ArchiveError> {
    let state = restore(app).await?;
    Follower::new(
        app.audit.clone(),
        app.trust.clone(),
        app.clock.clone(),
        state,
    )
    .map(|follower| follower.with_condition(log))
    .map_err(|_: FollowError| ArchiveError::Damaged("the state of following the log"))
}

/// Runs until the service stops.
pub async fn run(app: Arc<App>, follower: Follower, stop: CancellationToken) {
    let work = follow::run(follower, |leaves| {
        let app = app.clone();
        async move { take_in(&app, &leaves).await }
    });
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// Takes leaves in, and notes how far the log is followed, in one transaction.
///
/// # Errors
/// [`ArchiveError`]; the same leaves again change nothing twice.
pub async fn take_in(app: &App, leaves: &Followed) -> Result<(), ArchiveError> {
    if leaves.leaves.is_empty() {
        return Ok(());
    }
    let (mut kept, mut created, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (_, entry)) in (leaves.start..).zip(&leaves.leaves) {
        match &entry.event {
            Some(Event::Statement(statement)) if apply(app, index, statement) => {
                kept.push((index, statement));
            }
            Some(Event::Conversation(conversation)) if entry.recorded_by == "relay" => {
                created.extend(parse(conversation));
            }
            Some(Event::Tombstone(tombstone)) if entry.recorded_by == "archive" => {
                gone.push((tombstone, entry.at));
            }
            _ => {}
        }
        app.note_logged_at(entry.at);
    }
    app.write("follow", async |conn| {
        for (index, statement) in &kept {
            followed::keep(conn, &app.scope, *index, statement).await?;
        }
        for (conversation, disclosure) in &created {
            conversations::create(conn, &app.scope, conversation, disclosure).await?;
        }
        for (tombstone, at) in &gone {
            disposition::again(app, conn, tombstone, *at).await?;
        }
        Ok(followed::save_state(conn, &app.scope, &leaves.state).await?)
    })
    .await
}

/// Whether trust rests on a statement from now on.
fn apply(app: &App, index: u64, statement: &pb::SignedStatement) -> bool {
    match app.trust.write().apply(statement, index) {
        Ok(Applied::New) => {
            tracing::info!(index, kind = statement.r#type, "in force from the log");
            true
        }
        Ok(Applied::Known) => true,
        Ok(Applied::Other) => false,
        Err(error) => {
            tracing::warn!(
                index, kind = statement.r#type, causes = %Causes(&error), "a logged statement is ignored"
            );
            false
        }
    }
}

fn parse(created: &pb::ConversationCreated) -> Option<(ConversationId, Digest)> {
    let conversation = ConversationId::try_from(created.conversation.as_slice()).ok()?;
    Some((
        conversation,
        Digest::try_from(created.disclosure.as_slice()).ok()?,
    ))
}

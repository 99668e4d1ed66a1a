//! Commits: checked against the observer, sequenced as items of their own, undone when the archive refuses them.

use std::sync::Arc;

use greffe_envelope::chain::handshake_digest;
use greffe_envelope::pb;
use greffe_mls::{Frame, FrameKind, Refusal, limits};
use greffe_types::{ConversationId, DeviceId, Digest};
use sqlx::SqliteConnection;

use super::App;
use crate::conversations::State;
use crate::error::RelayError;
use crate::pipeline::{Answered, Pipeline};
use crate::session::Session;
use crate::store::commits::CommitExtra;
use crate::store::conversations::GroupState;
use crate::store::items::{Kind, NewItem};
use crate::store::members::MemberRow;
use crate::store::{Scope, commits, conversations, items, members};

/// A commit as a device hands it over.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The conversation.
    pub conversation: ConversationId,
    /// Exact bytes of the PublicMessage.
    pub commit: Vec<u8>,
    /// MLS Welcome, empty when nobody is added.
    pub welcome: Vec<u8>,
    /// Ratchet tree for the joiners, when it is not in the Welcome.
    pub ratchet_tree: Vec<u8>,
}

/// A checked commit, ready to take a number. The pipeline writes [`Commit::item`] and [`Commit::write`] in one
/// transaction, and afterwards [`settle`] or [`undo`] in the one that stores the archive's answer.
#[derive(Debug)]
pub struct Commit {
    /// The conversation.
    pub conversation: ConversationId,
    /// Who made it.
    pub device: DeviceId,
    /// Certificate of the session.
    pub certificate: Digest,
    /// Exact bytes of the PublicMessage: the item's payload.
    pub public_message: Vec<u8>,
    /// Handshake digest.
    pub digest: Digest,
    /// The epoch that it ends.
    pub epoch: u64,
    /// Group state after it.
    pub next: GroupState,
    /// The disclosure in force after it, for the archive.
    pub disclosure: pb::SignedStatement,
    extra: CommitExtra,
    added: Vec<(DeviceId, String, Digest)>,
    removed: Vec<DeviceId>,
    renewed: Vec<(DeviceId, Digest, Digest)>,
}

impl Commit {
    /// The item with its number.
    pub fn item(&self, sequence: u64) -> NewItem {
        NewItem {
            conversation: self.conversation,
            sequence,
            kind: Kind::Handshake,
            digest: self.digest,
            message_id: None,
            device: self.device,
            certificate: self.certificate,
            epoch: self.epoch,
            disclosure: self.extra.disclosure,
        }
    }

    /// Writes everything but the item: group state, members, and what is needed to undo it.
    ///
    /// # Errors
    /// The database's.
    pub async fn write(
        &self,
        conn: &mut SqliteConnection,
        scope: &Scope,
        sequence: u64,
    ) -> sqlx::Result<()> {
        let id = &self.conversation;
        commits::insert(conn, scope, id, sequence, &self.extra).await?;
        conversations::set_group(conn, scope, id, &self.next).await?;
        for device in &self.removed {
            members::close(conn, scope, id, device, sequence).await?;
        }
        for (device, user, certificate) in &self.added {
            // a device that comes back goes on counting where it stopped
            let earlier = members::stays(&mut *conn, scope, device, Some(id)).await?;
            let last = earlier.last();
            let row = MemberRow {
                conversation: *id,
                device: *device,
                user: user.clone(),
                certificate: *certificate,
                from_seq: sequence,
                until_seq: None,
                counter: last.map_or(0, |stay| stay.counter),
                previous: last.map_or(Digest::ZERO, |stay| stay.previous),
                cursor: sequence.saturating_sub(1),
            };
            members::insert(conn, scope, &row).await?;
        }
        for (device, before, after) in &self.renewed {
            commits::insert_renewal(conn, scope, id, sequence, device, before).await?;
            members::set_certificate(conn, scope, id, device, after).await?;
        }
        Ok(())
    }

    /// Devices that get it, and those that its Welcome is for.
    pub fn added(&self) -> impl Iterator<Item = &DeviceId> {
        self.added.iter().map(|(device, _, _)| device)
    }
}

/// The archive has taken a commit: nothing has to be kept for undoing it.
///
/// # Errors
/// The database's.
pub async fn settle(
    conn: &mut SqliteConnection,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<()> {
    commits::settle(conn, scope, conversation, sequence).await
}

/// The archive has refused a commit: the group is again what it was before it. Invalidate the conversation afterwards.
///
/// # Errors
/// The database's.
pub async fn undo(
    conn: &mut SqliteConnection,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<()> {
    let Some(extra) = commits::get(&mut *conn, scope, conversation, sequence).await? else {
        return Ok(());
    };
    members::undo(conn, scope, conversation, sequence).await?;
    for (device, before) in commits::renewals(&mut *conn, scope, conversation, sequence).await? {
        members::set_certificate(conn, scope, conversation, &device, &before).await?;
    }
    let state = GroupState {
        epoch: extra.epoch,
        observer: extra.observer,
        disclosure: extra.disclosure,
        mode: extra.mode,
    };
    conversations::set_group(conn, scope, conversation, &state).await?;
    commits::settle(conn, scope, conversation, sequence).await
}

impl App {
    /// Sequences a commit and waits for the archive. The same bytes again are answered from what is stored.
    ///
    /// # Errors
    /// [`RelayError`]; nothing was sequenced then, except for [`RelayError::Voided`].
    pub async fn submit_commit(
        self: &Arc<Self>,
        pipeline: &Pipeline,
        session: &Session,
        submitted: Submitted,
    ) -> Result<Answered, RelayError> {
        let digest = handshake_digest(&submitted.commit);
        if let Some(answered) = self.retried(pipeline, session, &submitted, &digest).await? {
            return Ok(answered);
        }
        let app = self.clone();
        let (pipeline, session) = (pipeline.clone(), session.clone());
        // a task of its own: a caller that goes away must not leave a commit half way
        let task = tokio::spawn(async move {
            let mut state = app
                .lock_as_member(&submitted.conversation, &session)
                .await?;
            let commit = app
                .check_commit(&state, &session, submitted, digest)
                .await?;
            state.stale = true;
            let waiting = pipeline.submit_commit(&mut state, commit).await?;
            drop(state);
            waiting.await
        });
        task.await
            .map_err(|_| RelayError::Damaged("a task stopped"))?
    }

    /// Answers a commit that was sequenced before.
    async fn retried(
        &self,
        pipeline: &Pipeline,
        session: &Session,
        submitted: &Submitted,
        digest: &Digest,
    ) -> Result<Option<Answered>, RelayError> {
        let Some(known) = items::by_digest(self.db.read(), &self.scope, digest).await? else {
            return Ok(None);
        };
        if known.conversation != submitted.conversation || known.device != session.device {
            return Err(RelayError::Committer);
        }
        let id = &known.conversation;
        let extra = commits::get(self.db.read(), &self.scope, id, known.sequence).await?;
        if extra
            .is_some_and(|extra| !extra.welcome.is_empty() && extra.welcome != submitted.welcome)
        {
            return Err(RelayError::Conflict);
        }
        pipeline.answer_of(&known).await.map(Some)
    }

    async fn check_commit(
        &self,
        state: &State,
        session: &Session,
        submitted: Submitted,
        digest: Digest,
    ) -> Result<Commit, RelayError> {
        let now = self.now();
        if state.pending_commit.is_some() {
            return Err(RelayError::CommitPending);
        }
        if submitted.welcome.len() > limits::WELCOME {
            return Err(RelayError::Field("welcome"));
        }
        if submitted.ratchet_tree.len() > limits::WELCOME {
            return Err(RelayError::Field("ratchet_tree"));
        }
        let frame = Frame::parse(&submitted.commit).map_err(RelayError::Commit)?;
        if !matches!(frame.kind, FrameKind::Handshake { .. }) {
            return Err(RelayError::Field("commit"));
        }
        let (mut observer, before) = (state.observer.clone(), state.observer.encode()?);
        let bytes = submitted.commit;
        // a commit that adds a thousand devices takes a hundred milliseconds: not on a thread that serves others
        let (observer, committed, bytes) = tokio::task::spawn_blocking(move || {
            let committed = observer.handshake(&bytes, now);
            (observer, committed, bytes)
        })
        .await
        .map_err(|_| RelayError::Damaged("a task stopped"))?;
        let committed = committed.map_err(|refusal| match refusal {
            Refusal::Epoch { current, .. } => RelayError::EpochStale { current },
            other => RelayError::Commit(other),
        })?;
        if committed.committer.device != session.device {
            return Err(RelayError::Committer);
        }
        if submitted.welcome.is_empty() != committed.added.is_empty()
            || (committed.added.is_empty() && !submitted.ratchet_tree.is_empty())
        {
            return Err(RelayError::Welcome);
        }
        let added = committed
            .added
            .iter()
            .map(|member| {
                let cert = self.devices.valid(&member.certificate, now)?;
                Ok((member.device, cert.user.clone(), member.certificate))
            })
            .collect::<Result<Vec<_>, RelayError>>()?;
        let renewed = committed
            .renewed
            .iter()
            .map(|member| {
                let cert = self.devices.valid(&member.certificate, now)?;
                let row = state.members.get(&member.device);
                match row {
                    Some(row) if row.user == cert.user => {
                        Ok((member.device, row.certificate, member.certificate))
                    }
                    _ => Err(RelayError::DeviceUser),
                }
            })
            .collect::<Result<Vec<_>, RelayError>>()?;
        let info = observer.disclosure();
        let disclosure = self.disclosure(&info.digest)?;
        if committed.disclosure.is_some() {
            self.check_mode(&disclosure)?;
            let verifier = &self.conversations.trust().disclosures;
            let current = verifier.verify_current(info);
            current.map_err(|why| RelayError::Commit(Refusal::Disclosure(why)))?;
        }
        Ok(Commit {
            conversation: state.id,
            device: session.device,
            certificate: session.certificate,
            public_message: bytes,
            digest,
            epoch: frame.epoch,
            next: GroupState {
                epoch: committed.epoch,
                observer: observer.encode()?,
                disclosure: info.digest,
                mode: info.mode as i32,
            },
            disclosure: disclosure.signed().raw().clone(),
            extra: CommitExtra {
                welcome: submitted.welcome,
                ratchet_tree: submitted.ratchet_tree,
                observer: before,
                epoch: frame.epoch,
                disclosure: state.disclosure,
                mode: state.mode,
            },
            added,
            removed: committed.removed.iter().map(|m| m.device).collect(),
            renewed,
        })
    }
}

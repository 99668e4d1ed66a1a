//! Numbers: whatever waits gets its own in ONE transaction, together with the outbox to the archive.
//!
//! Everything that could have changed since the check is looked at again inside the transaction, so two commits of one
//! epoch, two bodies under one message id, or a message behind the commit that ends its epoch cannot both get a number: not at
//! one replica, and not at two.

use std::sync::Arc;

use greffe_service_kit::db::Connection;
use greffe_types::{ConversationId, DeviceId, Digest};
use tokio::sync::{mpsc, oneshot};

use super::batch::{Batch, Verdict};
use super::check::Checked;
use super::fair::Place;
use super::load::Room;
use super::{Answer, Commit, Core};
use crate::error::RelayError;
use crate::replicas;
use crate::session::Session;

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

pub(super) enum Work {
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
    pub(super) fn conversation(&self) -> ConversationId {
        match self {
            Self::Message(message) => message.item.conversation,
            Self::Commit(commit) => commit.conversation,
        }
    }

    pub(super) fn digest(&self) -> Digest {
        match self {
            Self::Message(message) => message.item.digest,
            Self::Commit(commit) => commit.digest(),
        }
    }

    pub(super) fn device(&self) -> DeviceId {
        match self {
            Self::Message(message) => message.item.device,
            Self::Commit(commit) => commit.device,
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
            let mut batch = Batch::load(core, conn, &works).await?;
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

//! Commits: checked against the observer, then handed to the pipeline.

use std::sync::Arc;

use greffe_envelope::chain::handshake_digest;
use greffe_mls::{MlsError, Observer, Refusal, limits};
use greffe_types::{ConversationId, Digest};

use super::App;
use crate::error::RelayError;
use crate::pipeline::{AddedMember, Commit, Settled, void_reason};
use crate::session::Session;
use crate::store::commits::{self, CommitExtra};
use crate::store::conversations::{self, GroupState};
use crate::store::items;

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

impl App {
    /// Sequences a commit and waits for the archive. The same bytes again answer the same.
    ///
    /// # Errors
    /// [`RelayError`]; nothing was sequenced then, except for [`RelayError::Voided`].
    pub async fn submit_commit(
        self: &Arc<Self>,
        session: &Session,
        submitted: Submitted,
    ) -> Result<Arc<Settled>, RelayError> {
        let digest = handshake_digest(&submitted.commit);
        let id = submitted.conversation;
        let welcome = submitted.welcome.clone();
        if let Some(known) = self.known_commit(session, id, digest, &welcome).await? {
            return Ok(known);
        }
        let commit = match self.check_commit(session, submitted).await {
            Ok(commit) => commit,
            // the other may be this very commit, sent twice at once: to call it stale would say that it never happened
            Err(stale @ RelayError::EpochStale { .. }) => {
                let known = self.known_commit(session, id, digest, &welcome).await?;
                return known.ok_or(stale);
            }
            Err(error) => return Err(error),
        };
        // judged against the state that was read: the sequencer refuses it as stale when another commit came in between
        self.pipeline.submit_commit(session, commit).await
    }

    /// A commit that has a number already.
    async fn known_commit(
        &self,
        session: &Session,
        id: ConversationId,
        digest: Digest,
        welcome: &[u8],
    ) -> Result<Option<Arc<Settled>>, RelayError> {
        self.check_retry(&digest, welcome).await?;
        let known = self.pipeline.known_commit(session, id, digest).await?;
        if let Some(void) = known.as_ref().and_then(|known| known.void.as_ref()) {
            return Err(RelayError::Voided(void_reason(void, digest)));
        }
        Ok(known)
    }

    /// The same commit comes with the same Welcome, as long as that is kept.
    async fn check_retry(&self, digest: &Digest, welcome: &[u8]) -> Result<(), RelayError> {
        let Some(known) = items::by_digest(self.db.read(), &self.scope, digest).await? else {
            return Ok(());
        };
        let (id, sequence) = (&known.conversation, known.sequence);
        let extra = commits::get(self.db.read(), &self.scope, id, sequence).await?;
        match extra {
            Some(extra) if !extra.welcome.is_empty() && extra.welcome != welcome => {
                Err(RelayError::Conflict)
            }
            _ => Ok(()),
        }
    }

    async fn check_commit(
        &self,
        session: &Session,
        submitted: Submitted,
    ) -> Result<Commit, RelayError> {
        let (id, now) = (submitted.conversation, self.now());
        self.conversation_of(session, &id).await?;
        if submitted.welcome.len() > limits::WELCOME {
            return Err(RelayError::Field("welcome"));
        }
        if submitted.ratchet_tree.len() > limits::WELCOME {
            return Err(RelayError::Field("ratchet_tree"));
        }
        self.catch_up().await?;
        let (epoch, snapshot) = conversations::observer(self.db.read(), &self.scope, &id)
            .await?
            .ok_or(RelayError::NoConversation)?;
        let (trust, bytes) = (self.mls.clone(), submitted.commit);
        // a commit that adds a thousand devices takes a hundred milliseconds: not on a thread that serves others
        let (observer, old, committed, bytes, before) = greffe_service_kit::blocking(move || {
            let mut observer = Observer::decode(trust, &snapshot)?;
            let old = observer.disclosure().clone();
            let committed = observer.handshake(&bytes, now);
            Ok::<_, MlsError>((observer, old, committed, bytes, snapshot))
        })
        .await
        .map_err(|_| RelayError::Damaged("a task stopped"))??;
        let committed = match committed {
            Ok(committed) => committed,
            Err(Refusal::Epoch { current, .. }) => return Err(RelayError::EpochStale { current }),
            Err(refusal) => return Err(RelayError::Commit(self.devices.confirm(refusal).await?)),
        };
        if committed.committer.device != session.device {
            return Err(RelayError::Committer);
        }
        if submitted.welcome.is_empty() != committed.added.is_empty()
            || (committed.added.is_empty() && !submitted.ratchet_tree.is_empty())
        {
            return Err(RelayError::Welcome);
        }
        let info = observer.disclosure();
        if committed.disclosure.is_some() {
            let disclosure = self.disclosure(&info.digest)?;
            self.check_mode(&disclosure)?;
            let current = self.mls.disclosures.verify_current(info);
            current.map_err(|why| RelayError::Commit(Refusal::Disclosure(why)))?;
        }
        let mut added = Vec::with_capacity(committed.added.len());
        for member in &committed.added {
            let cert = self.devices.valid(&member.certificate, now).await?;
            added.push(AddedMember {
                device: member.device,
                user: cert.user.clone(),
                certificate: member.certificate,
            });
        }
        let mut renewed = Vec::with_capacity(committed.renewed.len());
        for member in &committed.renewed {
            self.devices.valid(&member.certificate, now).await?;
            renewed.push((member.device, member.certificate));
        }
        Ok(Commit {
            conversation: id,
            epoch,
            added,
            renewed,
            removed: committed.removed.iter().map(|m| m.device).collect(),
            device: session.device,
            certificate: committed.committer.certificate,
            after: GroupState {
                epoch: committed.epoch,
                observer: observer.encode()?,
                disclosure: info.digest,
                mode: info.mode as i32,
            },
            commit: bytes,
            extra: CommitExtra {
                welcome: submitted.welcome,
                ratchet_tree: submitted.ratchet_tree,
                observer: before,
                epoch,
                disclosure: old.digest,
                mode: old.mode as i32,
            },
        })
    }
}

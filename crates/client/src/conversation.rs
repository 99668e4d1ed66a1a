//! Conversations of a device: creating one, its notice and acknowledgement, what it looks like, what was said.

use std::sync::Arc;

use greffe_api::relay as api;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::VerifiedDisclosure;
use greffe_mls::Table;
use greffe_policy::Notice;
use greffe_types::{ConversationId, DeviceId, Digest, Millis};
use prost::Message as _;

use crate::client::random;
use crate::device::Device;
use crate::error::{ClientError, Result};
use crate::live::Live;
use crate::notice::{notice_of, pack_of};
use crate::store::{
    AckRow, ConversationRow, ConversationState, ItemRow, Op, OutboxKind, OutboxRow,
};

/// What a conversation looks like to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationInfo {
    /// Its id.
    pub conversation: ConversationId,
    /// How the device stands to it.
    pub state: ConversationState,
    /// Why it is broken; empty otherwise.
    pub reason: String,
    /// Who can read it.
    pub mode: pb::Mode,
    /// Digest of the disclosure in force.
    pub disclosure: Digest,
    /// Whether this device has acknowledged its notice.
    pub acknowledged: bool,
    /// MLS epoch; 0 when the device is not in it.
    pub epoch: u64,
    /// Members who see another authenticator for the same epoch have been forked; none when the device is not in it.
    pub authenticator: Option<[u8; 32]>,
    /// Highest number taken in.
    pub sequence: u64,
    /// Chain head at that number.
    pub head: Digest,
    /// Who takes part.
    pub members: Vec<MemberInfo>,
}

/// A member device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// The user, as the certificate names them.
    pub user: String,
    /// The device.
    pub device: DeviceId,
}

/// What took a number, as it was taken in.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryItem {
    /// Its number.
    pub sequence: u64,
    /// Message, commit or void.
    pub kind: pb::EntryKind,
    /// Envelope, handshake or void digest.
    pub digest: Digest,
    /// The archive's clock.
    pub archived_at: Millis,
    /// The user who sent it; empty for a void.
    pub sender: String,
    /// The sender's clock.
    pub sent_at: Millis,
    /// Why it was withheld; empty when it was not.
    pub reason: String,
    /// What it says, when it is a message that was opened. [`greffe_envelope::content::Kind`] says what it is: not every one
    /// is a text.
    pub content: Option<pb::Content>,
}

impl Device {
    /// Creates a conversation with this device as its only member. Acknowledge its notice next.
    ///
    /// # Errors
    /// When the tenant offers no such mode, or its disclosure does not follow from root, nodes and log: then nothing was
    /// sent.
    pub async fn create(&self, mode: pb::Mode) -> Result<ConversationId> {
        let client = self.client();
        let disclosure = client.current_disclosure(mode).await?;
        let id = ConversationId::new(random()?);
        let extension = disclosure.signed().raw().encode_to_vec();
        let store = &client.0.store;
        let rows = store.mls_table(&self.id(), Table::Disclosure).await?;
        let guard = self.lock(&id).await;
        let (device, now) = (self.clone(), client.now());
        let made = client.compute(move || {
            let (conversation, change) = device.0.mls.create(id, &extension, rows, now)?;
            let group_info = conversation.group_info()?;
            Ok::<_, ClientError>((conversation, device.mls_op(&change)?, group_info))
        });
        let (conversation, op, group_info) = made.await??;
        let row = ConversationRow {
            device: self.id(),
            conversation: id,
            state: ConversationState::Creating,
            reason: String::new(),
            mode,
            disclosure: disclosure.digest(),
            joined: 0,
            sequence: 0,
            head: Digest::ZERO,
            counter: 0,
            previous: Digest::ZERO,
        };
        let request = api::CreateConversationRequest {
            conversation: id.to_vec(),
            group_info,
        };
        let outbox = OutboxRow {
            device: self.id(),
            conversation: id,
            kind: OutboxKind::Creation,
            digest: sha256(id.as_bytes()),
            payload: request.encode_to_vec(),
            content: Vec::new(),
        };
        let mut guard = Self::place(guard, Live::new(conversation, row.clone(), disclosure));
        store
            .write(vec![op, Op::Conversation(row), Op::Outbox(outbox)])
            .await?;
        guard.settled();
        drop(guard);
        self.finish_creation(id, request).await?;
        Ok(id)
    }

    /// Tells the relay of a conversation made here; the same call again answers the same.
    pub(crate) async fn finish_creation(
        &self,
        id: ConversationId,
        request: api::CreateConversationRequest,
    ) -> Result<()> {
        let relay = self.relay_client()?;
        let answer = self.unary("CreateConversation", request, |request| {
            let mut relay = relay.clone();
            async move { relay.create_conversation(request).await }
        });
        let outcome = answer.await.map(|_| ());
        if outcome.as_ref().is_err_and(ClientError::is_retryable) {
            return outcome.inspect_err(|error| self.unanswered(error));
        }
        let mut guard = self.acquire(&id).await?;
        let live = guard.begin();
        match &outcome {
            Ok(()) => live.row.state = ConversationState::Active,
            // It exists nowhere but here, and never will.
            Err(error) => {
                live.row.state = ConversationState::Broken;
                error.reason().clone_into(&mut live.row.reason);
            }
        }
        let ops = vec![
            Op::Conversation(live.row.clone()),
            Op::OutboxDone {
                device: self.id(),
                digest: sha256(id.as_bytes()),
            },
        ];
        self.client().0.store.write(ops).await?;
        guard.settled();
        outcome
    }

    /// The notice of a conversation in a language: rendered here, and exactly the text that the root signed.
    ///
    /// # Errors
    /// When there is none in that language, or the text made here is another.
    pub async fn notice(&self, id: &ConversationId, language: &str) -> Result<Notice> {
        let disclosure = self.acquire(id).await?.disclosure.clone();
        self.notice_for(&disclosure, language)
    }

    /// The notice of what the conversation will take up next: the tenant's current disclosure of its mode.
    ///
    /// # Errors
    /// As [`Device::notice`], and when the current disclosure does not follow from root, nodes and log.
    pub async fn next_notice(&self, id: &ConversationId, language: &str) -> Result<Notice> {
        let disclosure = self.next_disclosure(id).await?;
        self.notice_for(&disclosure, language)
    }

    /// The tenant's current disclosure of a conversation's mode, whether the conversation has taken it up or not.
    async fn next_disclosure(&self, id: &ConversationId) -> Result<Arc<VerifiedDisclosure>> {
        let client = self.client();
        client.refresh_trust().await?;
        let mode = self.acquire(id).await?.row.mode;
        client.current_disclosure(mode).await
    }

    fn notice_for(&self, disclosure: &VerifiedDisclosure, language: &str) -> Result<Notice> {
        let client = self.client();
        let connection = client.connection();
        let pack = pack_of(connection.packs(), disclosure.message())?;
        notice_of(&*client.trust()?, disclosure, &pack, language)
    }

    /// Records, signed by this device and in the log, that its user was shown the notice in that language. Only then can
    /// the device send in the conversation, and only then does the relay deliver.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn acknowledge(&self, id: &ConversationId, language: &str) -> Result<u64> {
        let disclosure = self.acquire(id).await?.disclosure.clone();
        self.acknowledge_of(id, disclosure, language).await
    }

    /// As [`Device::acknowledge`], of what the conversation will take up next: consent before the commit, so that nothing
    /// waits after it.
    ///
    /// # Errors
    /// As [`Device::next_notice`].
    pub async fn acknowledge_next(&self, id: &ConversationId, language: &str) -> Result<u64> {
        let disclosure = self.next_disclosure(id).await?;
        self.acknowledge_of(id, disclosure, language).await
    }

    async fn acknowledge_of(
        &self,
        id: &ConversationId,
        disclosure: Arc<VerifiedDisclosure>,
        language: &str,
    ) -> Result<u64> {
        // Where it was created or joined but a moment ago, the relay may not know it yet.
        self.try_resume().await?;
        let digest = disclosure.digest();
        let store = &self.client().0.store;
        let known = store.acknowledgements(&self.id(), Some(id)).await?;
        let known = known.into_iter().find(|ack| ack.disclosure == digest);
        if let Some(index) = known.as_ref().and_then(|ack| ack.log_index) {
            return Ok(index);
        }
        let row = match known {
            // A crash came between: the same bytes again.
            Some(row) => row,
            None => {
                let row = self.sign_acknowledgement(id, &disclosure, language)?;
                store.write(vec![Op::Acknowledgement(row.clone())]).await?;
                self.acquire(id).await?.shown.insert(digest);
                row
            }
        };
        self.finish_acknowledgement(row).await
    }

    fn sign_acknowledgement(
        &self,
        id: &ConversationId,
        disclosure: &Arc<VerifiedDisclosure>,
        language: &str,
    ) -> Result<AckRow> {
        let notice = self.notice_for(disclosure, language)?;
        let acknowledgement = pb::Acknowledgement {
            tenant: self.certificate().tenant.clone(),
            user: self.user().to_owned(),
            device: self.id().to_vec(),
            conversation: id.to_vec(),
            disclosure: disclosure.digest().to_vec(),
            language: language.to_owned(),
            notice: notice.digest().to_vec(),
            at: self.client().now().get(),
        };
        let signed = Signed::sign(acknowledgement, &[(&self.signer(), &self.0.key)]);
        Ok(AckRow {
            device: self.id(),
            conversation: *id,
            disclosure: disclosure.digest(),
            statement: signed.into_raw(),
            log_index: None,
        })
    }

    /// Brings an acknowledgement into the log.
    pub(crate) async fn finish_acknowledgement(&self, mut row: AckRow) -> Result<u64> {
        let relay = self.relay_client()?;
        let request = api::AcknowledgeNoticeRequest {
            acknowledgement: Some(row.statement.clone()),
        };
        let answer = self.unary("AcknowledgeNotice", request, |request| {
            let mut relay = relay.clone();
            async move { relay.acknowledge_notice(request).await }
        });
        let answer = answer.await.inspect_err(|error| self.unanswered(error));
        let index = answer?.log_index;
        row.log_index = Some(index);
        let (id, disclosure) = (row.conversation, row.disclosure);
        self.client()
            .0
            .store
            .write(vec![Op::Acknowledgement(row)])
            .await?;
        let mut guard = self.acquire(&id).await?;
        guard.acknowledged.insert(disclosure);
        Ok(index)
    }

    /// Members whose acknowledgement of the notice in force is not in the log, as the relay says: they neither send nor are
    /// sent anything.
    ///
    /// # Errors
    /// When the relay cannot be reached, or the device is no member.
    pub async fn waiting(&self, id: &ConversationId) -> Result<Vec<MemberInfo>> {
        let relay = self.relay_client()?;
        let request = api::GetConversationRequest {
            conversation: id.to_vec(),
        };
        let answer = self.unary("GetConversation", request, |request| {
            let mut relay = relay.clone();
            async move { relay.get_conversation(request).await }
        });
        let seen = answer.await?.conversation;
        let members = seen.ok_or(ClientError::Answer("no conversation"))?.members;
        let waiting = members.into_iter().filter(|member| !member.acknowledged);
        waiting
            .map(|member| {
                let device = DeviceId::try_from(member.device.as_slice());
                Ok(MemberInfo {
                    user: member.user,
                    device: device.map_err(|_| ClientError::Answer("a member's device"))?,
                })
            })
            .collect()
    }

    /// What a conversation looks like.
    ///
    /// # Errors
    /// When the device does not know it.
    pub async fn conversation(&self, id: &ConversationId) -> Result<ConversationInfo> {
        let guard = self.acquire(id).await?;
        let members = guard.mls.as_ref().map(|mls| mls.members());
        let user = |certificate: &Digest| {
            let cert = self.client().0.certificates.get(certificate);
            cert.map_or_else(String::new, |cert| cert.user.clone())
        };
        let authenticator = guard.mls.as_ref().map(|mls| mls.epoch_authenticator());
        Ok(ConversationInfo {
            conversation: *id,
            state: guard.row.state,
            reason: guard.row.reason.clone(),
            mode: guard.row.mode,
            disclosure: guard.row.disclosure,
            acknowledged: guard.is_acknowledged(),
            epoch: guard.mls.as_ref().map_or(0, |mls| mls.epoch()),
            authenticator: authenticator.transpose()?,
            sequence: guard.row.sequence,
            head: guard.row.head,
            members: members
                .unwrap_or_default()
                .into_iter()
                .map(|member| MemberInfo {
                    user: user(&member.certificate),
                    device: member.device,
                })
                .collect(),
        })
    }

    /// The device's conversations, in the order in which it came to know them.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn conversations(&self) -> Result<Vec<ConversationId>> {
        let rows = self.client().0.store.conversations(&self.id()).await?;
        Ok(rows.into_iter().map(|row| row.conversation).collect())
    }

    /// What was taken in of a conversation after a number, at most `limit` items, in order: edits, retractions and reactions are
    /// items of their own, and [`Device::thread`] puts them to their messages.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn history(
        &self,
        id: &ConversationId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<HistoryItem>> {
        let store = &self.client().0.store;
        let rows = store.items(&self.id(), id, after, limit).await?;
        rows.into_iter().map(|row| self.history_item(row)).collect()
    }

    pub(crate) fn history_item(&self, row: ItemRow) -> Result<HistoryItem> {
        let content = if row.content.is_empty() {
            None
        } else {
            let store = &self.client().0.store;
            store
                .open_content(&self.id(), &row.digest, &row.content)?
                .read()
        };
        Ok(HistoryItem {
            sequence: row.sequence,
            kind: row.kind,
            digest: row.digest,
            archived_at: Millis::new(row.archived_at),
            sender: row.sender,
            sent_at: Millis::new(row.sent_at),
            reason: row.reason,
            content,
        })
    }
}

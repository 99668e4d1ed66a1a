//! Who takes part: inviting users' devices and removing them, each in one commit that the relay puts in its place.

use core::time::Duration;
use std::collections::BTreeSet;

use greffe_api::relay as api;
use greffe_envelope::chain::handshake_digest;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::verify_receipt;
use greffe_mls::{Handshake, MlsError, StateChange, check_key_package};
use greffe_types::{ConversationId, DeviceId, Digest, Millis, UserId};
use prost::Message as _;

use crate::conversation::MemberInfo;
use crate::device::Device;
use crate::error::{ClientError, Result, malformed, untrusted};
use crate::store::{Op, OutboxKind, OutboxRow};

/// The relay's word that another commit came first.
pub(crate) const EPOCH_STALE: &str = "EPOCH_STALE";
/// How often a commit is made anew because others came first.
const ATTEMPTS: usize = 16;
/// How long a commit may take to come back in the mailbox.
const ECHO: Duration = Duration::from_secs(60);
/// Between two looks into the mailbox for it.
const PAUSE: Duration = Duration::from_millis(50);

/// A key package that was claimed, and whose it is.
#[derive(Clone)]
struct Claimed {
    member: MemberInfo,
    package: Vec<u8>,
}

impl Device {
    /// Adds all devices of users to a conversation; gives those that were added. Devices that are in it already are left.
    ///
    /// # Errors
    /// When a user has no device, a certificate or key package does not verify (then nothing was sent), or the relay
    /// refuses.
    pub async fn invite(&self, id: &ConversationId, users: &[UserId]) -> Result<Vec<MemberInfo>> {
        self.acquire(id).await?.speaking()?;
        self.client().freshen().await?;
        self.check_current(id).await?;
        let claimed = self.claim(users).await?;
        let mut added = Vec::new();
        let packages = claimed.clone();
        self.commit(id, move |mls, now| {
            let present: BTreeSet<DeviceId> =
                mls.members().iter().map(|member| member.device).collect();
            let fresh: Vec<Vec<u8>> = packages
                .iter()
                .filter(|claimed| !present.contains(&claimed.member.device))
                .map(|claimed| claimed.package.clone())
                .collect();
            if fresh.is_empty() {
                return Ok(None);
            }
            mls.add(&fresh, now).map(Some)
        })
        .await?;
        added.extend(claimed.into_iter().map(|claimed| claimed.member));
        Ok(added)
    }

    /// A joiner takes nothing but the current disclosure: inviting under an older one would end at their side.
    async fn check_current(&self, id: &ConversationId) -> Result<()> {
        let (mode, disclosure) = {
            let guard = self.acquire(id).await?;
            (guard.row.mode, guard.row.disclosure)
        };
        let state = self.client().trust()?;
        let current = state.current_disclosure(mode);
        if current.is_none_or(|current| current.digest() == disclosure) {
            return Ok(());
        }
        Err(ClientError::refused(
            "DISCLOSURE_SUPERSEDED",
            format!(
                "conversation {id} is still under an older disclosure: renew it, and acknowledge its notice, before anybody joins"
            ),
        ))
    }

    /// Removes all devices of users from a conversation; gives those that were removed.
    ///
    /// # Errors
    /// When the relay refuses, or a user is not in it.
    pub async fn remove(&self, id: &ConversationId, users: &[UserId]) -> Result<Vec<MemberInfo>> {
        let members = self.conversation(id).await?.members;
        let of = |member: &MemberInfo| users.iter().any(|user| user.as_str() == member.user);
        let gone: Vec<MemberInfo> = members.into_iter().filter(of).collect();
        if gone.is_empty() {
            return Err(ClientError::refused(
                "USER_NOT_A_MEMBER",
                "none of these users takes part: look at the conversation's members",
            ));
        }
        self.remove_devices(id, gone.iter().map(|member| member.device).collect())
            .await?;
        Ok(gone)
    }

    /// Removes devices from a conversation.
    ///
    /// # Errors
    /// As [`Device::remove`].
    pub async fn remove_devices(&self, id: &ConversationId, devices: Vec<DeviceId>) -> Result<()> {
        self.commit(id, move |mls, now| mls.remove(&devices, now).map(Some))
            .await
    }

    /// Puts the tenant's current disclosure of the conversation's mode in place of an older one; members acknowledge anew.
    ///
    /// # Errors
    /// When it does not follow from root, nodes and log, or the relay refuses.
    pub async fn redisclose(&self, id: &ConversationId) -> Result<()> {
        let client = self.client();
        client.refresh_trust().await?;
        let mode = self.acquire(id).await?.row.mode;
        let disclosure = client.current_disclosure(mode).await?;
        let extension = disclosure.signed().raw().encode_to_vec();
        self.commit(id, move |mls, now| {
            if mls.extension() == extension {
                return Ok(None);
            }
            mls.disclose(&extension, now).map(Some)
        })
        .await
    }

    /// Replaces this device's keys in the conversation.
    ///
    /// # Errors
    /// When the relay refuses.
    pub async fn update_keys(&self, id: &ConversationId) -> Result<()> {
        self.commit(id, |mls, now| mls.update(now).map(Some)).await
    }

    /// Claims key packages and verifies every certificate up to the issuer, and that each key package is its device's.
    async fn claim(&self, users: &[UserId]) -> Result<Vec<Claimed>> {
        let client = self.client();
        let directory = client.connection().directory()?;
        let request = api::ClaimKeyPackagesRequest {
            users: users.iter().map(|user| user.as_str().to_owned()).collect(),
        };
        let answer = self.unary("ClaimKeyPackages", request, |request| {
            let mut directory = directory.clone();
            async move { directory.claim_key_packages(request).await }
        });
        let answer = answer.await?;
        let (state, now) = (client.trust()?, client.now());
        let trust = greffe_mls::Trust {
            disclosures: client.0.trust.clone(),
            devices: client.0.certificates.clone(),
        };
        let (mut claimed, mut ops) = (Vec::new(), Vec::new());
        for given in answer.key_packages {
            let raw = given
                .device_cert
                .ok_or(ClientError::Answer("a key package without certificate"))?;
            let (cert, new) = client.0.certificates.take_in(&state, raw.clone(), now)?;
            if cert.user != given.user || !users.iter().any(|user| user.as_str() == cert.user) {
                return Err(ClientError::Answer("a key package of another user"));
            }
            let package = check_key_package(&trust, &given.key_package, now)
                .map_err(|refusal| ClientError::Mls(MlsError::Refused(refusal)))?;
            if package.member.certificate != cert.digest() {
                return Err(ClientError::Answer("a key package of another device"));
            }
            if new {
                ops.push(Op::Certificate {
                    digest: cert.digest(),
                    statement: raw,
                });
            }
            claimed.push(Claimed {
                member: MemberInfo {
                    user: given.user,
                    device: package.member.device,
                },
                package: given.key_package,
            });
        }
        client.0.store.write(ops).await?;
        let missing = users
            .iter()
            .find(|user| !claimed.iter().any(|c| c.member.user == user.as_str()));
        if let Some(user) = missing {
            return Err(ClientError::refused(
                "USER_UNKNOWN",
                format!("{user} has no device with a key package: have one enrolled and published"),
            ));
        }
        Ok(claimed)
    }

    /// Makes a commit, stores it, has the relay put it in its place, and returns when it has come back in the mailbox and
    /// taken effect here. Made anew when another commit came first.
    pub(crate) async fn commit<F>(&self, id: &ConversationId, make: F) -> Result<()>
    where
        F: Fn(
                &mut greffe_mls::Conversation,
                Millis,
            ) -> Result<Option<(Handshake, StateChange)>, MlsError>
            + Clone
            + Send
            + 'static,
    {
        self.resume().await?;
        // What went out again just now, or what another task sends, takes effect or is refused before another is made.
        self.wait_until(id, |mls| !mls.has_pending()).await?;
        for _ in 0..ATTEMPTS {
            let row = match self.make_commit(id, make.clone()).await {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(()),
                // Another task was quicker after the wait.
                Err(ClientError::Mls(MlsError::CommitPending)) => {
                    self.wait_until(id, |mls| !mls.has_pending()).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.submit_commit(&row).await {
                Ok(()) => return self.wait_for_epoch(id, commit_epoch(&row)? + 1).await,
                Err(error) if error.reason() == EPOCH_STALE => {
                    self.drop_commit(&row).await?;
                    self.wait_for_epoch(id, commit_epoch(&row)? + 1).await?;
                }
                // Not known whether it was taken: it stays, and goes out again with the next call.
                Err(error) if error.is_retryable() => {
                    self.unanswered(&error);
                    return Err(error);
                }
                Err(error) => {
                    self.drop_commit(&row).await?;
                    return Err(error);
                }
            }
        }
        Err(ClientError::refused(
            EPOCH_STALE,
            format!("other commits came first {ATTEMPTS} times: try again later"),
        ))
    }

    async fn make_commit<F>(&self, id: &ConversationId, make: F) -> Result<Option<OutboxRow>>
    where
        F: FnOnce(
                &mut greffe_mls::Conversation,
                Millis,
            ) -> Result<Option<(Handshake, StateChange)>, MlsError>
            + Send
            + 'static,
    {
        let mut guard = self.acquire(id).await?;
        guard.speaking()?;
        let now = self.client().now();
        let work = self.client().compute(move || {
            let made = guard.begin().active().and_then(|mls| Ok(make(mls, now)?));
            (guard, made)
        });
        let (mut guard, made) = work.await?;
        let Some((handshake, change)) = made? else {
            guard.settled();
            return Ok(None);
        };
        let request = api::SubmitCommitRequest {
            conversation: id.to_vec(),
            commit: handshake.commit,
            welcome: handshake.welcome.unwrap_or_default(),
            // The Welcome carries it.
            ratchet_tree: Vec::new(),
        };
        let row = OutboxRow {
            device: self.id(),
            conversation: *id,
            kind: OutboxKind::Commit,
            digest: handshake_digest(&request.commit),
            payload: request.encode_to_vec(),
            content: Vec::new(),
        };
        let ops = vec![self.mls_op(&change)?, Op::Outbox(row.clone())];
        self.client().0.store.write(ops).await?;
        guard.settled();
        Ok(Some(row))
    }

    /// Sends a stored commit; returns once relay and archive have it.
    pub(crate) async fn submit_commit(&self, row: &OutboxRow) -> Result<()> {
        let request = commit_request(row)?;
        let relay = self.relay_client()?;
        let answer = self.unary("SubmitCommit", request, |request| {
            let mut relay = relay.clone();
            async move { relay.submit_commit(request).await }
        });
        let answer = answer.await?;
        let receipt = answer.receipt.ok_or(ClientError::Answer("no receipt"))?;
        self.check_receipt(receipt, &row.conversation, answer.sequence, &row.digest)?;
        Ok(())
    }

    /// Verifies the receipt of something this device sent: by the archive's key, consistent with its own head, and of
    /// exactly what was sent.
    pub(crate) fn check_receipt(
        &self,
        raw: pb::SignedStatement,
        conversation: &ConversationId,
        sequence: u64,
        entry: &Digest,
    ) -> Result<Signed<pb::Receipt>> {
        let receipt = Signed::<pb::Receipt>::decode(raw).map_err(malformed("receipt"))?;
        let state = self.client().trust()?;
        verify_receipt(&receipt, state.bundle()).map_err(untrusted("receipt"))?;
        if receipt.conversation != conversation.as_bytes()
            || receipt.sequence != sequence
            || receipt.entry_digest != entry.as_bytes()
        {
            return Err(ClientError::Answer("a receipt of something else"));
        }
        Ok(receipt)
    }

    /// The relay has refused a commit: it never happened.
    pub(crate) async fn drop_commit(&self, row: &OutboxRow) -> Result<()> {
        let mut guard = self.acquire(&row.conversation).await?;
        let store = &self.client().0.store;
        if store.outbox_row(&self.id(), &row.digest).await?.is_none() {
            // Whoever else sent it was quicker: what is pending by now is another.
            return Ok(());
        }
        let mut ops = vec![Op::OutboxDone {
            device: self.id(),
            digest: row.digest,
        }];
        if let Some(mls) = &mut guard.begin().mls
            && mls.has_pending()
        {
            let change = mls.clear_pending()?;
            ops.push(self.mls_op(&change)?);
        }
        store.write(ops).await?;
        guard.settled();
        Ok(())
    }

    /// Waits until the conversation has reached an epoch, reading the mailbox if nobody else does.
    pub(crate) async fn wait_for_epoch(&self, id: &ConversationId, epoch: u64) -> Result<()> {
        self.wait_until(id, |mls| mls.epoch() >= epoch).await
    }

    /// Waits until something is so of the conversation, reading the mailbox if nobody else does.
    async fn wait_until(
        &self,
        id: &ConversationId,
        is_so: impl Fn(&greffe_mls::Conversation) -> bool,
    ) -> Result<()> {
        let mut progress = self.0.progress.subscribe();
        let begun = std::time::Instant::now();
        let mut read = false;
        loop {
            progress.borrow_and_update();
            let mut guard = self.acquire(id).await?;
            match &guard.mls {
                Some(mls) if is_so(mls) => return Ok(()),
                Some(_) => {}
                // Removed or broken meanwhile: the state says what to do.
                None => return guard.active().map(|_| ()),
            }
            drop(guard);
            if begun.elapsed() > ECHO {
                return Err(ClientError::refused(
                    "COMMIT_NOT_SEEN",
                    format!(
                        "a change to conversation {id} was sent, but has not come back: receive, then look again"
                    ),
                ));
            }
            if !self.read_mailbox().await? {
                let wait = tokio::time::timeout(Duration::from_secs(1), progress.changed());
                // Either way the conversation is looked at again.
                let _ = wait.await;
            } else if core::mem::replace(&mut read, true) {
                // What does not come is not asked for without end.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn commit_request(row: &OutboxRow) -> Result<api::SubmitCommitRequest> {
    api::SubmitCommitRequest::decode(row.payload.as_slice()).map_err(ClientError::store)
}

/// The epoch that a stored commit ends.
fn commit_epoch(row: &OutboxRow) -> Result<u64> {
    let request = commit_request(row)?;
    let frame = greffe_mls::Frame::parse(&request.commit);
    Ok(frame
        .map_err(|refusal| ClientError::Mls(MlsError::Refused(refusal)))?
        .epoch)
}

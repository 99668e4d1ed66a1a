//! A commit's rows: who comes and goes, the group state after it, and the way back when the archive refuses it.

use greffe_envelope::chain::handshake_digest;
use greffe_service_kit::db::Connection;
use greffe_types::{ConversationId, DeviceId, Digest};

use crate::store::commits::CommitExtra;
use crate::store::conversations::GroupState;
use crate::store::items::{Kind, NewItem};
use crate::store::members::MemberRow;
use crate::store::{Scope, commits, conversations, members};

/// A commit that the observer has accepted for the epoch it names; it takes effect only when it is sequenced while its
/// conversation is still in that epoch.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The conversation.
    pub conversation: ConversationId,
    /// Exact bytes of the PublicMessage.
    pub commit: Vec<u8>,
    /// Who made it: the session's device.
    pub device: DeviceId,
    /// Certificate of its leaf.
    pub certificate: Digest,
    /// The epoch it ends.
    pub epoch: u64,
    /// The group state after it.
    pub after: GroupState,
    /// Welcome and tree for the added, and the state before it.
    pub extra: CommitExtra,
    /// Devices that come.
    pub added: Vec<AddedMember>,
    /// Devices that leave.
    pub removed: Vec<DeviceId>,
    /// Devices whose certificate changes, with the new one.
    pub renewed: Vec<(DeviceId, Digest)>,
}

/// A device that a commit adds.
#[derive(Debug, Clone)]
pub struct AddedMember {
    /// The device.
    pub device: DeviceId,
    /// Its user.
    pub user: String,
    /// Certificate of its leaf.
    pub certificate: Digest,
}

impl Commit {
    /// What it enters the chain as.
    pub fn digest(&self) -> Digest {
        handshake_digest(&self.commit)
    }

    pub(super) fn item(&self) -> NewItem {
        NewItem {
            conversation: self.conversation,
            sequence: 0,
            kind: Kind::Handshake,
            digest: self.digest(),
            message_id: None,
            device: self.device,
            certificate: self.certificate,
            epoch: self.epoch,
            disclosure: self.extra.disclosure,
        }
    }

    /// Writes everything beside the item.
    pub(super) async fn write(
        &self,
        conn: &mut Connection,
        scope: &Scope,
        sequence: u64,
    ) -> sqlx::Result<()> {
        let id = &self.conversation;
        commits::insert(conn, scope, id, sequence, &self.extra).await?;
        for device in &self.removed {
            members::close(conn, scope, id, device, sequence).await?;
        }
        for added in &self.added {
            // Counter and previous digest go on where an earlier stay ended: they are the device's in the conversation.
            let stays = members::stays(&mut *conn, scope, &added.device, Some(id)).await?;
            let (counter, previous) = stays
                .last()
                .map_or((0, Digest::ZERO), |stay| (stay.counter, stay.previous));
            let row = MemberRow {
                conversation: *id,
                device: added.device,
                user: added.user.clone(),
                certificate: added.certificate,
                from_seq: sequence,
                until_seq: None,
                counter,
                previous,
                cursor: sequence - 1,
            };
            members::insert(conn, scope, &row).await?;
        }
        for (device, certificate) in &self.renewed {
            let stays = members::stays(&mut *conn, scope, device, Some(id)).await?;
            if let Some(stay) = stays.iter().rfind(|stay| stay.until_seq.is_none()) {
                commits::insert_renewal(conn, scope, id, sequence, device, &stay.certificate)
                    .await?;
            }
            members::set_certificate(conn, scope, id, device, certificate).await?;
        }
        conversations::set_group(conn, scope, id, &self.after).await
    }
}

/// Puts a conversation back to where it was before a commit that the archive refused. Nothing was sequenced after it.
pub(super) async fn undo(
    conn: &mut Connection,
    scope: &Scope,
    conversation: &ConversationId,
    sequence: u64,
) -> sqlx::Result<()> {
    let Some(extra) = commits::get(&mut *conn, scope, conversation, sequence).await? else {
        return Ok(());
    };
    members::undo(conn, scope, conversation, sequence).await?;
    for (device, certificate) in
        commits::renewals(&mut *conn, scope, conversation, sequence).await?
    {
        members::set_certificate(conn, scope, conversation, &device, &certificate).await?;
    }
    let before = GroupState {
        epoch: extra.epoch,
        observer: extra.observer,
        disclosure: extra.disclosure,
        mode: extra.mode,
    };
    conversations::set_group(conn, scope, conversation, &before).await
}

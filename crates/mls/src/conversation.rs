//! A conversation of which this device is a member: what it says of itself, and what this device does in it.

use core::fmt;

use greffe_types::{ConversationId, DeviceId, Digest, Millis};
use mls_rs::extension::ExtensionType;
use mls_rs::group::{CommitBuilder, ExportedTree};
use mls_rs::{ExtensionList, MlsMessage};
use zeroize::Zeroizing;

use crate::client::{Config, Library, time};
use crate::disclosure::{Disclosed, Disclosures, context_extensions};
use crate::frame::check_size;
use crate::identity::{Member, SigningKey};
use crate::receive::Committed;
use crate::shape::{check_handshake, check_key_package};
use crate::store::{Buffer, RowKey, StateChange, Table};
use crate::trust::DisclosureInfo;
use crate::{MlsError, Refusal, SHOWS_HISTORY, limits};

pub(crate) type Group = mls_rs::Group<Config>;

/// First byte of an application message's plaintext.
pub(crate) const PLAINTEXT_VERSION: u8 = 1;

/// Value of a `Table::Disclosure` row; all it says is in its key.
const SEEN: u8 = 1;

/// A commit to send, with what its new members need. It takes effect here when the relay has sequenced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The PublicMessage.
    pub commit: Vec<u8>,
    /// One Welcome for all the members it adds.
    pub welcome: Option<Vec<u8>>,
    /// The epoch it ends.
    pub epoch: u64,
}

/// A conversation this device is a member of.
///
/// Every operation that changes something returns a `StateChange`: persist it in one transaction with whatever the
/// operation produced, then call `persisted`; only then send or acknowledge. When persisting fails, call `discard`: the
/// conversation is again what the database says, and nothing that was produced may be sent.
pub struct Conversation {
    pub(crate) id: ConversationId,
    pub(crate) group: Group,
    pub(crate) buffer: Buffer,
    pub(crate) disclosures: Disclosures,
    pub(crate) disclosed: Disclosed,
    /// This device was removed; nothing is left to do.
    pub(crate) closed: bool,
    /// Application messages received since the state was last written into rows.
    pub(crate) unstaged: Vec<Vec<u8>>,
    library: Library,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conversation({}, epoch {})", self.id, self.epoch())
    }
}

impl Conversation {
    pub(crate) fn begin(
        library: Library,
        group: Group,
        buffer: Buffer,
        disclosures: Disclosures,
        disclosed: Disclosed,
    ) -> Result<(Self, StateChange), MlsError> {
        let id = group_id(&group)?;
        let mut conversation = Self {
            id,
            group,
            buffer,
            disclosures,
            disclosed,
            closed: false,
            unstaged: Vec::new(),
            library,
        };
        let change = conversation.stage(true)?;
        Ok((conversation, change))
    }

    pub(crate) fn load(
        id: ConversationId,
        library: Library,
        buffer: Buffer,
        disclosures: Disclosures,
    ) -> Result<Self, MlsError> {
        let group = load_group(id, &library, &buffer)?;
        let disclosed = disclosures.of(group.context().extensions())?;
        Ok(Self {
            id,
            group,
            buffer,
            disclosures,
            disclosed,
            closed: false,
            unstaged: Vec::new(),
            library,
        })
    }

    /// The conversation's id: its MLS group id.
    pub const fn id(&self) -> ConversationId {
        self.id
    }

    /// The current epoch.
    pub fn epoch(&self) -> u64 {
        self.group.current_epoch()
    }

    /// The members, in the order of their leaves.
    pub fn members(&self) -> Vec<Member> {
        let members = self.group.roster().members_iter();
        members
            .filter_map(|member| Member::parse(member.signing_identity()).ok())
            .collect()
    }

    /// Members whose leaves do not say that their clients show edits, retractions and reactions: of versions before those, or
    /// joined by such a version and not committed since.
    pub fn without_history(&self) -> Vec<Member> {
        let kind = ExtensionType::new(SHOWS_HISTORY);
        let members = self.group.roster().members_iter();
        members
            .filter(|member| !member.capabilities().extensions.contains(&kind))
            .filter_map(|member| Member::parse(member.signing_identity()).ok())
            .collect()
    }

    /// This device, as its leaf says.
    pub fn me(&self) -> Result<Member, MlsError> {
        Ok(Member::parse(
            self.group.current_member_signing_identity()?,
        )?)
    }

    /// What the journaling extension of this epoch says.
    pub const fn disclosure(&self) -> &DisclosureInfo {
        &self.disclosed.info
    }

    /// Its bytes.
    pub fn extension(&self) -> &[u8] {
        &self.disclosed.extension
    }

    /// RFC 9420 section 8.7: members who see different ones for an epoch have been forked.
    pub fn epoch_authenticator(&self) -> Result<[u8; 32], MlsError> {
        let secret = self.group.epoch_authenticator()?;
        <[u8; 32]>::try_from(&secret[..]).map_err(|_| MlsError::Row("epoch authenticator"))
    }

    /// A signed GroupInfo with the ratchet tree, for `Observer::start`. It allows no external commit.
    pub fn group_info(&self) -> Result<Vec<u8>, MlsError> {
        Ok(self.group.group_info_message(true)?.to_bytes()?)
    }

    /// Adds members, in one commit.
    pub fn add(
        &mut self,
        key_packages: &[Vec<u8>],
        now: Millis,
    ) -> Result<(Handshake, StateChange), MlsError> {
        let packages = key_packages
            .iter()
            .map(|bytes| {
                check_key_package(bytes)?;
                Ok(MlsMessage::from_bytes(bytes)?)
            })
            .collect::<Result<Vec<_>, MlsError>>()?;
        self.commit(now, |builder| {
            packages
                .into_iter()
                .try_fold(builder, |builder, package| Ok(builder.add_member(package)?))
        })
    }

    /// Removes members, in one commit.
    pub fn remove(
        &mut self,
        devices: &[DeviceId],
        now: Millis,
    ) -> Result<(Handshake, StateChange), MlsError> {
        let leaves = devices
            .iter()
            .map(|device| self.leaf_of(device))
            .collect::<Result<Vec<_>, _>>()?;
        self.commit(now, |builder| {
            leaves
                .into_iter()
                .try_fold(builder, |builder, leaf| Ok(builder.remove_member(leaf)?))
        })
    }

    /// Puts another disclosure in place: a current one, whose serial is higher.
    pub fn disclose(
        &mut self,
        extension: &[u8],
        now: Millis,
    ) -> Result<(Handshake, StateChange), MlsError> {
        let next = self.disclosures.verify(extension)?;
        self.disclosures.check_entry(&next.info)?;
        self.disclosures.check_change(&self.disclosed, &next)?;
        let extensions: ExtensionList = context_extensions(extension)?;
        self.commit(
            now,
            |builder| Ok(builder.set_group_context_ext(extensions)?),
        )
    }

    /// Replaces this device's keys in the tree, so that what leaked before is useless from then on.
    pub fn update(&mut self, now: Millis) -> Result<(Handshake, StateChange), MlsError> {
        self.commit(now, |builder| Ok(builder))
    }

    /// Puts a new device certificate and its key in this device's leaf.
    pub fn renew(
        &mut self,
        certificate: Digest,
        key: &SigningKey,
        now: Millis,
    ) -> Result<(Handshake, StateChange), MlsError> {
        let renewed = Member {
            device: self.me()?.device,
            certificate,
            mls_key: key.public(),
        };
        let secret = key.secret.clone();
        self.commit(now, |builder| {
            Ok(builder.set_new_signing_identity(secret, renewed.signing_identity()))
        })
    }

    /// Whether a commit of ours awaits the relay's answer.
    pub fn has_pending(&self) -> bool {
        self.group.has_pending_commit()
    }

    /// The relay has sequenced our commit: it takes effect. (Handing our own commit to `receive` does the same.)
    pub fn apply_pending(&mut self) -> Result<(Committed, StateChange), MlsError> {
        if !self.has_pending() {
            return Err(MlsError::NoCommitPending);
        }
        let before = self.leaves();
        let description = match self.group.apply_pending_commit() {
            Ok(description) => description,
            Err(error) => {
                self.reload()?;
                return Err(error.into());
            }
        };
        self.committed(&description, &before, true)
    }

    /// The relay has refused our commit: it never happened.
    pub fn clear_pending(&mut self) -> Result<StateChange, MlsError> {
        self.group.clear_pending_commit();
        self.stage(false)
    }

    /// Seals a seed for the members; the envelope's digest is authenticated with it. The PrivateMessage is returned.
    pub fn seal(
        &mut self,
        seed: &[u8; 32],
        envelope: &Digest,
    ) -> Result<(Vec<u8>, StateChange), MlsError> {
        self.open()?;
        let mut plaintext = Zeroizing::new([PLAINTEXT_VERSION; 33]);
        plaintext[1..].copy_from_slice(seed);
        let sealed = self
            .group
            .encrypt_application_message(&plaintext[..], envelope.to_vec())
            .and_then(|message| message.to_bytes());
        match sealed {
            Ok(message) => Ok((message, self.stage(false)?)),
            Err(error) => {
                self.reload()?;
                Err(error.into())
            }
        }
    }

    /// The caller's transaction with the last change has committed.
    pub fn persisted(&mut self) {
        self.buffer.persisted();
    }

    /// It has not: the conversation goes back to what was last persisted. An error means that there is nothing to go
    /// back to; drop the conversation then.
    pub fn discard(&mut self) -> Result<(), MlsError> {
        self.buffer.discard();
        self.unstaged.clear();
        self.reload()
    }

    fn commit(
        &mut self,
        now: Millis,
        build: impl for<'a> FnOnce(
            CommitBuilder<'a, Config>,
        ) -> Result<CommitBuilder<'a, Config>, MlsError>,
    ) -> Result<(Handshake, StateChange), MlsError> {
        self.open()?;
        if self.has_pending() {
            return Err(MlsError::CommitPending);
        }
        match self.build_commit(now, build) {
            Ok(handshake) => Ok((handshake, self.stage(false)?)),
            Err(error) => {
                self.reload()?;
                Err(error)
            }
        }
    }

    fn build_commit(
        &mut self,
        now: Millis,
        build: impl for<'a> FnOnce(
            CommitBuilder<'a, Config>,
        ) -> Result<CommitBuilder<'a, Config>, MlsError>,
    ) -> Result<Handshake, MlsError> {
        let epoch = self.epoch();
        let builder = self.group.commit_builder().commit_time(time(now));
        let output = build(builder)?.build()?;
        let commit = output.commit_message().to_bytes()?;
        // what the others would refuse is not sent
        check_handshake(&commit)?;
        let welcome = output
            .welcome_messages()
            .first()
            .map(MlsMessage::to_bytes)
            .transpose()?;
        if let Some(welcome) = &welcome {
            check_size("welcome", limits::WELCOME, welcome)?;
        }
        Ok(Handshake {
            commit,
            welcome,
            epoch,
        })
    }

    pub(crate) const fn open(&self) -> Result<(), MlsError> {
        if self.closed {
            return Err(MlsError::Refused(Refusal::Closed));
        }
        Ok(())
    }

    /// Writes the state into the buffer; the tree too when the epoch changed.
    pub(crate) fn stage(&mut self, new_epoch: bool) -> Result<StateChange, MlsError> {
        self.group.write_to_storage_without_ratchet_tree()?;
        self.unstaged.clear();
        if new_epoch {
            let tree = self.group.export_tree().to_bytes()?;
            let key = RowKey::new(Table::Tree, *self.id.as_bytes());
            self.buffer.put(key, tree.into());
            let seen = self.disclosures.remember(&self.disclosed.info);
            let key = RowKey::new(Table::Disclosure, seen);
            self.buffer.put(key, vec![SEEN].into());
        }
        Ok(self.buffer.change())
    }

    /// Back to what the buffer holds: the state before an operation that failed half-way.
    pub(crate) fn reload(&mut self) -> Result<(), MlsError> {
        self.group = load_group(self.id, &self.library, &self.buffer)?;
        self.disclosed = self.disclosures.of(self.group.context().extensions())?;
        self.closed = false;
        self.replay()
    }

    /// Leaf indices with their members.
    pub(crate) fn leaves(&self) -> Vec<(u32, Member)> {
        self.group
            .roster()
            .members_iter()
            .filter_map(|leaf| Some((leaf.index(), Member::parse(leaf.signing_identity()).ok()?)))
            .collect()
    }

    fn leaf_of(&self, device: &DeviceId) -> Result<u32, MlsError> {
        let leaves = self.leaves();
        let found = leaves.iter().find(|(_, member)| member.device == *device);
        found
            .map(|(leaf, _)| *leaf)
            .ok_or(MlsError::NoSuchMember(*device))
    }
}

fn load_group(id: ConversationId, library: &Library, buffer: &Buffer) -> Result<Group, MlsError> {
    let tree = buffer
        .get(&RowKey::new(Table::Tree, *id.as_bytes()))
        .ok_or(MlsError::Row("ratchet tree"))?;
    let tree = ExportedTree::from_bytes(&tree).map_err(|_| MlsError::Row("ratchet tree"))?;
    let group = library
        .load_group_with_ratchet_tree(id.as_bytes(), tree)
        .map_err(|_| MlsError::Row("conversation"))?;
    if group_id(&group)? != id {
        return Err(MlsError::Row("conversation"));
    }
    Ok(group)
}

fn group_id(group: &Group) -> Result<ConversationId, Refusal> {
    ConversationId::try_from(group.group_id())
        .map_err(|_| Refusal::Malformed("group id: it has 16 bytes"))
}

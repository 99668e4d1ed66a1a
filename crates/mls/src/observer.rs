//! The relay's side: follows a conversation's public handshakes without being a member, and holds no secret of it.

use core::fmt;

use greffe_types::{ConversationId, Digest, Millis};
use mls_rs::MlsMessage;
use mls_rs::external_client::builder::{
    ExternalBaseConfig, WithCryptoProvider, WithIdentityProvider, WithMlsRules,
};
use mls_rs::external_client::{
    ExternalClient, ExternalGroup, ExternalReceivedMessage, ExternalSnapshot,
};
use mls_rs::group::Roster;
use mls_rs_crypto_awslc::AwsLcCryptoProvider;

use crate::client::time;
use crate::disclosure::{Disclosed, Disclosures, extension_type};
use crate::frame::{Frame, FrameKind};
use crate::identity::{Identities, Member, SUITE, provider, suite};
use crate::receive::{Committed, differences};
use crate::rules::Rules;
use crate::shape::{check_group_info, check_handshake, check_key_package as check_shape};
use crate::trust::{DisclosureInfo, Trust};
use crate::{MlsError, Refusal};

type Config = WithMlsRules<
    Rules,
    WithCryptoProvider<AwsLcCryptoProvider, WithIdentityProvider<Identities, ExternalBaseConfig>>,
>;

/// A conversation as the relay knows it: epoch, roster, disclosure.
///
/// It checks signatures and every rule that members check, except what takes the group's secrets: membership and
/// confirmation tags. A member can therefore make a commit that the observer accepts and the other members refuse; they
/// notice by their epoch authenticators.
#[derive(Clone)]
pub struct Observer {
    id: ConversationId,
    group: ExternalGroup<Config>,
    disclosures: Disclosures,
    disclosed: Disclosed,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observer({}, epoch {})", self.id, self.epoch())
    }
}

impl Observer {
    /// Starts with a member's GroupInfo (`Conversation::group_info`), best of epoch 0. The disclosure has to be current.
    pub fn start(trust: Trust, group_info: &[u8]) -> Result<Self, Refusal> {
        check_group_info(group_info)?;
        let message = MlsMessage::from_bytes(group_info)?;
        let (client, disclosures) = client(trust);
        if message.cipher_suite() != Some(SUITE) {
            return Err(Refusal::Unexpected("cipher suite"));
        }
        let group = client.observe_group(message, None, None)?;
        let observer = Self::with(group, disclosures)?;
        observer.disclosures.check_entry(observer.disclosure())?;
        Ok(observer)
    }

    /// From what `encode` gave.
    pub fn decode(trust: Trust, snapshot: &[u8]) -> Result<Self, MlsError> {
        let damaged = |_| MlsError::Row("observer");
        let snapshot = ExternalSnapshot::from_bytes(snapshot).map_err(damaged)?;
        let (client, disclosures) = client(trust);
        let group = client.load_group(snapshot).map_err(damaged)?;
        Ok(Self::with(group, disclosures)?)
    }

    /// The state to store: nothing in it is secret.
    pub fn encode(&self) -> Result<Vec<u8>, MlsError> {
        Ok(self.group.snapshot().to_bytes()?)
    }

    /// The conversation's id.
    pub const fn id(&self) -> ConversationId {
        self.id
    }

    /// The current epoch.
    pub fn epoch(&self) -> u64 {
        self.group.group_context().epoch()
    }

    /// The members, in the order of their leaves.
    pub fn members(&self) -> Vec<Member> {
        let leaves = leaves(&self.group.roster());
        leaves.into_iter().map(|(_, member)| member).collect()
    }

    /// What the journaling extension of this epoch says.
    pub const fn disclosure(&self) -> &DisclosureInfo {
        &self.disclosed.info
    }

    /// Its bytes.
    pub fn extension(&self) -> &[u8] {
        &self.disclosed.extension
    }

    /// Checks a commit and takes it as the one that ends the current epoch; `now` judges the lifetime of the key packages
    /// it adds. Nothing changes when it is refused.
    pub fn handshake(&mut self, message: &[u8], now: Millis) -> Result<Committed, Refusal> {
        let frame = check_handshake(message)?;
        self.check(&frame)?;
        let message = MlsMessage::from_bytes(message)?;
        let before = leaves(&self.group.roster());
        let mut group = self.group.clone();
        let ExternalReceivedMessage::Commit(description) =
            group.process_incoming_message_with_time(message, time(now))?
        else {
            return Err(Refusal::Unexpected("kind of message"));
        };
        let next = self.disclosures.of(group.group_context().extensions())?;
        let committer = before
            .iter()
            .find(|(leaf, _)| *leaf == description.committer)
            .map(|(_, member)| member.clone())
            .ok_or(Refusal::NotAMember)?;
        let (added, removed, renewed) = differences(&before, &leaves(&group.roster()));
        let changed = next != self.disclosed;
        self.group = group;
        self.disclosed = next;
        Ok(Committed {
            epoch: self.epoch(),
            committer,
            added,
            removed,
            renewed,
            disclosure: changed.then(|| self.disclosed.info.clone()),
            own: false,
            dropped_pending: false,
            removed_self: false,
        })
    }

    /// Checks what can be seen of an application message: conversation, current epoch, size. The envelope digest it
    /// claims is returned; only members can authenticate it.
    pub fn application(&self, message: &[u8]) -> Result<Digest, Refusal> {
        let frame = Frame::parse(message)?;
        self.check(&frame)?;
        match frame.kind {
            FrameKind::Application { envelope } => Ok(envelope),
            FrameKind::Handshake { .. } => Err(Refusal::Unexpected("kind of message")),
        }
    }

    fn check(&self, frame: &Frame) -> Result<(), Refusal> {
        if frame.conversation != self.id {
            return Err(Refusal::OtherConversation);
        }
        let current = self.epoch();
        if frame.epoch != current {
            let found = frame.epoch;
            return Err(Refusal::Epoch { current, found });
        }
        Ok(())
    }

    fn with(group: ExternalGroup<Config>, disclosures: Disclosures) -> Result<Self, Refusal> {
        let context = group.group_context();
        let id = ConversationId::try_from(context.group_id())
            .map_err(|_| Refusal::Malformed("group id: it has 16 bytes"))?;
        let disclosed = disclosures.of(context.extensions())?;
        Ok(Self {
            id,
            group,
            disclosures,
            disclosed,
        })
    }
}

/// A key package that was checked: form, signatures, lifetime, and its device's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPackageInfo {
    /// Whose it is.
    pub member: Member,
    /// Its reference (RFC 9420 section 5.2): 32 bytes.
    pub reference: Vec<u8>,
    /// It may be handed out more than once.
    pub last_resort: bool,
    /// First instant at which it no longer counts, to the second.
    pub not_after: Millis,
}

/// Checks a key package before the relay offers it to anybody.
pub fn check_key_package(
    trust: &Trust,
    bytes: &[u8],
    now: Millis,
) -> Result<KeyPackageInfo, Refusal> {
    let last_resort = check_shape(bytes)?;
    let message = MlsMessage::from_bytes(bytes)?;
    if message.cipher_suite() != Some(SUITE) {
        return Err(Refusal::Unexpected("cipher suite"));
    }
    let reference = message
        .key_package_reference(&suite())?
        .ok_or(Refusal::Unexpected("kind of message"))?;
    let (client, _) = client(trust.clone());
    let package = client.validate_key_package(message, Some(time(now)))?;
    Ok(KeyPackageInfo {
        member: Member::parse(package.signing_identity())?,
        reference: reference.to_vec(),
        last_resort,
        not_after: Millis::new(
            package
                .expiration()?
                .seconds_since_epoch()
                .saturating_mul(1000),
        ),
    })
}

fn client(trust: Trust) -> (ExternalClient<Config>, Disclosures) {
    let disclosures = Disclosures::new(trust.disclosures.clone());
    let client = ExternalClient::builder()
        .identity_provider(Identities::new(trust, disclosures.clone()))
        .crypto_provider(provider())
        .mls_rules(Rules::new(disclosures.clone()))
        .extension_type(extension_type())
        .cache_proposals(false)
        .build();
    (client, disclosures)
}

fn leaves(roster: &Roster<'_>) -> Vec<(u32, Member)> {
    roster
        .members_iter()
        .filter_map(|leaf| Some((leaf.index(), Member::parse(leaf.signing_identity()).ok()?)))
        .collect()
}

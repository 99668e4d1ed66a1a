//! A device: makes key packages, creates, joins and loads conversations. Holds no state; the database is the truth.

use core::time::Duration;

use greffe_types::{ConversationId, DeviceId, Digest, Millis};
use mls_rs::client_builder::{
    BaseConfig, WithCryptoProvider, WithGroupStateStorage, WithIdentityProvider,
    WithKeyPackageRepo, WithMlsRules, WithPskStore,
};
use mls_rs::extension::recommended::LastResortKeyPackageExt;
use mls_rs::extension::{ExtensionType, MlsExtension};
use mls_rs::{Extension, ExtensionList, MlsMessage, WireFormat};
use mls_rs_core::time::MlsTime;
use mls_rs_crypto_awslc::AwsLcCryptoProvider;

use crate::conversation::Conversation;
use crate::disclosure::{Disclosed, Disclosures, context_extensions, extension_type};
use crate::frame::check_size;
use crate::identity::{Identities, Member, SUITE, SigningKey, provider, suite};
use crate::rules::Rules;
use crate::store::{Buffer, Row, RowKey, StateChange, Table};
use crate::trust::{DisclosureInfo, Trust};
use crate::{MlsError, Refusal, limits};

pub(crate) type Config = WithMlsRules<
    Rules,
    WithCryptoProvider<
        AwsLcCryptoProvider,
        WithIdentityProvider<
            Identities,
            WithGroupStateStorage<
                Buffer,
                WithKeyPackageRepo<Buffer, WithPskStore<Buffer, BaseConfig>>,
            >,
        >,
    >,
>;
pub(crate) type Library = mls_rs::Client<Config>;

/// How far a peer's clock may be behind ours when it judges a key package we have just made.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// How often a key package may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPackageKind {
    /// Once.
    Once,
    /// Again and again, when the others have run out; replace it soon after it was used.
    LastResort,
}

/// A key package to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPackage {
    /// Its reference (RFC 9420 section 5.2): 32 bytes.
    pub reference: Vec<u8>,
    /// The MLSMessage to publish.
    pub bytes: Vec<u8>,
}

/// What a Welcome invites to, before it is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The conversation.
    pub conversation: ConversationId,
    /// The epoch one would join in.
    pub epoch: u64,
    /// The journaling extension's bytes.
    pub extension: Vec<u8>,
    /// What it says; verified and current.
    pub disclosure: DisclosureInfo,
}

/// A device's MLS identity.
#[derive(Debug)]
pub struct Client {
    me: Member,
    key: SigningKey,
    trust: Trust,
}

impl Client {
    /// The device whose certificate names the key; refused when the directory does not know that certificate.
    pub fn new(
        device: DeviceId,
        certificate: Digest,
        key: SigningKey,
        trust: Trust,
    ) -> Result<Self, MlsError> {
        let me = Member {
            device,
            certificate,
            mls_key: key.public(),
        };
        let known = Disclosures::new(trust.disclosures.clone());
        Identities::new(trust.clone(), known).check(&me.signing_identity(), None)?;
        Ok(Self { me, key, trust })
    }

    /// Makes key packages valid from an hour ago for `lifetime`. Persist the change before publishing them.
    pub fn key_packages(
        &self,
        count: usize,
        kind: KeyPackageKind,
        now: Millis,
        lifetime: Duration,
    ) -> Result<(Vec<KeyPackage>, StateChange), MlsError> {
        let buffer = Buffer::default();
        let (library, _) = self.library(&buffer, lifetime.saturating_add(CLOCK_SKEW));
        let mut extensions = ExtensionList::new();
        if kind == KeyPackageKind::LastResort {
            let last_resort = LastResortKeyPackageExt::extension_type();
            extensions.set(Extension::new(last_resort, Vec::new()));
        }
        let since = Some(time(now.minus(CLOCK_SKEW)));
        let packages = (0..count)
            .map(|_| {
                let message = library.generate_key_package_message(
                    extensions.clone(),
                    ExtensionList::new(),
                    since,
                )?;
                let reference = message
                    .key_package_reference(&suite())?
                    .ok_or(Refusal::Unexpected("kind of message"))?;
                Ok(KeyPackage {
                    reference: reference.to_vec(),
                    bytes: message.to_bytes()?,
                })
            })
            .collect::<Result<_, MlsError>>()?;
        Ok((packages, buffer.change()))
    }

    /// Creates a conversation with this device as its only member. `rows`: all of `Table::Disclosure`.
    pub fn create(
        &self,
        id: ConversationId,
        extension: &[u8],
        rows: Vec<Row>,
        now: Millis,
    ) -> Result<(Conversation, StateChange), MlsError> {
        let (buffer, library, disclosures) = self.open(rows)?;
        let disclosed = disclosures.verify(extension)?;
        disclosures.check_entry(&disclosed.info)?;
        let extensions = context_extensions(extension)?;
        let identities = Identities::new(self.trust.clone(), disclosures.clone());
        identities.check(&self.me.signing_identity(), Some(&extensions))?;
        let group = library.create_group_with_id(
            id.to_vec(),
            extensions,
            ExtensionList::new(),
            Some(time(now.minus(CLOCK_SKEW))),
        )?;
        Conversation::begin(library, group, buffer, disclosures, disclosed)
    }

    /// Key packages that a Welcome may be meant for: the rows that `examine` and `join` need, as far as they exist.
    pub fn welcome_rows(&self, welcome: &[u8]) -> Result<Vec<RowKey>, MlsError> {
        Ok(parse_welcome(welcome)?
            .welcome_key_package_references()
            .into_iter()
            .map(|reference| RowKey::new(Table::KeyPackage, &**reference))
            .collect())
    }

    /// What a Welcome invites to, so that the notice can be shown and acknowledged before joining. Refused unless its
    /// disclosure is signed and current. `rows`: as for `join`.
    pub fn examine(&self, welcome: &[u8], rows: Vec<Row>) -> Result<Invitation, MlsError> {
        let (_, library, disclosures) = self.open(rows)?;
        let welcome = parse_welcome(welcome)?;
        let (conversation, epoch, disclosed) = inspect(&library, &disclosures, &welcome)?;
        Ok(Invitation {
            conversation,
            epoch,
            extension: disclosed.extension,
            disclosure: disclosed.info,
        })
    }

    /// Joins. `rows`: those that `welcome_rows` names, and all of `Table::Disclosure`. The change deletes the key package
    /// that was used, unless it was one of last resort.
    pub fn join(
        &self,
        welcome: &[u8],
        rows: Vec<Row>,
    ) -> Result<(Conversation, StateChange), MlsError> {
        let (buffer, library, disclosures) = self.open(rows)?;
        let welcome = parse_welcome(welcome)?;
        let (_, _, disclosed) = inspect(&library, &disclosures, &welcome)?;
        // no time: leaves that others joined with long ago may have run out, their certificates are what counts
        let (group, _) = library.join_group(None, &welcome, None)?;
        for member in group.roster().members_iter() {
            let capabilities = member.capabilities();
            if let Some(extension) = member.extensions().first() {
                return Err(Refusal::Extension {
                    place: "leaf",
                    kind: extension.extension_type.raw_value(),
                }
                .into());
            }
            if capabilities.extensions.len() > limits::CAPABILITIES
                || capabilities.proposals.len() > limits::CAPABILITIES
            {
                return Err(Refusal::TooMany("capabilities").into());
            }
        }
        Conversation::begin(library, group, buffer, disclosures, disclosed)
    }

    /// Loads a conversation. `rows`: `RowKey::of_conversation`, and all of `Table::Disclosure`.
    pub fn load(&self, id: ConversationId, rows: Vec<Row>) -> Result<Conversation, MlsError> {
        let (buffer, library, disclosures) = self.open(rows)?;
        Conversation::load(id, library, buffer, disclosures)
    }

    fn open(&self, rows: Vec<Row>) -> Result<(Buffer, Library, Disclosures), MlsError> {
        let buffer = Buffer::new(rows);
        let (library, disclosures) = self.library(&buffer, Duration::from_secs(365 * 86_400));
        for key in buffer.keys_of(Table::Disclosure) {
            disclosures
                .load_seen(&key)
                .ok_or(MlsError::Row("disclosure"))?;
        }
        Ok((buffer, library, disclosures))
    }

    fn library(&self, buffer: &Buffer, lifetime: Duration) -> (Library, Disclosures) {
        let disclosures = Disclosures::new(self.trust.disclosures.clone());
        let library = mls_rs::Client::builder()
            .psk_store(buffer.clone())
            .key_package_repo(buffer.clone())
            .group_state_storage(buffer.clone())
            .identity_provider(Identities::new(self.trust.clone(), disclosures.clone()))
            .crypto_provider(provider())
            .mls_rules(Rules::new(disclosures.clone()))
            .extension_types([
                extension_type(),
                LastResortKeyPackageExt::extension_type(),
                ExtensionType::new(crate::SHOWS_HISTORY),
            ])
            .key_package_lifetime(lifetime)
            .signing_identity(self.me.signing_identity(), self.key.secret.clone(), SUITE)
            .build();
        (library, disclosures)
    }
}

pub(crate) fn time(at: Millis) -> MlsTime {
    MlsTime::from_duration_since_epoch(Duration::from_millis(at.get()))
}

fn parse_welcome(bytes: &[u8]) -> Result<MlsMessage, MlsError> {
    check_size("welcome", limits::WELCOME, bytes)?;
    let message = MlsMessage::from_bytes(bytes)?;
    if message.wire_format() != WireFormat::Welcome {
        return Err(Refusal::Unexpected("kind of message").into());
    }
    if message.cipher_suite() != Some(SUITE) {
        return Err(Refusal::Unexpected("cipher suite").into());
    }
    Ok(message)
}

/// What a joiner demands before accepting a Welcome.
fn inspect(
    library: &Library,
    disclosures: &Disclosures,
    welcome: &MlsMessage,
) -> Result<(ConversationId, u64, Disclosed), MlsError> {
    let info = library.examine_welcome_message(welcome)?;
    let context = info.group_context();
    for extension in info.extensions().iter() {
        if extension.extension_type != ExtensionType::RATCHET_TREE {
            return Err(Refusal::Extension {
                place: "group info",
                kind: extension.extension_type.raw_value(),
            }
            .into());
        }
    }
    let conversation = ConversationId::try_from(context.group_id())
        .map_err(|_| Refusal::Malformed("group id: it has 16 bytes"))?;
    let disclosed = disclosures.of(context.extensions())?;
    disclosures.check_entry(&disclosed.info)?;
    Ok((conversation, context.epoch(), disclosed))
}

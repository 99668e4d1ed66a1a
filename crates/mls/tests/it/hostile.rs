//! A member with a modified client: the bare MLS library, none of our rules, and everybody else watching.

use greffe_mls::{Conversation, EXTENSION_TYPE, Event, Observer, SigningKey};
use greffe_types::{DeviceId, Digest, Millis};
use mls_rs::client_builder::{
    BaseConfig, PaddingMode, WithCryptoProvider, WithIdentityProvider, WithMlsRules,
};
use mls_rs::extension::ExtensionType;
use mls_rs::extension::built_in::RequiredCapabilitiesExt;
use mls_rs::group::{CommitBuilder, CommitOutput};
use mls_rs::identity::SigningIdentity;
use mls_rs::identity::basic::{BasicCredential, BasicIdentityProvider};
use mls_rs::mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions};
use mls_rs::{CipherSuite, Extension, ExtensionList, Group, MlsMessage};
use mls_rs_core::crypto::{SignaturePublicKey, SignatureSecretKey};
use mls_rs_core::time::MlsTime;
use mls_rs_crypto_awslc::AwsLcCryptoProvider;

use crate::world::{NOW, Peer, World, observe, refused, settle, talk};

pub(crate) type Raw = WithMlsRules<
    DefaultMlsRules,
    WithCryptoProvider<
        AwsLcCryptoProvider,
        WithIdentityProvider<BasicIdentityProvider, BaseConfig>,
    >,
>;
pub(crate) type RawClient = mls_rs::Client<Raw>;

/// What the modified client does differently besides having no rules.
#[derive(Default)]
pub(crate) struct Habits {
    pub(crate) encrypt_handshakes: bool,
    pub(crate) extension_types: Vec<u16>,
}

pub(crate) fn at(now: Millis) -> MlsTime {
    MlsTime::from(now.get() / 1000)
}

pub(crate) fn identity(device: DeviceId, certificate: Digest, key: &SigningKey) -> SigningIdentity {
    let mut credential = device.to_vec();
    credential.extend(certificate.as_bytes());
    SigningIdentity::new(
        BasicCredential::new(credential).into_credential(),
        SignaturePublicKey::new_slice(&key.public()),
    )
}

pub(crate) fn secret(key: &SigningKey) -> SignatureSecretKey {
    SignatureSecretKey::new_slice(&key.to_bytes())
}

pub(crate) fn raw_client(
    identity: SigningIdentity,
    key: &SigningKey,
    habits: &Habits,
) -> RawClient {
    let rules = DefaultMlsRules::new()
        .with_commit_options(
            CommitOptions::new()
                .with_path_required(true)
                .with_ratchet_tree_extension(true),
        )
        .with_encryption_options(EncryptionOptions::new(
            habits.encrypt_handshakes,
            PaddingMode::None,
        ));
    let types = habits.extension_types.iter().chain([&EXTENSION_TYPE]);
    mls_rs::Client::builder()
        .identity_provider(BasicIdentityProvider::new())
        .crypto_provider(AwsLcCryptoProvider::new())
        .mls_rules(rules)
        .extension_types(types.map(|kind| ExtensionType::new(*kind)))
        .signing_identity(identity, secret(key), CipherSuite::CURVE25519_AES128)
        .build()
}

/// A key package as the bare library makes it.
pub(crate) fn raw_key_package(
    client: &RawClient,
    package: ExtensionList,
    leaf: ExtensionList,
) -> MlsMessage {
    client
        .generate_key_package_message(package, leaf, Some(at(NOW)))
        .unwrap()
}

/// A list of one extension.
pub(crate) fn one(kind: u16, data: &[u8]) -> ExtensionList {
    let mut list = ExtensionList::new();
    list.set(Extension::new(ExtensionType::new(kind), data.to_vec()));
    list
}

/// The group context's extensions around any bytes, as an honest member makes them.
pub(crate) fn context(extension: &[u8]) -> ExtensionList {
    let mut list = one(EXTENSION_TYPE, extension);
    let types = vec![ExtensionType::new(EXTENSION_TYPE)];
    list.set_from(RequiredCapabilitiesExt::new(types, vec![], vec![]))
        .unwrap();
    list
}

/// Alice and Bob with our client, Mallory with a bare one and a valid certificate, and the relay's observer.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) peers: [Peer; 2],
    pub(crate) alice: Conversation,
    pub(crate) bob: Conversation,
    pub(crate) relay: Observer,
    pub(crate) client: RawClient,
    pub(crate) mallory: Group<Raw>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(&Habits::default())
    }

    pub(crate) fn with(habits: &Habits) -> Self {
        let world = World::new();
        let mut peers = [world.device(1), world.device(2)];
        let mut all = world.conversation(&mut peers);
        let (mut bob, mut alice) = (all.pop().unwrap(), all.pop().unwrap());
        let key = SigningKey::generate().unwrap();
        let device = world.certify(9, &key);
        let me = identity(device.device, device.certificate, &key);
        let client = raw_client(me, &key, habits);
        let package = raw_key_package(&client, ExtensionList::new(), ExtensionList::new());
        let packages = [package.to_bytes().unwrap()];
        let (handshake, _) = alice.add(&packages, NOW).unwrap();
        settle(&mut alice, &mut [&mut bob], &handshake);
        let welcome = MlsMessage::from_bytes(handshake.welcome.as_ref().unwrap()).unwrap();
        let (mallory, _) = client.join_group(None, &welcome, None).unwrap();
        let relay = observe(&world, &alice);
        Self {
            world,
            peers,
            alice,
            bob,
            relay,
            client,
            mallory,
        }
    }

    /// A commit of Mallory's, which she has not applied.
    pub(crate) fn commit(
        &mut self,
        build: impl for<'a> FnOnce(CommitBuilder<'a, Raw>) -> CommitBuilder<'a, Raw>,
    ) -> CommitOutput {
        let builder = self.mallory.commit_builder().commit_time(at(NOW));
        let output = build(builder).build().unwrap();
        self.mallory.clear_pending_commit();
        output
    }

    /// Her commit that puts these extensions in the group context.
    pub(crate) fn context_commit(&mut self, extensions: ExtensionList) -> Vec<u8> {
        let output = self.commit(|builder| builder.set_group_context_ext(extensions).unwrap());
        output.commit_message().to_bytes().unwrap()
    }

    /// Members and observer refuse a handshake for this reason, and nothing of their state changes.
    pub(crate) fn refuse(&mut self, message: &[u8], code: &str) {
        let (epoch, members) = (self.relay.epoch(), self.relay.members());
        let refusal = self.relay.handshake(message, NOW).unwrap_err();
        assert_eq!(refusal.code(), code, "observer: {refusal:?}");
        assert_eq!((self.relay.epoch(), self.relay.members()), (epoch, members));
        for member in [&mut self.alice, &mut self.bob] {
            let disclosure = member.disclosure().clone();
            let refusal = refused(member, message);
            assert_eq!(refusal.code(), code, "member: {refusal:?}");
            assert_eq!(*member.disclosure(), disclosure);
        }
    }

    /// The conversation goes on for everybody with an honest commit and a message, Mallory's bare client included.
    pub(crate) fn go_on(&mut self) {
        let (handshake, _) = self.alice.update(NOW).unwrap();
        self.relay.handshake(&handshake.commit, NOW).unwrap();
        settle(&mut self.alice, &mut [&mut self.bob], &handshake);
        self.follow(&handshake.commit);
        talk(&mut self.alice, &mut self.bob, 1);
        talk(&mut self.bob, &mut self.alice, 2);
        assert_eq!(self.relay.epoch(), self.alice.epoch());
        assert_eq!(self.relay.members(), self.alice.members());
    }

    /// Mallory's bare client takes in a commit and agrees on the epoch's secrets.
    pub(crate) fn follow(&mut self, commit: &[u8]) {
        let message = MlsMessage::from_bytes(commit).unwrap();
        self.mallory.process_incoming_message(message).unwrap();
        assert_eq!(
            self.mallory.epoch_authenticator().unwrap().as_bytes(),
            self.alice.epoch_authenticator().unwrap()
        );
    }

    /// An honest change of the disclosure.
    pub(crate) fn disclose(&mut self, serial: u64) {
        let extension = self.world.disclosure(serial);
        let (handshake, _) = self.alice.disclose(&extension, NOW).unwrap();
        self.relay.handshake(&handshake.commit, NOW).unwrap();
        settle(&mut self.alice, &mut [&mut self.bob], &handshake);
        self.follow(&handshake.commit);
    }

    /// The control: what Mallory commits within the rules takes effect, so that a refusal is not due to how she commits.
    pub(crate) fn accept(&mut self, message: &[u8]) {
        self.relay.handshake(message, NOW).unwrap();
        for member in [&mut self.alice, &mut self.bob] {
            let (event, _) = member.receive(message).unwrap();
            assert!(matches!(event, Event::Commit(_)), "{event:?}");
            member.persisted();
        }
    }

    /// A client that was never in the conversation, with or without a presented certificate.
    pub(crate) fn outsider(&self, presented: bool) -> RawClient {
        let key = SigningKey::generate().unwrap();
        let device = if presented {
            self.world.certify(5, &key)
        } else {
            crate::world::device("acme", 5, &key)
        };
        let me = identity(device.device, device.certificate, &key);
        raw_client(me, &key, &Habits::default())
    }
}

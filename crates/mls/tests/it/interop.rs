//! OpenMLS, an independent implementation of RFC 9420: as a member that follows the rules, and as one that does not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greffe_mls::{Conversation, Device, EXTENSION_TYPE, Event, SHOWS_HISTORY, check_key_package};
use greffe_types::{DeviceId, Digest, Millis, TenantId};
use openmls::prelude::tls_codec::Deserialize as _;
use openmls::prelude::{
    ApplicationIdExtension, BasicCredential, Capabilities, Ciphersuite, CredentialWithKey,
    Extension, ExtensionType, Extensions, GroupContext, KeyPackage, LeafNode, LeafNodeParameters,
    MlsGroup, MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn, MlsMessageOut,
    PURE_PLAINTEXT_WIRE_FORMAT_POLICY, ProcessedMessageContent, ProtocolVersion, StagedWelcome,
    UnknownExtension,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider as _;

use crate::world::{DAY, ID, Peer, World, observe, refusal, refused, settle};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// OpenMLS judges lifetimes by the system's clock: these conversations are of today.
fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Millis::new(since.as_millis() as u64)
}

/// A device whose client is OpenMLS.
struct Other {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    credential: CredentialWithKey,
    device: Device,
}

impl Other {
    fn new(world: &World, number: u8) -> Self {
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm()).unwrap();
        let device = Device {
            tenant: TenantId::new("acme").unwrap(),
            device: DeviceId::new([number; 16]),
            certificate: Digest::new([number; 32]),
            mls_key: signer.public().try_into().unwrap(),
        };
        world.devices.present(device.clone());
        let identity = [&device.device.to_vec()[..], device.certificate.as_bytes()].concat();
        let credential = CredentialWithKey {
            credential: BasicCredential::new(identity).into(),
            signature_key: signer.public().into(),
        };
        Self {
            provider: OpenMlsRustCrypto::default(),
            signer,
            credential,
            device,
        }
    }

    fn key_package(&self, leaf: Extensions<LeafNode>) -> Vec<u8> {
        let capabilities = Capabilities::builder()
            .ciphersuites(vec![SUITE])
            .extensions(vec![ExtensionType::Unknown(EXTENSION_TYPE)])
            .build();
        let bundle = KeyPackage::builder()
            .leaf_node_capabilities(capabilities)
            .leaf_node_extensions(leaf)
            .build(SUITE, &self.provider, &self.signer, self.credential.clone())
            .unwrap();
        MlsMessageOut::from(bundle).to_bytes().unwrap()
    }

    fn join(&self, welcome: &[u8]) -> MlsGroup {
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .build();
        let MlsMessageBodyIn::Welcome(welcome) = read(welcome).extract() else {
            panic!("not a Welcome");
        };
        StagedWelcome::new_from_welcome(&self.provider, &config, welcome, None)
            .unwrap()
            .into_group(&self.provider)
            .unwrap()
    }

    /// Takes in a commit that one of ours has made.
    fn follow(&self, group: &mut MlsGroup, commit: &[u8]) {
        let message = read(commit).try_into_protocol_message().unwrap();
        let processed = group.process_message(&self.provider, message).unwrap();
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            panic!("not a commit");
        };
        group.merge_staged_commit(&self.provider, *staged).unwrap();
    }

    /// Its commit, not applied yet.
    fn context_commit(
        &self,
        group: &mut MlsGroup,
        extensions: Extensions<GroupContext>,
    ) -> Vec<u8> {
        let bundle = group
            .commit_builder()
            .propose_group_context_extensions(extensions)
            .unwrap()
            .load_psks(self.provider.storage())
            .unwrap()
            .build(
                self.provider.rand(),
                self.provider.crypto(),
                &self.signer,
                |_| true,
            )
            .unwrap()
            .stage_commit(&self.provider)
            .unwrap();
        bundle.into_commit().to_bytes().unwrap()
    }
}

fn read(bytes: &[u8]) -> MlsMessageIn {
    MlsMessageIn::tls_deserialize_exact(bytes).unwrap()
}

fn agree(group: &MlsGroup, ours: &Conversation) {
    assert_eq!(group.epoch().as_u64(), ours.epoch());
    assert_eq!(
        group.epoch_authenticator().as_slice(),
        ours.epoch_authenticator().unwrap()
    );
}

/// Alice with our client, the other one with OpenMLS, in one conversation.
fn pair(world: &World) -> (Peer, Conversation, Other, MlsGroup) {
    let alice = world.device(1);
    let created = alice.client.create(ID, &world.disclosure(1), vec![], now());
    let (mut conversation, _) = created.unwrap();
    let other = Other::new(world, 7);
    let package = other.key_package(Extensions::empty());
    let info = check_key_package(&world.trust, &package, now()).unwrap();
    assert_eq!(info.member.device, other.device.device);
    let (handshake, _) = conversation.add(&[package], now()).unwrap();
    settle(&mut conversation, &mut [], &handshake);
    let group = other.join(handshake.welcome.as_ref().unwrap());
    agree(&group, &conversation);
    (alice, conversation, other, group)
}

#[test]
fn openmls_takes_part_in_a_conversation_of_ours() {
    let world = World::new();
    let (_, mut alice, other, mut group) = pair(&world);
    let mut relay = observe(&world, &alice);
    let extension = group.extensions().unknown(EXTENSION_TYPE).unwrap();
    assert_eq!(extension.0, world.disclosure(1));

    // ours to it: 33 bytes, and the envelope's digest as authenticated data
    let envelope = Digest::new([9; 32]);
    let (message, _) = alice.seal(&[5; 32], &envelope).unwrap();
    let processed = group
        .process_message(
            &other.provider,
            read(&message).try_into_protocol_message().unwrap(),
        )
        .unwrap();
    assert_eq!(processed.aad(), envelope.as_bytes());
    let ProcessedMessageContent::ApplicationMessage(application) = processed.into_content() else {
        panic!("not an application message");
    };
    assert_eq!(application.into_bytes(), [&[1][..], &[5; 32]].concat());

    // its to ours
    group.set_aad(envelope.to_vec());
    let message = group
        .create_message(
            &other.provider,
            &other.signer,
            &[&[1][..], &[6; 32]].concat(),
        )
        .unwrap();
    let message = message.to_bytes().unwrap();
    assert_eq!(relay.application(&message).unwrap(), envelope);
    let (event, _) = alice.receive(&message).unwrap();
    let Event::Application(application) = event else {
        panic!("{event:?}");
    };
    assert_eq!(*application.seed, [6; 32]);
    assert_eq!(application.envelope, envelope);
    assert_eq!(application.sender.device, other.device.device);

    // our commits: keys, another disclosure, another member of ours
    let mut bob = world.device(2);
    let (package, change) = bob
        .client
        .key_packages(1, greffe_mls::KeyPackageKind::Once, now(), DAY)
        .unwrap();
    bob.database.write(&change);
    let mut welcome = None;
    for step in 0..3 {
        let (handshake, _) = match step {
            0 => alice.update(now()),
            1 => alice.disclose(&world.disclosure(2), now()),
            _ => alice.add(&[package[0].bytes.clone()], now()),
        }
        .unwrap();
        relay.handshake(&handshake.commit, now()).unwrap();
        settle(&mut alice, &mut [], &handshake);
        other.follow(&mut group, &handshake.commit);
        agree(&group, &alice);
        welcome = handshake.welcome.or(welcome);
    }
    let mut bob = bob.join(&welcome.unwrap()).unwrap();
    agree(&group, &bob);

    // its commit
    let commit = group
        .self_update(
            &other.provider,
            &other.signer,
            LeafNodeParameters::default(),
        )
        .unwrap();
    let commit = commit.into_commit().to_bytes().unwrap();
    let seen = relay.handshake(&commit, now()).unwrap();
    assert_eq!(seen.committer.device, other.device.device);
    group.merge_pending_commit(&other.provider).unwrap();
    for ours in [&mut alice, &mut bob] {
        let (event, _) = ours.receive(&commit).unwrap();
        assert!(matches!(event, Event::Commit(_)), "{event:?}");
        agree(&group, ours);
    }
    assert_eq!(relay.epoch(), alice.epoch());
}

/// Leaves say whether their clients show edits, retractions and reactions: a key package of before does not, and a commit of
/// the same device after an update of its client does.
#[test]
fn a_client_that_cannot_show_history_is_known_by_its_leaf() {
    let world = World::new();
    let (_, mut alice, other, mut group) = pair(&world);
    let named: Vec<_> = alice.without_history().iter().map(|m| m.device).collect();
    assert_eq!(named, [other.device.device]);
    let mut bob = world.device(2);
    let once = greffe_mls::KeyPackageKind::Once;
    let (package, change) = bob.client.key_packages(1, once, now(), DAY).unwrap();
    bob.database.write(&change);
    let (handshake, _) = alice.add(&[package[0].bytes.clone()], now()).unwrap();
    settle(&mut alice, &mut [], &handshake);
    other.follow(&mut group, &handshake.commit);
    let mut bob = bob.join(&handshake.welcome.unwrap()).unwrap();
    assert_eq!(bob.without_history(), alice.without_history());
    let capabilities = Capabilities::builder()
        .ciphersuites(vec![SUITE])
        .extensions(vec![
            ExtensionType::Unknown(EXTENSION_TYPE),
            ExtensionType::Unknown(SHOWS_HISTORY),
        ])
        .build();
    let parameters = LeafNodeParameters::builder()
        .with_capabilities(capabilities)
        .build();
    let commit = group
        .self_update(&other.provider, &other.signer, parameters)
        .unwrap();
    let commit = commit.into_commit().to_bytes().unwrap();
    group.merge_pending_commit(&other.provider).unwrap();
    for ours in [&mut alice, &mut bob] {
        let (event, _) = ours.receive(&commit).unwrap();
        assert!(matches!(event, Event::Commit(_)), "{event:?}");
        assert!(ours.without_history().is_empty());
    }
}

#[test]
fn ours_join_by_a_welcome_of_openmls() {
    let world = World::new();
    let (_, mut alice, other, mut group) = pair(&world);
    let mut bob = world.device(2);
    let (package, change) = bob
        .client
        .key_packages(
            1,
            greffe_mls::KeyPackageKind::Once,
            now(),
            Duration::from_secs(3600),
        )
        .unwrap();
    bob.database.write(&change);
    let MlsMessageBodyIn::KeyPackage(package) = read(&package[0].bytes).extract() else {
        panic!("not a key package");
    };
    let crypto = other.provider.crypto();
    let package = package.validate(crypto, ProtocolVersion::Mls10).unwrap();
    let bundle = group
        .commit_builder()
        .propose_adds([package])
        .load_psks(other.provider.storage())
        .unwrap()
        .use_ratchet_tree_extension(true)
        .build(
            other.provider.rand(),
            other.provider.crypto(),
            &other.signer,
            |_| true,
        )
        .unwrap()
        .stage_commit(&other.provider)
        .unwrap();
    let welcome = bundle.to_welcome_msg().unwrap().to_bytes().unwrap();
    let commit = bundle.into_commit().to_bytes().unwrap();
    group.merge_pending_commit(&other.provider).unwrap();
    let (event, _) = alice.receive(&commit).unwrap();
    assert!(matches!(event, Event::Commit(_)), "{event:?}");
    let bob = bob.join(&welcome).unwrap();
    agree(&group, &alice);
    agree(&group, &bob);
}

#[test]
fn attack_02_a_commit_of_openmls_that_drops_or_replaces_the_extension_is_refused() {
    let world = World::new();
    let (_, mut alice, other, mut group) = pair(&world);
    let mut relay = observe(&world, &alice);
    let required = group.extensions().required_capabilities().unwrap().clone();
    let with = |bytes: Option<Vec<u8>>| {
        let mut list = vec![Extension::RequiredCapabilities(required.clone())];
        list.extend(bytes.map(|bytes| Extension::Unknown(EXTENSION_TYPE, UnknownExtension(bytes))));
        Extensions::<GroupContext>::from_vec(list).unwrap()
    };
    for (extensions, code) in [
        (Extensions::empty(), "no-requirement"),
        (with(None), "no-disclosure"),
        (with(Some(World::new().disclosure(2))), "disclosure"),
    ] {
        let commit = other.context_commit(&mut group, extensions);
        group
            .clear_pending_commit(other.provider.storage())
            .unwrap();
        assert_eq!(refused(&mut alice, &commit).code(), code);
        assert_eq!(relay.handshake(&commit, now()).unwrap_err().code(), code);
        // and the conversation goes on
        let (handshake, _) = alice.update(now()).unwrap();
        relay.handshake(&handshake.commit, now()).unwrap();
        settle(&mut alice, &mut [], &handshake);
        other.follow(&mut group, &handshake.commit);
        agree(&group, &alice);
    }
    // the control
    let commit = other.context_commit(&mut group, with(Some(world.disclosure(2))));
    group.merge_pending_commit(&other.provider).unwrap();
    relay.handshake(&commit, now()).unwrap();
    let (event, _) = alice.receive(&commit).unwrap();
    assert!(matches!(event, Event::Commit(_)), "{event:?}");
    agree(&group, &alice);
    assert_eq!(alice.disclosure().serial, 2);
}

#[test]
fn attack_70_a_leaf_of_openmls_with_an_application_id_is_refused() {
    let world = World::new();
    let (_, mut alice, _, _) = pair(&world);
    let other = Other::new(&world, 8);
    let smuggled = Extension::ApplicationId(ApplicationIdExtension::new(b"content"));
    let package = other.key_package(Extensions::single(smuggled).unwrap());
    let offered = check_key_package(&world.trust, &package, now());
    assert_eq!(offered.unwrap_err().code(), "extension");
    let added = alice.add(&[package], now());
    assert_eq!(refusal(added.unwrap_err()).code(), "extension");
}

//! Attack 15: a device added by the server, an external commit, an external proposal.

use greffe_mls::{Client, Device, MlsError, SigningKey, check_key_package};
use greffe_types::{DeviceId, Digest};
use mls_rs::extension::built_in::ExternalSendersExt;
use mls_rs::{ExtensionList, MlsMessage};

use crate::hostile::{
    Habits, RawClient, Scene, at, context, identity, raw_client, raw_key_package, secret,
};
use crate::world::{ID, NOW, device, refusal, settle};

/// Where a PublicMessage says what kind of sender it has.
const SENDER: usize = 2 + 2 + 17 + 8;

#[test]
fn attack_15_a_device_without_a_presented_certificate_is_not_added() {
    let mut scene = Scene::new();
    let key = SigningKey::generate().unwrap();
    let unknown = device("acme", 5, &key);
    let foreign = device("other", 5, &key);
    // a certificate of another key, under a device id of its own
    let other = scene
        .world
        .certify(6, &SigningKey::generate().unwrap())
        .certificate;
    for (device, certificate, present, code) in [
        (
            unknown.device,
            unknown.certificate,
            None,
            "unknown-certificate",
        ),
        (other_device(), other, None, "certificate-mismatch"),
        (
            DeviceId::new([7; 16]),
            unknown.certificate,
            Some(unknown),
            "certificate-mismatch",
        ),
        (
            foreign.device,
            foreign.certificate,
            Some(foreign),
            "foreign-tenant",
        ),
    ] {
        if let Some(device) = present {
            scene.world.devices.present(device);
        }
        let server = raw_client(
            identity(device, certificate, &key),
            &key,
            &Habits::default(),
        );
        let package = raw_key_package(&server, ExtensionList::new(), ExtensionList::new());
        let bytes = package.to_bytes().unwrap();
        // an honest member does not add it
        let added = scene.alice.add(std::slice::from_ref(&bytes), NOW);
        assert_eq!(refusal(added.unwrap_err()).code(), code);
        // the relay does not offer it; its tenant shows only in a conversation
        let offered = check_key_package(&scene.world.trust, &bytes, NOW);
        if code == "foreign-tenant" {
            assert!(offered.is_ok());
        } else {
            assert_eq!(offered.unwrap_err().code(), code);
        }
        // and when a member with a modified client adds it, the others refuse
        let output = scene.commit(|builder| builder.add_member(package).unwrap());
        let commit = output.commit_message().to_bytes().unwrap();
        scene.refuse(&commit, code);
        scene.go_on();
    }
    // the control: once its certificate is presented, the same way is open
    let server = scene.outsider(true);
    let package = raw_key_package(&server, ExtensionList::new(), ExtensionList::new());
    let output = scene.commit(|builder| builder.add_member(package).unwrap());
    scene.accept(&output.commit_message().to_bytes().unwrap());
    assert_eq!(scene.bob.members().len(), 4);
}

#[test]
fn attack_15_a_welcome_with_an_unpresented_member_is_not_accepted() {
    let mut scene = Scene::new();
    let server = scene.outsider(false);
    let package = raw_key_package(&server, ExtensionList::new(), ExtensionList::new());
    let mut carol = scene.world.device(3);
    let honest = MlsMessage::from_bytes(&carol.key_package().bytes).unwrap();
    let output = scene.commit(|builder| {
        let builder = builder.add_member(package).unwrap();
        builder.add_member(honest).unwrap()
    });
    let welcome = output.welcome_messages()[0].to_bytes().unwrap();
    let refused = refusal(carol.join(&welcome).unwrap_err());
    assert_eq!(refused.code(), "unknown-certificate");
}

#[test]
fn attack_15_a_leaf_does_not_change_to_an_unpresented_certificate() {
    let mut scene = Scene::new();
    let key = SigningKey::generate().unwrap();
    let me = scene.world.certify(9, &key);
    let bob = scene.bob.me().unwrap();
    for (device, certificate, code) in [
        // her own next certificate, which nobody was shown
        (me.device, Digest::new([0x77; 32]), "unknown-certificate"),
        // Bob's device over her certificate
        (bob.device, me.certificate, "certificate-mismatch"),
    ] {
        let next = identity(device, certificate, &key);
        let secret = secret(&key);
        let output = scene.commit(|builder| builder.set_new_signing_identity(secret, next));
        let commit = output.commit_message().to_bytes().unwrap();
        scene.refuse(&commit, code);
        scene.go_on();
    }
    // a presented certificate, but of another device: the leaf stays with its device
    let other = scene.world.certify(6, &key);
    let next = identity(other.device, other.certificate, &key);
    let secret = secret(&key);
    let output = scene.commit(|builder| builder.set_new_signing_identity(secret, next));
    scene.refuse(&output.commit_message().to_bytes().unwrap(), "mls");
    scene.go_on();
}

#[test]
fn attack_15_external_commits_are_refused() {
    let mut scene = Scene::new();
    // no honest GroupInfo allows one
    let honest = MlsMessage::from_bytes(&scene.alice.group_info().unwrap()).unwrap();
    let outsider = scene.outsider(true);
    assert!(outsider.commit_external(honest).is_err());
    // and a member who hands out one that does gains nothing, whether the certificate is presented or not
    let info = scene
        .mallory
        .group_info_message_allowing_ext_commit(true)
        .unwrap();
    // one who claims to be Alice come back, and throws out her leaf
    let key = SigningKey::generate().unwrap();
    let alice = scene.alice.me().unwrap();
    let again = identity(alice.device, alice.certificate, &key);
    let again = raw_client(again, &key, &Habits::default());
    let resync = again.external_commit_builder().unwrap().with_removal(0);
    let (_, commit) = resync.build(info.clone()).unwrap();
    scene.refuse(&commit.to_bytes().unwrap(), "not-a-member");
    for client in [outsider, scene.outsider(false)] {
        let (_, commit) = client.commit_external(info.clone()).unwrap();
        scene.refuse(&commit.to_bytes().unwrap(), "not-a-member");
    }
    scene.go_on();
}

#[test]
fn attack_15_external_proposals_and_senders_are_refused() {
    let mut scene = Scene::new();
    let info = MlsMessage::from_bytes(&scene.alice.group_info().unwrap()).unwrap();
    let outsider = scene.outsider(true);
    let proposal = outsider
        .external_add_proposal(
            &info,
            None,
            Vec::new(),
            ExtensionList::new(),
            ExtensionList::new(),
            Some(at(NOW)),
        )
        .unwrap();
    let bytes = proposal.to_bytes().unwrap();
    scene.refuse(&bytes, "not-a-member");
    assert_eq!(bytes[SENDER], 3, "a new member's proposal");
    let external = [&bytes[..SENDER], &[2, 0, 0, 0, 0], &bytes[SENDER + 1..]].concat();
    scene.refuse(&external, "not-a-member");
    scene.go_on();
    // nobody becomes an external sender
    let key = SigningKey::generate().unwrap();
    let server = identity(DeviceId::new([5; 16]), Digest::new([5; 32]), &key);
    let mut extensions = context(scene.alice.extension());
    extensions
        .set_from(ExternalSendersExt::new(vec![server]))
        .unwrap();
    let commit = scene.context_commit(extensions);
    scene.refuse(&commit, "extension");
    scene.go_on();
}

#[test]
fn attack_15_the_server_cannot_commit_in_a_members_name() {
    let mut scene = Scene::new();
    // a conversation of the server's own with the same id, epoch, extensions and first leaf, but for the key
    let key = SigningKey::generate().unwrap();
    let alice = scene.alice.me().unwrap();
    let server: RawClient = raw_client(
        identity(alice.device, alice.certificate, &key),
        &key,
        &Habits::default(),
    );
    let extensions = context(scene.alice.extension());
    let mut fake = server
        .create_group_with_id(ID.to_vec(), extensions, ExtensionList::new(), Some(at(NOW)))
        .unwrap();
    while fake.current_epoch() < scene.alice.epoch() {
        fake.commit_builder().commit_time(at(NOW)).build().unwrap();
        fake.apply_pending_commit().unwrap();
    }
    let package = raw_key_package(
        &scene.outsider(true),
        ExtensionList::new(),
        ExtensionList::new(),
    );
    let builder = fake.commit_builder().commit_time(at(NOW));
    let output = builder.add_member(package).unwrap().build().unwrap();
    let commit = output.commit_message().to_bytes().unwrap();
    // the path of a conversation of one does not fit the tree of three, and its signature is not Alice's
    scene.refuse(&commit, "mls");
    // an honest commit with one byte changed is nobody's
    let (handshake, _) = scene.alice.update(NOW).unwrap();
    for position in [SENDER + 4, 200, handshake.commit.len() - 80] {
        let mut changed = handshake.commit.clone();
        changed[position] ^= 1;
        assert!(scene.relay.handshake(&changed, NOW).is_err());
        crate::world::refused(&mut scene.bob, &changed);
    }
    scene.relay.handshake(&handshake.commit, NOW).unwrap();
    settle(&mut scene.alice, &mut [&mut scene.bob], &handshake);
    scene.follow(&handshake.commit);
    scene.go_on();
}

#[test]
fn attack_15_a_withdrawn_certificate_joins_nothing() {
    let scene = Scene::new();
    let peer = &scene.peers[1];
    scene.world.devices.withdraw(&peer.device.certificate);
    let Device {
        device,
        certificate,
        ..
    } = peer.device.clone();
    let client = Client::new(
        device,
        certificate,
        peer.key.clone(),
        scene.world.trust.clone(),
    );
    assert!(
        matches!(client, Err(MlsError::Refused(refused)) if refused.code() == "unknown-certificate")
    );
}

fn other_device() -> DeviceId {
    DeviceId::new([6; 16])
}

//! The life of a conversation among honest devices.

use greffe_mls::{
    Client, Event, KeyPackageKind, MlsError, Mode, Observer, Refusal, RowKey, SigningKey, Table,
    check_key_package,
};
use greffe_types::{DeviceId, Millis};

use crate::world::{DAY, ID, NOW, World, observe, refused, settle, talk};

#[test]
fn members_come_talk_and_go() {
    let world = World::new();
    let mut peers = [world.device(1), world.device(2), world.device(3)];
    let mut all = world.conversation(&mut peers);
    assert_eq!(peers[1].database.count(Table::KeyPackage), 0, "used once");
    let [alice, bob, carol] = &mut all[..] else {
        panic!("three")
    };
    let mut relay = observe(&world, alice);
    assert_eq!(relay.members(), alice.members());
    assert_eq!(alice.members(), carol.members());
    assert_eq!(alice.disclosure().mode, Mode::Journaled);
    assert_eq!(bob.extension(), world.disclosure(1));
    talk(alice, bob, 1);
    talk(bob, carol, 2);

    let (handshake, _) = bob.remove(&[DeviceId::new([3; 16])], NOW).unwrap();
    let seen = relay.handshake(&handshake.commit, NOW).unwrap();
    assert_eq!(seen.removed[0].device, DeviceId::new([3; 16]));
    assert_eq!(seen.committer, bob.me().unwrap());
    settle(bob, &mut [alice], &handshake);
    let (event, change) = carol.receive(&handshake.commit).unwrap();
    peers[2].database.write(&change);
    let Event::Commit(committed) = event else {
        panic!("{event:?}")
    };
    assert!(committed.removed_self);
    assert_eq!(peers[2].database.rows(&RowKey::of_conversation(ID)), []);
    assert!(matches!(peers[2].load(ID), Err(MlsError::Row(_))));
    let (after, _) = alice.seal(&[9; 32], &Default::default()).unwrap();
    assert_eq!(refused(carol, &after).code(), "closed");
    assert!(carol.seal(&[1; 32], &Default::default()).is_err());
    talk(alice, bob, 3);
    assert_eq!(relay.members(), alice.members());
    assert_eq!(relay.epoch(), alice.epoch());
}

#[test]
fn a_rotation_of_the_disclosure_is_seen_by_all() {
    let world = World::new();
    let mut peers = [world.device(1), world.device(2)];
    let mut all = world.conversation(&mut peers);
    let [alice, bob] = &mut all[..] else {
        panic!("two")
    };
    let mut relay = observe(&world, alice);
    let (handshake, _) = alice.disclose(&world.disclosure(2), NOW).unwrap();
    let committed = relay.handshake(&handshake.commit, NOW).unwrap();
    assert_eq!(committed.disclosure.unwrap().serial, 2);
    settle(alice, &mut [bob], &handshake);
    assert_eq!(bob.disclosure().serial, 2);
    assert_eq!(bob.extension(), world.disclosure(2));
    // upward in mode is allowed, downward is not
    let supervised = world.root.disclosure(Mode::Supervised, 1, &["acme"], 1);
    let (handshake, _) = bob.disclose(&supervised, NOW).unwrap();
    relay.handshake(&handshake.commit, NOW).unwrap();
    settle(bob, &mut [alice], &handshake);
    let refused = alice.disclose(&world.disclosure(3), NOW).unwrap_err();
    assert!(matches!(refused, MlsError::Refused(Refusal::ModeLowered)));
    assert_eq!(relay.disclosure().mode, Mode::Supervised);
    // the observer is the same after storing it
    let again = Observer::decode(world.trust.clone(), &relay.encode().unwrap()).unwrap();
    assert_eq!(again.members(), relay.members());
    assert_eq!(again.extension(), relay.extension());
    assert_eq!(again.epoch(), relay.epoch());
    talk(alice, bob, 1);
}

#[test]
fn keys_are_updated_and_certificates_renewed() {
    let world = World::new();
    let mut peers = [world.device(1), world.device(2)];
    let mut all = world.conversation(&mut peers);
    let [alice, bob] = &mut all[..] else {
        panic!("two")
    };
    let mut relay = observe(&world, alice);
    let before = bob.epoch_authenticator().unwrap();
    let (handshake, _) = alice.update(NOW).unwrap();
    relay.handshake(&handshake.commit, NOW).unwrap();
    settle(alice, &mut [bob], &handshake);
    assert_ne!(bob.epoch_authenticator().unwrap(), before);

    let key = SigningKey::generate().unwrap();
    assert_ne!(key.public(), peers[0].key.public());
    let renewed = world.certify(1, &key);
    let (handshake, _) = alice.renew(renewed.certificate, &key, NOW).unwrap();
    let committed = relay.handshake(&handshake.commit, NOW).unwrap();
    assert_eq!(committed.renewed[0].certificate, renewed.certificate);
    settle(alice, &mut [bob], &handshake);
    assert_eq!(alice.me().unwrap().mls_key, key.public());
    talk(alice, bob, 4);
    // from the database the conversation goes on with the new key
    let (handshake, change) = alice.update(NOW).unwrap();
    peers[0].database.write(&change);
    let mut again = peers[0].load(ID).unwrap();
    assert!(again.has_pending());
    settle(&mut again, &mut [bob], &handshake);
    talk(&mut again, bob, 5);
}

#[test]
fn a_pending_commit_is_applied_by_its_echo_or_cleared() {
    let world = World::new();
    let mut peers = [world.device(1), world.device(2)];
    let mut all = world.conversation(&mut peers);
    let [alice, bob] = &mut all[..] else {
        panic!("two")
    };
    let (handshake, _) = alice.update(NOW).unwrap();
    assert!(matches!(alice.update(NOW), Err(MlsError::CommitPending)));
    talk(alice, bob, 1);
    let (event, _) = alice.receive(&handshake.commit).unwrap();
    let Event::Commit(committed) = event else {
        panic!("{event:?}")
    };
    assert!(committed.own && !committed.dropped_pending && !alice.has_pending());
    bob.receive(&handshake.commit).unwrap().1.is_empty();
    talk(bob, alice, 2);
    let _ = alice.update(NOW).unwrap();
    let _ = alice.clear_pending().unwrap();
    assert!(matches!(
        alice.apply_pending(),
        Err(MlsError::NoCommitPending)
    ));
    talk(bob, alice, 3);
}

#[test]
fn invitations_are_shown_before_they_are_accepted() {
    let world = World::new();
    let (mut alice, mut bob) = (world.device(1), world.device(2));
    let rows = Vec::new();
    let created = alice.client.create(ID, &world.disclosure(7), rows, NOW);
    let (mut conversation, _) = created.unwrap();
    let package = bob.key_package();
    let (handshake, _) = conversation.add(&[package.bytes], NOW).unwrap();
    let welcome = handshake.welcome.unwrap();
    let rows = bob
        .database
        .rows(&bob.client.welcome_rows(&welcome).unwrap());
    let invitation = bob.client.examine(&welcome, rows).unwrap();
    assert_eq!(invitation.conversation, ID);
    assert_eq!(invitation.extension, world.disclosure(7));
    assert_eq!(invitation.disclosure.serial, 7);
    assert_eq!(invitation.epoch, 1);
    assert_eq!(bob.join(&welcome).unwrap().disclosure().serial, 7);
    assert!(alice.join(&welcome).is_err(), "it is not for Alice");
}

#[test]
fn key_packages_of_last_resort_are_used_again() {
    let world = World::new();
    let (alice, mut bob) = (world.device(1), world.device(2));
    let kind = KeyPackageKind::LastResort;
    let (packages, change) = bob.client.key_packages(1, kind, NOW, DAY).unwrap();
    bob.database.write(&change);
    let package = &packages[0];
    let info = check_key_package(&world.trust, &package.bytes, NOW).unwrap();
    assert!(info.last_resort);
    assert_eq!(info.reference, package.reference);
    assert_eq!(info.member.device, bob.device.device);
    assert_eq!(info.not_after, NOW.plus(DAY));
    let late = NOW.plus(DAY * 2);
    assert!(check_key_package(&world.trust, &package.bytes, late).is_err());
    for number in 0..2_u8 {
        let id = greffe_types::ConversationId::new([number; 16]);
        let created = alice.client.create(id, &world.disclosure(1), vec![], NOW);
        let (mut conversation, _) = created.unwrap();
        let packages = [package.bytes.clone()];
        let (handshake, _) = conversation.add(&packages, NOW).unwrap();
        let mut joined = bob.join(&handshake.welcome.unwrap()).unwrap();
        let _ = conversation.apply_pending().unwrap();
        talk(&mut conversation, &mut joined, 1);
        assert_eq!(bob.database.count(Table::KeyPackage), 1);
    }
}

#[test]
fn a_late_key_package_is_not_added() {
    let world = World::new();
    let mut peers = [world.device(1), world.device(2)];
    let mut all = world.conversation(&mut peers);
    let mut carol = world.device(3);
    let package = carol.key_package();
    let late = Millis::new(NOW.get() + 2 * 86_400_000);
    let added = all[0].add(std::slice::from_ref(&package.bytes), late);
    assert!(matches!(added, Err(MlsError::Refused(_))));
    // and the conversation is as it was
    let (handshake, _) = all[0].add(&[package.bytes], NOW).unwrap();
    let [alice, bob] = &mut all[..] else {
        panic!("two")
    };
    settle(alice, &mut [bob], &handshake);
    assert_eq!(bob.members().len(), 3);
}

#[test]
fn a_client_needs_a_presented_certificate_for_its_key() {
    let world = World::new();
    let device = world.device(1).device;
    let other = SigningKey::generate().unwrap();
    let client = Client::new(device.device, device.certificate, other, world.trust);
    assert!(matches!(
        client,
        Err(MlsError::Refused(Refusal::CertificateMismatch(_)))
    ));
}

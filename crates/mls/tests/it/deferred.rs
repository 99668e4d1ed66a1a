//! Many messages taken in before anything is written: the same state as one by one, whatever lies between.

use greffe_mls::{Conversation, Event, StateChange};
use greffe_types::Digest;

use crate::hostile::{Scene, context};
use crate::world::{Database, ID, NOW, Peer, World, settle, talk};

fn sealed(from: &mut Conversation, byte: u8) -> Vec<u8> {
    let (message, _) = from.seal(&[byte; 32], &Digest::new([byte; 32])).unwrap();
    from.persisted();
    message
}

fn broken(message: &[u8]) -> Vec<u8> {
    let mut broken = message.to_vec();
    *broken.last_mut().unwrap() ^= 1;
    broken
}

fn opened(conversation: &mut Conversation, message: &[u8], byte: u8) {
    let event = conversation.receive_next(message).unwrap();
    let Event::Application(application) = event else {
        panic!("not opened: {event:?}");
    };
    assert_eq!(*application.seed, [byte; 32]);
}

fn refused_next(conversation: &mut Conversation, message: &[u8], code: &str) {
    let event = conversation.receive_next(message).unwrap();
    let Event::Refused(refusal) = event else {
        panic!("accepted: {event:?}");
    };
    assert_eq!(refusal.code(), code, "{refusal:?}");
}

/// Rows as a database holds them after a change.
fn written(database: &Database, change: &StateChange) -> Database {
    let mut database = database.clone();
    database.write(change);
    database
}

/// Two devices that talk, and a third whose messages the second may receive too.
fn pair() -> (World, [Peer; 2], Conversation, Conversation) {
    let world = World::new();
    let mut peers = [world.device(1), world.device(2)];
    let mut all = world.conversation(&mut peers);
    let (bob, alice) = (all.pop().unwrap(), all.pop().unwrap());
    (world, peers, alice, bob)
}

#[test]
fn a_refused_message_between_leaves_the_others_to_open() {
    let (_world, peers, mut alice, mut bob) = pair();
    let messages: Vec<_> = (1..=6).map(|byte| sealed(&mut alice, byte)).collect();
    opened(&mut bob, &messages[0], 1);
    opened(&mut bob, &messages[1], 2);
    // a forgery of one still to come, which uses its key up in the library; a replay; a message of nobody
    refused_next(&mut bob, &broken(&messages[2]), "mls");
    refused_next(&mut bob, &messages[0], "replay");
    refused_next(&mut bob, b"\0\x01", "malformed");
    opened(&mut bob, &messages[2], 3);
    // out of order: what was skipped still opens
    opened(&mut bob, &messages[4], 5);
    refused_next(&mut bob, &broken(&messages[5]), "mls");
    opened(&mut bob, &messages[3], 4);
    let change = bob.received().unwrap();
    bob.persisted();
    let mut peer = peers.into_iter().nth(1).unwrap();
    peer.database.write(&change);
    let mut again = peer.load(ID).unwrap();
    for message in &messages[..5] {
        refused_next(&mut again, message, "replay");
    }
    opened(&mut again, &messages[5], 6);
    opened(&mut bob, &messages[5], 6);
}

#[test]
fn together_is_the_same_as_one_by_one() {
    let (_world, peers, mut alice, bob) = pair();
    drop(bob);
    let database = &peers[1].database;
    let mut inbox: Vec<_> = (1..=3).map(|byte| sealed(&mut alice, byte)).collect();
    inbox.insert(1, broken(&inbox[2]));
    let (handshake, _) = alice.update(NOW).unwrap();
    let _ = alice.apply_pending().unwrap();
    inbox.push(handshake.commit.clone());
    inbox.push(handshake.commit);
    inbox.extend((4..=5).map(|byte| sealed(&mut alice, byte)));

    let mut together = peers[1].load(ID).unwrap();
    let mut events = Vec::new();
    for message in &inbox {
        events.push(format!("{:?}", together.receive_next(message).unwrap()));
    }
    let at_once = written(database, &together.received().unwrap());
    together.persisted();
    assert!(together.received().unwrap().is_empty(), "nothing is left");

    let mut single = peers[1].load(ID).unwrap();
    let mut stored = database.clone();
    for (message, event) in inbox.iter().zip(&events) {
        let (seen, change) = single.receive(message).unwrap();
        stored.write(&change);
        single.persisted();
        assert_eq!(format!("{seen:?}"), *event);
    }
    let kinds: Vec<_> = events.iter().map(|event| &event[..6]).collect();
    assert_eq!(
        kinds,
        [
            "Applic", "Refuse", "Applic", "Applic", "Commit", "Refuse", "Applic", "Applic"
        ]
    );
    // the same epoch, secrets and rows, and the next message opens for both and for what was loaded from either
    let next = sealed(&mut alice, 9);
    let [_, mut bob] = peers;
    for rows in [at_once, stored] {
        bob.database = rows;
        let mut loaded = bob.load(ID).unwrap();
        assert_eq!(loaded.epoch(), alice.epoch());
        assert_eq!(
            loaded.epoch_authenticator().unwrap(),
            alice.epoch_authenticator().unwrap()
        );
        assert_eq!(loaded.members(), alice.members());
        refused_next(&mut loaded, inbox.last().unwrap(), "replay");
        opened(&mut loaded, &next, 9);
    }
    opened(&mut together, &next, 9);
    opened(&mut single, &next, 9);
}

#[test]
fn discarding_goes_back_to_what_was_persisted() {
    let (_world, _peers, mut alice, mut bob) = pair();
    let messages: Vec<_> = (1..=4).map(|byte| sealed(&mut alice, byte)).collect();
    opened(&mut bob, &messages[0], 1);
    let _ = bob.received().unwrap();
    bob.persisted();
    // before and after the rows were made
    for made in [false, true] {
        opened(&mut bob, &messages[1], 2);
        opened(&mut bob, &messages[2], 3);
        if made {
            assert!(!bob.received().unwrap().is_empty());
        }
        bob.discard().unwrap();
        assert!(bob.received().unwrap().is_empty());
        refused_next(&mut bob, &messages[0], "replay");
    }
    // and over a change of epoch
    let (handshake, _) = alice.update(NOW).unwrap();
    let epoch = bob.epoch();
    let _ = alice.apply_pending().unwrap();
    let later = sealed(&mut alice, 5);
    for _ in 0..2 {
        opened(&mut bob, &messages[1], 2);
        let event = bob.receive_next(&handshake.commit).unwrap();
        assert!(matches!(event, Event::Commit(_)), "{event:?}");
        opened(&mut bob, &later, 5);
        bob.discard().unwrap();
        assert_eq!(bob.epoch(), epoch);
    }
    opened(&mut bob, &messages[1], 2);
    opened(&mut bob, &messages[2], 3);
    opened(&mut bob, &messages[3], 4);
    let event = bob.receive_next(&handshake.commit).unwrap();
    assert!(matches!(event, Event::Commit(_)), "{event:?}");
    opened(&mut bob, &later, 5);
    assert!(!bob.received().unwrap().is_empty());
    bob.persisted();
    talk(&mut bob, &mut alice, 6);
}

#[test]
fn a_hostile_commit_between_does_not_lose_what_was_received() {
    let mut scene = Scene::new();
    let messages: Vec<_> = (1..=4).map(|byte| sealed(&mut scene.alice, byte)).collect();
    let foreign = World::new().disclosure(3);
    let commit = scene.context_commit(context(&foreign));
    opened(&mut scene.bob, &messages[0], 1);
    opened(&mut scene.bob, &messages[1], 2);
    refused_next(&mut scene.bob, &commit, "disclosure");
    opened(&mut scene.bob, &messages[2], 3);
    refused_next(&mut scene.bob, &messages[0], "replay");
    scene.peers[1]
        .database
        .write(&scene.bob.received().unwrap());
    scene.bob.persisted();
    let mut again = scene.peers[1].load(ID).unwrap();
    refused_next(&mut again, &messages[2], "replay");
    opened(&mut again, &messages[3], 4);
}

#[test]
fn what_is_sent_between_is_not_lost() {
    let (_world, mut peers, mut alice, mut bob) = pair();
    let messages: Vec<_> = (1..=3).map(|byte| sealed(&mut alice, byte)).collect();
    opened(&mut bob, &messages[0], 1);
    // a message and a commit of his own, made while something waits to be written
    let (mine, change) = bob.seal(&[7; 32], &Digest::new([7; 32])).unwrap();
    peers[1].database.write(&change);
    bob.persisted();
    opened(&mut alice, &mine, 7);
    opened(&mut bob, &messages[1], 2);
    let (handshake, change) = bob.update(NOW).unwrap();
    peers[1].database.write(&change);
    bob.persisted();
    refused_next(&mut bob, &broken(&messages[2]), "mls");
    assert!(bob.has_pending());
    opened(&mut bob, &messages[2], 3);
    let mut again = peers[1].load(ID).unwrap();
    refused_next(&mut again, &messages[0], "replay");
    refused_next(&mut again, &messages[1], "replay");
    opened(&mut again, &messages[2], 3);
    settle(&mut again, &mut [&mut alice], &handshake);
    talk(&mut again, &mut alice, 8);
}

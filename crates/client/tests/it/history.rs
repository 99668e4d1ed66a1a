//! Edits, retractions and reactions between clients: what members are shown, what is refused before it is sent, and what a member
//! whose program keeps to no rule can do, which is nothing but be shown to have tried.

use std::sync::Arc;

use greffe_client::{Device, Outgoing, OutgoingAttachment, Source, Thread};
use greffe_envelope::content::Kind;
use greffe_envelope::history::Why;
use greffe_envelope::pb;
use greffe_types::{ConversationId, Digest};
use prost::Message as _;

use crate::cheats::Mallory;
use crate::life::{conversation, messages, user};
use crate::world::World;

async fn send(device: &Device, outgoing: Outgoing) -> Digest {
    device.send(outgoing).await.unwrap().envelope
}

async fn refused(device: &Device, outgoing: Outgoing) -> String {
    let error = device.send(outgoing).await.unwrap_err();
    assert!(error.to_string().len() > 30, "{error}");
    error.reason().to_owned()
}

async fn thread(device: &Device, id: &ConversationId, envelope: &Digest) -> Thread {
    device.catch_up().await.unwrap();
    device.thread(id, envelope).await.unwrap()
}

/// The texts of a message's versions.
fn versions(thread: &Thread, envelope: &Digest) -> Vec<String> {
    let message = thread.message(envelope).unwrap();
    let text = |sequence: &u64| {
        let content = thread.item(*sequence).unwrap().content.as_ref().unwrap();
        String::from_utf8(content.text.clone()).unwrap()
    };
    message.versions.iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_see_every_version_and_who_reacted() {
    let world = World::new().await;
    let (client, alice, bob) = world.alice_and_bob().await;
    let phone = world.device(&client, "alice").await;
    let id = conversation(&alice, &[&bob, &phone]).await;
    let first = send(&alice, Outgoing::text(id, "The limit is 5.")).await;
    // Nothing has come back yet: what was just sent can be edited all the same.
    send(&alice, Outgoing::edit(id, first, "The limit is 6.")).await;
    bob.catch_up().await.unwrap();
    send(&bob, Outgoing::reaction(id, first, "👍")).await;
    send(&bob, Outgoing::reaction(id, first, "👀")).await;
    send(&bob, Outgoing::reaction_removal(id, first, "👀")).await;
    // Any device of the same user.
    phone.catch_up().await.unwrap();
    send(&phone, Outgoing::edit(id, first, "The limit is 7.")).await;
    for device in [&alice, &bob, &phone] {
        let thread = thread(device, &id, &first).await;
        assert_eq!(
            versions(&thread, &first),
            ["The limit is 5.", "The limit is 6.", "The limit is 7."]
        );
        let message = thread.message(&first).unwrap();
        assert_eq!(message.retracted, None);
        assert_eq!(message.acts.len(), 5);
        let who = |text: &str| -> Vec<&str> {
            let who = message.reactions[text].keys();
            who.map(String::as_str).collect()
        };
        assert_eq!((message.reactions.len(), who("👍")), (1, vec!["bob"]));
    }
    send(&phone, Outgoing::retraction(id, first)).await;
    for device in [&alice, &bob, &phone] {
        let thread = thread(device, &id, &first).await;
        let message = thread.message(&first).unwrap();
        assert!(message.retracted.is_some());
        // Taken back, not gone.
        assert_eq!(versions(&thread, &first).len(), 3);
        assert_eq!(thread.items.len(), 7);
        assert!(thread.items.iter().all(|item| item.content.is_some()));
    }
    // The relay saw seven messages like any other: no header says what is about what.
    let items =
        (1..).map_while(|n| (n <= world.relay.sequenced(&id)).then(|| world.relay.item(&id, n)));
    let seen: Vec<Vec<u8>> = items.map(|item| item.encode_to_vec()).collect();
    assert!(seen.len() >= 8);
    let headers = seen.iter().filter(|bytes| {
        let found = bytes.windows(32).filter(|part| *part == first.as_bytes());
        found.count() > 0
    });
    // The message itself, in its receipt; the next of the same device, which names its own last one.
    assert_eq!(headers.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_delivered_again_hides_nothing() {
    let world = World::new().await;
    let (_client, alice, bob) = world.alice_and_bob().await;
    let id = conversation(&alice, &[&bob]).await;
    let sent = alice.send(Outgoing::text(id, "The limit is 5.")).await;
    let sent = sent.unwrap();
    let first = sent.envelope;
    // To both in one batch with the message itself, and to both again when that is long taken in.
    world.relay.replay(&id, sent.sequence);
    for device in [&alice, &bob] {
        let thread = thread(device, &id, &first).await;
        assert_eq!(versions(&thread, &first), ["The limit is 5."]);
        let found = thread.item(sent.sequence).expect("the first stands");
        assert_eq!(found.digest, first);
    }
    world.relay.replay(&id, sent.sequence);
    for device in [&alice, &bob] {
        device.catch_up().await.unwrap();
    }
    send(&alice, Outgoing::edit(id, first, "The limit is 6.")).await;
    send(&bob, Outgoing::reaction(id, first, "👍")).await;
    for device in [&alice, &bob] {
        let thread = thread(device, &id, &first).await;
        assert_eq!(
            versions(&thread, &first),
            ["The limit is 5.", "The limit is 6."]
        );
        let message = thread.message(&first).unwrap();
        assert!(message.reactions.contains_key("👍"));
        // What came again is there and says why it is not shown.
        let history = device.history(&id, 0, 100).await.unwrap();
        let again = history.iter().filter(|item| item.digest == first);
        let again: Vec<bool> = again.map(|item| item.content.is_some()).collect();
        assert_eq!(again, [true, false, false]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_have_no_effect_is_not_sent() {
    let world = World::new().await;
    let (_client, alice, bob) = world.alice_and_bob().await;
    let id = conversation(&alice, &[&bob]).await;
    let elsewhere = conversation(&alice, &[&bob]).await;
    let first = send(&alice, Outgoing::text(id, "The limit is 5.")).await;
    let other = send(&alice, Outgoing::text(elsewhere, "Elsewhere.")).await;
    for device in [&alice, &bob] {
        device.catch_up().await.unwrap();
    }
    let before = world.relay.sequenced(&id);
    for (device, outgoing, reason) in [
        (
            &bob,
            Outgoing::edit(id, first, "I owe you 5."),
            "NOT_THE_AUTHOR",
        ),
        (&bob, Outgoing::retraction(id, first), "NOT_THE_AUTHOR"),
        (&alice, Outgoing::edit(id, other, "x"), "TARGET_UNKNOWN"),
        (
            &alice,
            Outgoing::edit(id, Digest::new([9; 32]), "x"),
            "TARGET_UNKNOWN",
        ),
        (&bob, Outgoing::reaction(id, other, "x"), "TARGET_UNKNOWN"),
        (&bob, Outgoing::reaction(id, first, ""), "REACTION_TEXT"),
        (
            &bob,
            Outgoing::reaction(id, first, &"x".repeat(65)),
            "REACTION_TEXT",
        ),
        (&bob, Outgoing::reaction(id, first, "a\nb"), "REACTION_TEXT"),
        (
            &bob,
            Outgoing::reaction_removal(id, first, "👍"),
            "REACTION_UNKNOWN",
        ),
        (
            &alice,
            Outgoing {
                reply_to: Some(first),
                ..Outgoing::edit(id, first, "x")
            },
            "CONTENT_EXTRA",
        ),
        (
            &alice,
            Outgoing {
                attachments: vec![OutgoingAttachment {
                    name: "x".into(),
                    media_type: "text/plain".into(),
                    source: Source::Bytes(Arc::from(&b"x"[..])),
                }],
                ..Outgoing::edit(id, first, "x")
            },
            "CONTENT_EXTRA",
        ),
        (
            &alice,
            Outgoing {
                target: None,
                ..Outgoing::edit(id, first, "x")
            },
            "CONTENT_TARGET",
        ),
        (
            &alice,
            Outgoing {
                target: Some(first),
                ..Outgoing::text(id, "x")
            },
            "CONTENT_TARGET",
        ),
    ] {
        assert_eq!(refused(device, outgoing).await, reason);
    }
    assert_eq!(world.relay.sequenced(&id), before, "nothing went out");

    // Neither an edit nor what was taken back is edited, and reactions have an end.
    let edit = send(&alice, Outgoing::edit(id, first, "The limit is 6.")).await;
    alice.catch_up().await.unwrap();
    let again = Outgoing::edit(id, edit, "x");
    assert_eq!(refused(&alice, again).await, "TARGET_NO_MESSAGE");
    bob.catch_up().await.unwrap();
    for number in 0..16 {
        send(&bob, Outgoing::reaction(id, first, &format!("r{number}"))).await;
    }
    bob.catch_up().await.unwrap();
    let more = Outgoing::reaction(id, first, "r16");
    assert_eq!(refused(&bob, more).await, "REACTIONS_TOO_MANY");
    let same = Outgoing::reaction(id, first, "r3");
    assert_eq!(refused(&bob, same).await, "REACTION_REPEATED");
    send(&alice, Outgoing::retraction(id, first)).await;
    alice.catch_up().await.unwrap();
    let late = Outgoing::edit(id, first, "x");
    assert_eq!(refused(&alice, late).await, "TARGET_RETRACTED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_rules_is_shown_to_have_tried() {
    let world = World::new().await;
    let client = world.client("apps").await;
    let bob = world.device(&client, "bob").await;
    let mut mallory = Mallory::inviting(&world, "bob").await;
    let id = mallory.id;
    bob.catch_up().await.unwrap();
    bob.acknowledge(&id, "en").await.unwrap();
    let said = send(&bob, Outgoing::text(id, "I pay 5.")).await;
    let about = |kind: pb::ContentKind, target: &[u8], text: &[u8]| pb::Content {
        kind: kind.into(),
        text: text.to_vec(),
        target: target.to_vec(),
        ..Default::default()
    };
    use pb::ContentKind::{Edit, Reaction, Retraction, Text};
    let own = mallory.say(
        &world,
        &about(Text, &[], b"I owe you 5.").encode_to_vec(),
        20,
    );
    // A newer client's kind, with a field that this version does not know.
    let newer = [8, 99, 18, 2, b'h', b'i', 122, 1, b'?'];
    let newer_digest = mallory.say(&world, &newer, 21);
    let tries = [
        (
            about(Edit, said.as_bytes(), b"I pay 500."),
            Why::NotTheAuthor,
        ),
        (about(Retraction, said.as_bytes(), b""), Why::NotTheAuthor),
        (about(Edit, &[9; 32], b"x"), Why::TargetUnknown),
        (
            about(Edit, newer_digest.as_bytes(), b"x"),
            Why::TargetNoMessage,
        ),
        (
            about(Reaction, said.as_bytes(), &[b'x'; 65]),
            Why::Malformed,
        ),
        (about(Reaction, said.as_bytes(), b"\x1b[2J"), Why::Malformed),
        (
            about(Retraction, own.as_bytes(), b"because"),
            Why::Malformed,
        ),
        (about(Edit, &[9; 5], b"x"), Why::Malformed),
    ];
    let mut sent = Vec::new();
    for (salt, (content, _)) in (30..).zip(&tries) {
        sent.push(mallory.say(&world, &content.encode_to_vec(), salt));
    }
    // Opened and shown every one of them: nothing is withheld, nothing is believed.
    let heard = messages(bob.catch_up().await.unwrap());
    assert_eq!(heard.len(), 2 + tries.len());
    assert_eq!(Kind::of(&heard[1].content), Some(Kind::Unknown(99)));
    assert_eq!(heard[1].content.text, b"hi");
    let bobs = bob.thread(&id, &said).await.unwrap();
    let message = bobs.message(&said).unwrap();
    assert_eq!(
        (
            message.versions.len(),
            message.retracted,
            message.acts.len()
        ),
        (1, None, 4)
    );
    assert!(message.reactions.is_empty());
    for ((content, why), digest) in tries.iter().zip(&sent) {
        let received = heard
            .iter()
            .find(|heard| heard.envelope == *digest)
            .unwrap();
        assert_eq!(&received.content, content);
        if let Ok(target) = Digest::try_from(content.target.as_slice()) {
            let thread = bob.thread(&id, &target).await.unwrap();
            assert_eq!(thread.verdict(received.sequence), Some(Err(*why)), "{why}");
        }
    }
    // And a known kind with a hidden field is no content at all.
    let mut hidden = newer;
    hidden[1] = 3;
    mallory.say(&world, &hidden, 60);
    assert!(messages(bob.catch_up().await.unwrap()).is_empty());
    let last = bob.history(&id, 0, 1000).await.unwrap().pop().unwrap();
    assert_eq!(
        (last.content, last.reason.as_str()),
        (None, "content-does-not-open")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_cannot_show_them_is_not_sent_any() {
    let world = World::new().await;
    let (_client, alice, bob) = world.alice_and_bob().await;
    let id = conversation(&alice, &[&bob]).await;
    let first = send(&alice, Outgoing::text(id, "The limit is 5.")).await;
    send(&alice, Outgoing::edit(id, first, "The limit is 6.")).await;
    crate::cheats::older_client(&world, "carol").await;
    alice.invite(&id, &[user("carol")]).await.unwrap();
    for outgoing in [
        Outgoing::edit(id, first, "The limit is 7."),
        Outgoing::retraction(id, first),
        Outgoing::reaction(id, first, "👍"),
    ] {
        let error = alice.send(outgoing).await.unwrap_err();
        assert_eq!(error.reason(), "MEMBERS_TOO_OLD");
        assert!(error.to_string().contains("carol"), "{error}");
    }
    send(&alice, Outgoing::text(id, "A text goes out.")).await;
    alice.remove(&id, &[user("carol")]).await.unwrap();
    send(&alice, Outgoing::edit(id, first, "The limit is 7.")).await;
}

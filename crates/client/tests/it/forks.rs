//! A relay, and an archive that signs whatever it says, which show one member another conversation than the others.

use greffe_api::relay as api;
use greffe_api::relay::receive_response::Item;
use greffe_client::{Device, Event, Outgoing};
use greffe_envelope::chain::ChainState;
use greffe_envelope::envelope::envelope_digest;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_types::{ConversationId, Digest};

use crate::life::{conversation, messages};
use crate::world::World;

/// Gives the chain as it is before a number.
fn chain_before(world: &World, id: &ConversationId, sequence: u64) -> ChainState {
    let receipt = world.relay.item(id, sequence).receipt.unwrap();
    let receipt = Signed::<pb::Receipt>::decode(receipt).unwrap();
    ChainState {
        conversation: *id,
        sequence: sequence - 1,
        head: Digest::try_from(receipt.previous_head.as_slice()).unwrap(),
    }
}

/// From `chain` on, delivers what `order` says instead of what has those numbers, each with a true receipt of its false
/// place. Numbers are those of the honest conversation.
fn show_instead(world: &World, mut chain: ChainState, order: &[u64]) {
    let (id, begin) = (chain.conversation, chain.sequence + 1);
    let mut shown = Vec::new();
    for instead in order {
        let mut response = world.relay.item(&id, *instead);
        let Some(Item::Message(message)) = &response.item else {
            panic!("not a message");
        };
        let digest = envelope_digest(&message.envelope.as_ref().unwrap().body);
        let (receipt, next) = world
            .tenant
            .receipt(&chain, pb::EntryKind::Message, &digest);
        chain = next;
        (response.sequence, response.receipt) = (next.sequence, Some(receipt));
        shown.push(response);
    }
    let deliver = move |response: &mut api::ReceiveResponse| {
        if response.conversation != id.as_bytes() || response.sequence < begin {
            return true;
        }
        let at = usize::try_from(response.sequence - begin).unwrap();
        match shown.get(at) {
            Some(instead) => instead.clone_into(response),
            None => return false,
        }
        true
    };
    world.relay.hooks.lock().unwrap().deliver = Some(Box::new(deliver));
}

fn honest(world: &World) {
    world.relay.hooks.lock().unwrap().deliver = None;
}

async fn say(device: &Device, id: ConversationId, text: &str) -> u64 {
    device
        .send(Outgoing::text(id, text))
        .await
        .unwrap()
        .sequence
}

/// Reasons why something was withheld.
fn withheld(events: &[Event]) -> Vec<&str> {
    let reason = |event| match event {
        &Event::Withheld { reason, .. } => Some(reason),
        _ => None,
    };
    events.iter().filter_map(reason).collect()
}

fn texts(events: Vec<Event>) -> Vec<String> {
    let text = |message: greffe_client::Received| String::from_utf8(message.content.text).unwrap();
    messages(events).into_iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_69_a_fork_shows_with_the_next_message_to_everybody_on_both_sides() {
    let world = World::new().await;
    let client = world.client("apps").await;
    let alice = world.device(&client, "alice").await;
    let carol = world.device(&client, "carol").await;
    let other = world.client("other").await;
    let bob = world.device(&other, "bob").await;
    let id = conversation(&alice, &[&bob, &carol]).await;
    for device in [&alice, &bob, &carol] {
        device.catch_up().await.unwrap();
    }
    // Neither has seen the other's: nothing in them says which came first.
    let first = say(&alice, id, "we sell").await;
    let second = say(&carol, id, "the deal is off").await;
    assert_eq!(second, first + 1);
    show_instead(&world, chain_before(&world, &id, first), &[second, first]);
    let events = bob.catch_up().await.unwrap();
    assert_eq!(withheld(&events), [""; 0]);
    assert_eq!(texts(events), ["the deal is off", "we sell"]);

    // The next message of somebody who has seen the other order says so.
    honest(&world);
    alice.catch_up().await.unwrap();
    let third = say(&alice, id, "as I said").await;
    let before = chain_before(&world, &id, first);
    show_instead(&world, before, &[second, first, third]);
    let events = bob.catch_up().await.unwrap();
    assert_eq!(withheld(&events), ["seen-head-mismatch"], "{events:?}");
    assert!(messages(events).is_empty(), "nothing of it is shown");

    // And so does the next one of who was deceived, to everybody else.
    honest(&world);
    say(&bob, id, "what did you say?").await;
    for device in [&alice, &carol] {
        let events = device.catch_up().await.unwrap();
        assert_eq!(withheld(&events), ["seen-head-mismatch"], "{events:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_69_what_was_withheld_shows_with_the_next_message() {
    let world = World::new().await;
    let client = world.client("apps").await;
    let alice = world.device(&client, "alice").await;
    let other = world.client("other").await;
    let bob = world.device(&other, "bob").await;
    let id = conversation(&alice, &[&bob]).await;
    alice.catch_up().await.unwrap();
    bob.catch_up().await.unwrap();
    let hidden = say(&alice, id, "do not sell").await;
    alice.catch_up().await.unwrap();
    let next = say(&alice, id, "is that clear?").await;
    // As if there were nothing between: the number is given to the next one.
    show_instead(&world, chain_before(&world, &id, hidden), &[next]);
    let events = bob.catch_up().await.unwrap();
    assert_eq!(withheld(&events), ["seen-head-mismatch"], "{events:?}");
    assert!(messages(events).is_empty());
}

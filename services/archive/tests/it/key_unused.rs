//! The archive's half of a key's retirement: not in the key's period, not while a record of it is left, not for everybody.

use core::time::Duration;

use greffe_api::archive as api;
use greffe_api::archive::ingest_request::Entry;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::trust::verify_key_unused;
use greffe_types::Millis;

use crate::ingest_refusals::patiently;
use crate::people::by;
use crate::support::{Archive, World, refusal};
use crate::world::{NOW, Talk, ingest_message, journal_until};

const HOUR: Duration = Duration::from_secs(3600);

async fn ask(
    world: &World,
    archive: &Archive,
    person: &str,
    key_id: &[u8],
) -> Result<pb::SignedStatement, String> {
    let request = api::ConfirmKeyUnusedRequest {
        key_id: key_id.to_vec(),
    };
    let asked = archive
        .records()
        .confirm_key_unused(by(world, person, request))
        .await;
    match asked {
        Ok(answer) => Ok(answer.into_inner().unused.unwrap()),
        Err(status) => Err(refusal(status).1),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_unused_once_its_period_is_over_and_its_last_record_is_gone() {
    let world = World::new().await;
    let archive = world.start().await;
    let end = NOW.plus(HOUR);
    let ending = journal_until(72, 2, end.get());
    let mut talk = Talk::new(1);
    archive.archive(talk.message("of another key")).await;
    for statement in [ending.record.raw(), ending.disclosure.raw()] {
        world.log.add(Event::Statement(statement.clone()));
    }
    let commit = talk.handshake_with(ending.disclosure.raw().clone());
    patiently(&archive, &commit).await;
    let sealed = talk.seal_to("the last one", &ending.key, |header| {
        header.key_ids = vec![ending.record.key_id.clone()];
    });
    let sender = talk.members[0].clone();
    let last = talk.request(Entry::Message(ingest_message(&sealed, &sender)));
    let receipt = archive.archive(last).await;

    let key_id = &ending.record.key_id;
    let refused = async |person: &str, key_id: &[u8]| {
        ask(&world, &archive, person, key_id).await.unwrap_err()
    };
    assert_eq!(refused("ann", key_id).await, "CALLER_NOT_ALLOWED");
    assert_eq!(refused("eve", &[1; 31]).await, "FIELD_INVALID");
    assert_eq!(refused("eve", &[1; 32]).await, "KEY_UNKNOWN");
    // Another archive may still write what it took in at the last moment.
    for at in [NOW, end, end.plus(HOUR)] {
        world.clock.set(at);
        assert_eq!(refused("eve", key_id).await, "KEY_IN_PERIOD", "{at}");
    }
    world.clock.set(end.plus(2 * HOUR));
    assert_eq!(refused("dan", key_id).await, "KEY_IN_USE");

    let later = Millis::new(NOW.get() + 4 * 366 * 24 * 3_600_000);
    world.clock.set(later);
    let act = api::DisposeAct {
        record: receipt.entry_digest.clone(),
        reason: "its time has come".into(),
    };
    let people = ["gus", "eve", "dan"];
    let disposed = archive
        .act(&world, &people, "record.dispose", &act, 71)
        .await;
    disposed.unwrap();
    let unused = ask(&world, &archive, "eve", key_id).await.unwrap();
    let bundle = world.verified_bundle();
    let unused = verify_key_unused(unused, &ending.record, &[&bundle]).unwrap();
    assert_eq!(unused.at, later.get());
    archive.stop().await;
}

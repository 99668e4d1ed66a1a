//! The node follows the log by itself: what it has not followed it does not act on.

use std::time::Duration;

use greffe_api::archive::DisposeAct;
use greffe_api::escrow::witness_service_client::WitnessServiceClient;
use greffe_api::escrow::{
    ActivateRequest, AddCheckpointRequest, GetCurrencyRequest, GetStatusRequest,
};
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use greffe_service_kit::errors::CallError;
use greffe_service_kit::tls::SpiffeId;
use greffe_types::Digest;
use prost::Message as _;

use crate::log::now;
use crate::records::{
    approved, archived, list, open, opening, order, order_refused, record_refused, release,
};
use crate::world::{World, person_key, tenant};

/// A node that is behind, as after a restore from an old copy: it refuses until it has caught up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_31_a_node_that_is_behind_refuses_until_it_has_caught_up() {
    let (mut world, journal) = World::with_key().await;
    let records = archived(&world, &journal, &[1]);
    world.caught_up().await;
    world.log.hide_from(Some(world.log.size() as usize));
    world.stop(0).await;
    world.start(0).await;
    let list = list(&records);
    let order = release(&world, approved(order(&list), &["ann", "bob"]));
    assert_eq!(order_refused(&world, &order).await, "NOT_CAUGHT_UP");
    world.log.hide_from(None);
    world.caught_up().await;
    assert_eq!(
        record_refused(&world, &order, opening(&list, &records[0])).await,
        ""
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tombstone_closes_a_record_at_once() {
    let (world, journal) = World::with_key().await;
    let records = archived(&world, &journal, &[1, 2]);
    let list = list(&records);
    let order = release(&world, approved(order(&list), &["ann", "bob"]));
    let asked = opening(&list, &records[0]);
    assert_eq!(record_refused(&world, &order, asked.clone()).await, "");
    let tombstone = |people: &[&str], about: &Digest| {
        Event::Tombstone(pb::Tombstone {
            envelope: records[0].digest().to_vec(),
            acts: people
                .iter()
                .map(|person| disposal(person, about))
                .collect(),
            backups_expire_at: 0,
        })
    };
    let (this, other) = (records[0].digest(), records[1].digest());
    // Nobody closes a record alone: neither a service that may write to the log, nor too few people, nor those who decided
    // on another record.
    world.log.add("archive", tombstone(&[], &this));
    world
        .log
        .add("relay", tombstone(&["ann", "bob", "rita"], &this));
    world
        .log
        .add("archive", tombstone(&["ann", "bob", "bob"], &this));
    world
        .log
        .add("archive", tombstone(&["ann", "bob", "rita"], &other));
    world.caught_up().await;
    assert_eq!(record_refused(&world, &order, asked.clone()).await, "");
    world
        .log
        .add("archive", tombstone(&["ann", "bob", "rita"], &this));
    world.caught_up().await;
    // Also what was answered before.
    assert_eq!(
        record_refused(&world, &order, asked).await,
        "RECORD_DISPOSED"
    );
    assert_eq!(
        record_refused(&world, &order, opening(&list, &records[1])).await,
        ""
    );
}

/// Decided by people of their day, written into the log after one of them had left: the record stays closed, also at a node
/// that starts from the newer bundle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disposition_decided_before_a_person_left_counts() {
    let (mut world, journal) = World::with_key().await;
    let records = archived(&world, &journal, &[1]);
    let list = list(&records);
    let digest = records[0].digest();
    let decide = |people: &[&str]| pb::Tombstone {
        envelope: digest.to_vec(),
        acts: people
            .iter()
            .map(|person| disposal(person, &digest))
            .collect(),
        backups_expire_at: 0,
    };
    let decided = decide(&["ann", "bob", "gus"]);
    // In the next bundle gus has left, and bob is Robert: one key is one person under both names.
    world
        .change_bundle(|bundle| {
            for person in &mut bundle.roster {
                person.revoked |= person.name == "gus";
                if person.name == "bob" {
                    person.name = "robert".into();
                }
            }
        })
        .await;
    let order = release(&world, approved(order(&list), &["ann", "cleo"]));
    let refused = |at: usize| {
        let (world, order, asked) = (&world, &order, opening(&list, &records[0]));
        async move {
            open(world, at, order, vec![asked]).await.unwrap()[0]
                .reason
                .clone()
        }
    };
    let twice = pb::Tombstone {
        acts: decide(&["ann", "bob"])
            .acts
            .into_iter()
            .chain([disposal_as("robert", "bob", &digest)])
            .collect(),
        ..decided.clone()
    };
    world.log.add("archive", Event::Tombstone(twice));
    world.caught_up().await;
    assert_eq!(refused(0).await, "");
    world.log.add("archive", Event::Tombstone(decided));
    world.caught_up().await;
    for at in 0..3 {
        assert_eq!(refused(at).await, "RECORD_DISPOSED", "node {at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn currency_names_the_disclosure_and_the_share_epoch_that_the_log_has() {
    let world = World::new().await;
    let mode = pb::Mode::Journaled.into();
    let error = world
        .client(0)
        .get_currency(GetCurrencyRequest { mode })
        .await;
    let error = CallError::from(error.unwrap_err());
    assert_eq!(error.reason.as_deref(), Some("NO_DISCLOSURE"));
    let journal = world.make_key().await;
    for serial in 1..=2 {
        let disclosure = world.disclosure(&journal.record, serial);
        let index = world.publish(disclosure.raw().clone());
        world.caught_up().await;
        let activate = |log_index| ActivateRequest {
            statement: Some(disclosure.raw().clone()),
            log_index,
        };
        let mut client = world.client(1);
        if serial == 2 {
            client.activate(activate(index)).await.unwrap();
        }
        let error = CallError::from(client.activate(activate(0)).await.unwrap_err());
        assert_eq!(error.reason.as_deref(), Some("STATEMENT_NOT_IN_LOG"));
        let error = CallError::from(client.activate(activate(1 << 30)).await.unwrap_err());
        assert_eq!(error.reason.as_deref(), Some("NOT_CAUGHT_UP"));
        let currency = client
            .get_currency(GetCurrencyRequest { mode })
            .await
            .unwrap();
        let currency = currency.into_inner().currency.unwrap();
        let currency = Signed::<pb::Currency>::decode(currency).unwrap();
        let node = &world.nodes[1];
        currency.verify(&node.name, &node.keys.signing_key).unwrap();
        assert_eq!(currency.serial, serial);
        assert_eq!(currency.disclosure, disclosure.digest().as_bytes());
        assert_eq!(currency.share_epochs, [journal.epoch.digest().to_vec()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_root_did_not_sign_changes_nothing() {
    let (world, journal) = World::with_key().await;
    let mut forged = world.disclosure(&journal.record, 5);
    forged.add_signature("root", &crate::world::signer(200));
    world.publish(forged.into_raw());
    world.caught_up().await;
    let mode = pb::Mode::Journaled.into();
    let currency = world
        .client(0)
        .get_currency(GetCurrencyRequest { mode })
        .await
        .unwrap();
    let currency = Signed::<pb::Currency>::decode(currency.into_inner().currency.unwrap()).unwrap();
    assert_eq!(currency.serial, 1);
    let status = world
        .client(0)
        .get_status(GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.node.as_str(), status.index, status.bundle_version),
        ("escrow-1", 1, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_in_the_log_with_its_reason_and_who_asked() {
    let (world, journal) = World::with_key().await;
    let records = archived(&world, &journal, &[1]);
    let list = list(&records);
    let order = release(&world, approved(order(&list), &["ann"]));
    assert_eq!(order_refused(&world, &order).await, "APPROVALS_TOO_FEW");
    // An application is no log.
    let app = SpiffeId::app(&tenant(), "reader").unwrap();
    let mut witness = WitnessServiceClient::new(world.channel(0, &app));
    let refused = witness.add_checkpoint(AddCheckpointRequest::default());
    let refused = CallError::from(refused.await.unwrap_err());
    assert_eq!(refused.reason.as_deref(), Some("CALLER_NOT_ALLOWED"));
    let wanted = [
        ("Open", "APPROVALS_TOO_FEW"),
        (
            "greffe.escrow.v1.WitnessService/AddCheckpoint",
            "CALLER_NOT_ALLOWED",
        ),
    ];
    let logged = |(operation, reason): (&str, &str)| {
        world
            .log
            .entries()
            .into_iter()
            .any(|entry| match entry.event {
                Some(Event::Refusal(refusal)) => {
                    entry.recorded_by == "escrow-1"
                        && refusal.caller == "app:reader"
                        && refusal.operation.trim_start_matches('/') == operation
                        && refusal.reason == reason
                }
                _ => false,
            })
    };
    for wanted in wanted {
        for _ in 0..200 {
            if logged(wanted) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(
            logged(wanted),
            "{wanted:?} in {:?}",
            world.log.entries().last()
        );
    }
}

/// No roster ever had these three together: each of them alone was in one, and two lists of people are not one decision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deciders_of_a_disposition_are_of_one_roster() {
    let (mut world, journal) = World::with_key().await;
    let records = archived(&world, &journal, &[1]);
    let list = list(&records);
    world
        .change_bundle(|bundle| {
            for person in &mut bundle.roster {
                person.revoked |= person.name == "gus";
                if person.name == "bob" {
                    person.name = "robert".into();
                }
            }
        })
        .await;
    let digest = records[0].digest();
    let order = release(&world, approved(order(&list), &["ann", "cleo"]));
    let refused = async |acts: Vec<pb::SignedStatement>| {
        world.log.add("archive", decided(&digest, acts));
        world.caught_up().await;
        record_refused(&world, &order, opening(&list, &records[0])).await
    };
    let robert = disposal_as("robert", "bob", &digest);
    let with = |other: &str| {
        vec![
            disposal("ann", &digest),
            disposal(other, &digest),
            robert.clone(),
        ]
    };
    assert_eq!(refused(with("gus")).await, "");
    assert_eq!(refused(with("cleo")).await, "RECORD_DISPOSED");
}

/// When an act was signed is its signer's word: it has to fit the log's time, and whoever has left signs nothing for an earlier
/// day once the archive cannot be behind any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disposition_is_signed_in_the_time_before_its_tombstone() {
    let (mut world, journal) = World::with_key().await;
    let records = archived(&world, &journal, &[1, 2, 3]);
    let day = 24 * 3_600_000;
    let time = now().get();
    let acts = |record: &Digest, people: [&str; 3], at: u64| {
        let act = |person: &str| disposal_at(person, person, record, at);
        people.iter().map(|person| act(person)).collect::<Vec<_>>()
    };
    let usual = ["ann", "bob", "gus"];
    let closed = async |world: &World, at: usize, people: [&str; 3], when: u64| {
        let record = &records[at];
        let acts = acts(&record.digest(), people, when);
        world.log.add("archive", decided(&record.digest(), acts));
        let list = list(&records[at..=at]);
        let order = release(world, approved(order(&list), &["ann", "cleo"]));
        record_refused(world, &order, opening(&list, record)).await == "RECORD_DISPOSED"
    };
    assert!(!closed(&world, 0, usual, time + 3_600_000).await);
    assert!(!closed(&world, 0, usual, time - 61 * day).await);
    assert!(closed(&world, 0, usual, time - 59 * day).await);
    // Gus has left more than a month ago, by the date of the bundle that says so.
    world
        .change_bundle(|bundle| {
            bundle.issued_at = time - 40 * day;
            for person in &mut bundle.roster {
                person.revoked |= person.name == "gus";
                // And the archive has accepted ann by its own clock, which hers is behind.
                if person.name == "ann" {
                    person.not_before = time - day;
                }
            }
        })
        .await;
    assert!(!closed(&world, 1, usual, time - day / 2).await);
    assert!(closed(&world, 1, usual, time - 45 * day).await);
    assert!(closed(&world, 2, ["ann", "bob", "cleo"], time - 2 * day).await);
}

/// A tombstone that these acts lead to.
fn decided(record: &Digest, acts: Vec<pb::SignedStatement>) -> Event {
    Event::Tombstone(pb::Tombstone {
        envelope: record.to_vec(),
        acts,
        backups_expire_at: 0,
    })
}

/// A person's signed act of disposing of a record.
fn disposal(person: &str, record: &Digest) -> pb::SignedStatement {
    disposal_as(person, person, record)
}

/// The same under a name, with the key of somebody.
fn disposal_as(person: &str, key: &str, record: &Digest) -> pb::SignedStatement {
    disposal_at(person, key, record, now().get())
}

/// The same of a time.
fn disposal_at(person: &str, key: &str, record: &Digest, at: u64) -> pb::SignedStatement {
    let act = DisposeAct {
        record: record.to_vec(),
        reason: "its time has run out".into(),
    };
    let act = pb::PersonAct {
        tenant: tenant().to_string(),
        person: person.into(),
        action: "record.dispose".into(),
        act: act.encode_to_vec(),
        at,
        nonce: vec![1; 16],
    };
    Signed::sign(act, &[(person, &person_key(key))]).into_raw()
}

//! What a cheating relay, root, sender, archive or a failing disk gets: nothing.

use greffe_api::relay as api;
use greffe_api::relay::receive_response::Item;
use greffe_client::people::{OrderRequest, People};
use greffe_client::{ClientError, Event, Outgoing, Person};
use greffe_envelope::opening::HybridSecretKey;
use greffe_envelope::pb;
use greffe_envelope::recompute::{Mismatch, ReportError, verify_report};
use greffe_envelope::statement::Signed;
use greffe_envelope::wrap::JournalKey;
use greffe_types::{Digest, MatterId, Millis};
use sqlx::{Connection as _, SqliteConnection};

use crate::cheats::{Cheat, Mallory};
use crate::life::{conversation, messages, user};
use crate::tenant::{FAR, disclosure, make_key, now, signer};
use crate::world::World;

fn set_trust(world: &World, hook: impl FnMut(&mut api::GetTrustResponse) + Send + 'static) {
    world.relay.hooks.lock().unwrap().trust = Some(Box::new(hook));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_01_a_relay_that_substitutes_the_journaling_key_gets_nothing() {
    let world = World::new().await;
    let honest = world.client("honest").await;
    let alice = world.device(&honest, "alice").await;
    let tenant = world.tenant.clone();
    let nodes: Vec<_> = tenant.nodes.clone();
    // the attacker's key, by a root and nodes of its own
    let forged = make_key(
        &signer(99),
        &[signer(97), signer(98), signer(96)],
        &{
            let mut bundle = tenant.bundle.message().clone();
            bundle.version = 1;
            Signed::sign(bundle, &[("root", &signer(99))])
        },
        5,
    );
    let forged_disclosure = disclosure(&signer(99), &tenant.bundle, &forged, 2);
    // a real disclosure and key of the tenant that are not in the log
    let unlogged = make_key(&tenant.root, &nodes, &tenant.bundle, 6);
    let unlogged_disclosure = disclosure(&tenant.root, &tenant.bundle, &unlogged, 2);
    let cases = [(forged, forged_disclosure), (unlogged, unlogged_disclosure)];
    for (case, (key, disclosed)) in cases.into_iter().enumerate() {
        set_trust(&world, move |answer| {
            let logged = |statement: &pb::SignedStatement, log_index| api::LoggedStatement {
                statement: Some(statement.clone()),
                log_index,
            };
            answer.key_records = vec![logged(key.record.raw(), 1)];
            answer.share_epochs = vec![logged(key.epoch.raw(), 2)];
            answer.disclosures = vec![logged(disclosed.raw(), 3)];
        });
        let refused = world.try_client(&format!("new-{case}")).await.unwrap_err();
        assert!(
            matches!(refused, ClientError::Trust { .. } | ClientError::Log { .. }),
            "{refused:?}"
        );
        assert!(honest.refresh_trust().await.is_err());
    }
    assert_eq!(world.relay.calls("CreateConversation"), 0);
    assert_eq!(world.relay.calls("Send"), 0);
    // what was verified before stays in force, and nothing else
    let state = honest.trust().unwrap();
    let in_force = state.current_disclosure(pb::Mode::Journaled).unwrap();
    assert_eq!(in_force.digest(), tenant.disclosure().digest());
    let id = alice.create(pb::Mode::Journaled).await.unwrap();
    assert_eq!(
        alice.conversation(&id).await.unwrap().disclosure,
        tenant.disclosure().digest()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_72_a_key_of_the_root_alone_is_refused() {
    let world = World::new().await;
    let tenant = world.tenant.clone();
    // the root signs, the nodes do not: their names stand beside signatures by the root
    let root = tenant.root.clone();
    let alone = make_key(
        &root,
        &[root.clone(), root.clone(), root.clone()],
        &tenant.bundle,
        5,
    );
    // the nodes' signatures, but shares that do not belong to the key
    let mut other = make_key(&root, &tenant.nodes, &tenant.bundle, 5);
    let strange = make_key(&root, &tenant.nodes, &tenant.bundle, 6);
    let mut epoch = strange.epoch.message().clone();
    epoch.key_id = other.record.key_id.clone();
    let names = ["escrow-1", "escrow-2", "escrow-3"];
    let signers: Vec<_> = names.into_iter().zip(&tenant.nodes).collect();
    other.epoch = Signed::sign(epoch, &signers);
    for (case, key) in [alone, other].into_iter().enumerate() {
        // all of it in the log, as an operator who holds the root could have it
        let disclosed = disclosure(&root, &tenant.bundle, &key, 2);
        let indices = [key.record.raw(), key.epoch.raw(), disclosed.raw()]
            .map(|statement| tenant.log_statement(statement));
        set_trust(&world, move |answer| {
            let logged = |statement: &pb::SignedStatement, log_index| api::LoggedStatement {
                statement: Some(statement.clone()),
                log_index,
            };
            answer.key_records = vec![logged(key.record.raw(), indices[0])];
            answer.share_epochs = vec![logged(key.epoch.raw(), indices[1])];
            answer.disclosures = vec![logged(disclosed.raw(), indices[2])];
        });
        let refused = world
            .try_client(&format!("client-{case}"))
            .await
            .unwrap_err();
        assert_eq!(refused.reason(), "NOT_TRUSTED", "{refused:?}");
    }
    // and without any share epoch nothing is in force either
    set_trust(&world, |answer| answer.share_epochs.clear());
    let refused = world.try_client("client-9").await.unwrap_err();
    assert_eq!(refused.reason(), "NOT_TRUSTED", "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_71_a_substituted_device_key_is_refused() {
    let world = World::new().await;
    let client = world.client("alice").await;
    let alice = world.device(&client, "alice").await;
    let others = world.client("others").await;
    let bob = world.device(&others, "bob").await;
    let eve = world.device(&others, "eve").await;
    let id = conversation(&alice, &[]).await;
    let before = world.relay.calls("SubmitCommit");
    let eves_cert = eve.certificate().raw().clone();
    type Hook = Box<dyn FnMut(&mut api::ClaimKeyPackagesResponse) + Send>;
    let hooks: Vec<Hook> = vec![
        // another issuer
        Box::new(|answer| {
            let given = &mut answer.key_packages[0];
            let raw = given.device_cert.clone().unwrap();
            let cert = Signed::<pb::DeviceCert>::decode(raw).unwrap();
            let forged = Signed::sign(cert.message().clone(), &[("issuer", &signer(99))]);
            given.device_cert = Some(forged.into_raw());
        }),
        // another key in the certificate
        Box::new(|answer| {
            let given = &mut answer.key_packages[0];
            let raw = given.device_cert.as_mut().unwrap();
            let mut cert = Signed::<pb::DeviceCert>::decode(raw.clone())
                .unwrap()
                .message()
                .clone();
            cert.mls_key = vec![7; 32];
            raw.statement = prost::Message::encode_to_vec(&cert);
        }),
        // another user's device under this user's name
        Box::new(move |answer| answer.key_packages[0].device_cert = Some(eves_cert.clone())),
        // a key package that is none
        Box::new(|answer| answer.key_packages[0].key_package[60] ^= 1),
    ];
    for hook in hooks {
        world.relay.hooks.lock().unwrap().claim = Some(hook);
        alice.invite(&id, &[user("bob")]).await.unwrap_err();
    }
    assert_eq!(world.relay.calls("SubmitCommit"), before);
    world.relay.hooks.lock().unwrap().claim = None;
    alice.invite(&id, &[user("bob")]).await.unwrap();
    // a recipient is not shown another certificate for a sender either
    let (issuer, answered) = (signer(99), std::sync::Arc::new(std::sync::Mutex::new(0)));
    let counted = answered.clone();
    world.relay.hooks.lock().unwrap().certs = Some(Box::new(move |answer| {
        *counted.lock().unwrap() += 1;
        for raw in &mut answer.device_certs {
            let cert = Signed::<pb::DeviceCert>::decode(raw.clone()).unwrap();
            let forged = Signed::sign(cert.message().clone(), &[("issuer", &issuer)]);
            *raw = forged.into_raw();
        }
    }));
    let events = bob.catch_up().await.unwrap();
    assert!(matches!(events[..], [Event::Refused { .. }]), "{events:?}");
    assert!(*answered.lock().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_03_a_journal_copy_that_differs_is_detected_and_reported_with_evidence() {
    let world = World::new().await;
    let client = world.client("alice").await;
    let alice = world.device(&client, "alice").await;
    let mut mallory = Mallory::inviting(&world, "alice").await;
    let id = mallory.id;
    let events = alice.catch_up().await.unwrap();
    assert!(matches!(events[..], [Event::Invited { .. }]), "{events:?}");
    alice.acknowledge(&id, "en").await.unwrap();
    let journal = JournalKey::from_record(&world.tenant.key.record).unwrap();
    let cheats = [
        Cheat::Honest,
        Cheat::Wrap,
        Cheat::Seed,
        Cheat::Commitment,
        Cheat::Splice,
        Cheat::Seen,
    ];
    // every kind, after every kind: what was withheld stops nothing that comes later
    for round in 0..4_u8 {
        for place in 0..cheats.len() {
            let cheat =
                cheats[(place * (usize::from(round) + 1) + usize::from(round)) % cheats.len()];
            let salt = 1 + round * 10 + place as u8;
            let digest = mallory.send(&world, cheat, salt);
            let reported = world.relay.reports().len();
            let events = alice.catch_up().await.unwrap();
            if cheat == Cheat::Honest {
                assert_eq!(messages(events)[0].content.text, b"as you see it");
                continue;
            }
            let (reason, evidence) = match cheat {
                Cheat::Wrap => ("wrap-mismatch", true),
                Cheat::Seed => ("seed-commitment-mismatch", true),
                Cheat::Commitment => ("content-commitment-mismatch", true),
                Cheat::Splice => ("envelope-spliced", false),
                _ => ("seen-head-mismatch", false),
            };
            let [
                Event::Withheld {
                    envelope,
                    reason: found,
                    reported: told,
                    ..
                },
            ] = &events[..]
            else {
                panic!("{cheat:?}: {events:?}");
            };
            assert_eq!((*envelope, *found, *told), (digest, reason, evidence));
            let reports = world.relay.reports();
            assert_eq!(reports.len(), reported + usize::from(evidence));
            if !evidence {
                continue;
            }
            let report = Signed::<pb::Report>::decode(reports.last().unwrap().clone()).unwrap();
            let proved = verify_report(
                &report,
                alice.certificate().message(),
                &mallory.cert,
                &[&journal],
            );
            match cheat {
                Cheat::Wrap => assert!(matches!(proved, Ok(Mismatch::Wrap(_))), "{proved:?}"),
                Cheat::Commitment => {
                    assert!(
                        matches!(proved, Ok(Mismatch::ContentCommitment)),
                        "{proved:?}"
                    );
                }
                // a recipient may have made the seed up: nothing is proved against anyone
                _ => assert!(matches!(proved, Err(ReportError::NoEvidence)), "{proved:?}"),
            }
        }
    }
}

/// Makes every write to a table of a client's database fail, or work again.
async fn break_table(folder: &std::path::Path, table: &str, broken: bool) {
    let path = folder.join("client.db");
    let url = format!("sqlite://{}", path.display());
    let mut conn = SqliteConnection::connect(&url).await.unwrap();
    let sql = if broken {
        format!(
            "CREATE TRIGGER broken BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'disk'); END"
        )
    } else {
        "DROP TRIGGER broken".to_owned()
    };
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .execute(&mut conn)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_09_when_the_store_fails_nothing_is_sent_or_acknowledged_and_state_is_reloaded() {
    let world = World::new().await;
    let client = world.client("alice").await;
    let alice = world.device(&client, "alice").await;
    let others = world.client("bob").await;
    let bob = world.device(&others, "bob").await;
    let id = conversation(&alice, &[&bob]).await;
    let folder = world.folder.path().to_owned();
    for (table, place) in [("outbox", 0), ("conversation", 1), ("mls_row", 2)] {
        let before = (world.relay.calls("Send"), world.relay.sequenced(&id));
        break_table(&folder.join("alice"), table, true).await;
        let refused = alice
            .send(Outgoing::text(id, "not stored"))
            .await
            .unwrap_err();
        assert_eq!(refused.reason(), "STORE_FAILED", "{table}");
        if table != "conversation" {
            let refused = alice.update_keys(&id).await.unwrap_err();
            assert_eq!(refused.reason(), "STORE_FAILED", "{table}");
        }
        assert_eq!(
            (world.relay.calls("Send"), world.relay.sequenced(&id)),
            before
        );
        break_table(&folder.join("alice"), table, false).await;
        // the state is the one from before: counters and ratchet go on where the others are
        alice
            .send(Outgoing::text(id, format!("stored {place}")))
            .await
            .unwrap();
    }
    let cursor = world.relay.cursor(&id, &bob.id());
    break_table(&folder.join("bob"), "item", true).await;
    assert_eq!(bob.catch_up().await.unwrap_err().reason(), "STORE_FAILED");
    assert_eq!(bob.catch_up().await.unwrap_err().reason(), "STORE_FAILED");
    assert_eq!(world.relay.cursor(&id, &bob.id()), cursor);
    break_table(&folder.join("bob"), "item", false).await;
    let heard = messages(bob.catch_up().await.unwrap());
    let texts: Vec<_> = heard.iter().map(|m| m.content.text.clone()).collect();
    assert_eq!(texts, [b"stored 0", b"stored 1", b"stored 2"]);
    assert!(messages(bob.catch_up().await.unwrap()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_20_a_commit_left_out_is_noticed_and_the_mailbox_read_anew() {
    let world = World::new().await;
    let client = world.client("apps").await;
    let alice = world.device(&client, "alice").await;
    let bob = world.device(&client, "bob").await;
    let id = conversation(&alice, &[&bob]).await;
    alice.update_keys(&id).await.unwrap();
    alice
        .send(Outgoing::text(id, "after the commit"))
        .await
        .unwrap();
    let before = world.relay.cursor(&id, &bob.id());
    // for good: nothing behind the gap is shown or acknowledged, and the user is told
    let leave_out = |times: usize| {
        let mut left = times;
        move |item: &mut api::ReceiveResponse| {
            let drop = left > 0 && matches!(item.item, Some(Item::Commit(_)));
            left -= usize::from(drop);
            !drop
        }
    };
    world.relay.hooks.lock().unwrap().deliver = Some(Box::new(leave_out(usize::MAX)));
    let events = bob.catch_up().await.unwrap();
    let told = |event: &&Event| matches!(event, Event::Resynchronised { .. });
    assert_eq!(events.iter().filter(told).count(), 3, "{events:?}");
    assert!(
        events.iter().any(
            |event| matches!(event, Event::Refused { reason, .. } if reason == "SEQUENCE_GAP")
        )
    );
    assert!(messages(events).is_empty());
    assert_eq!(world.relay.cursor(&id, &bob.id()), before);
    // once: it is said, and then everything is there
    world.relay.hooks.lock().unwrap().deliver = Some(Box::new(leave_out(1)));
    let events = bob.catch_up().await.unwrap();
    assert_eq!(events.iter().filter(told).count(), 1, "{events:?}");
    assert_eq!(messages(events)[0].content.text, b"after the commit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_23_a_checkpoint_without_its_witnesses_or_of_another_past_is_refused() {
    let world = World::new().await;
    let client = world.client("apps").await;
    let state = client.trust().unwrap();
    let good = world.tenant.checkpoint(3);
    let check = |bytes: &[u8], at| greffe_client::log::verify_checkpoint(bytes, state.bundle(), at);
    assert!(check(&good, now()).is_ok());
    assert!(check(&world.tenant.checkpoint(1), now()).is_err());
    assert!(check(&good, now().plus(std::time::Duration::from_secs(400))).is_err());
    let mut flipped = good.clone();
    flipped[12] ^= 1;
    assert!(check(&flipped, now()).is_err());
    // a log that begins anew does not continue what this client has seen
    let fresh = World::new().await;
    let connection = fresh.connection();
    let folder = world.folder.path().join("apps");
    drop(client);
    let store = greffe_client::ClientStore::open(&folder, &fresh.tenant.id)
        .await
        .unwrap();
    let clock = std::sync::Arc::new(greffe_service_kit::clock::SystemClock);
    let client = greffe_client::Client::open(connection, store, clock)
        .await
        .unwrap();
    for _ in 0..3 {
        fresh
            .tenant
            .append(pb::log_entry::Event::SealedOrder(vec![1; 32]));
    }
    let other_past = client.log().checkpoint(state.bundle(), 0).await;
    assert_eq!(other_past.unwrap_err().reason(), "LOG_CONTRADICTS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_67_an_order_whose_list_hides_records_is_not_approved() {
    let world = World::new().await;
    let client = world.client("people").await;
    let ann = People::new(&client, Person::new("ann", signer(80), None));
    let bea = People::new(&client, Person::new("bea", signer(81), None));
    let digests: Vec<Digest> = (1..=5).map(|n| Digest::new([n; 32])).collect();
    let request = OrderRequest {
        matter: MatterId::new([1; 16]),
        purpose: "an examination".into(),
        records: digests.iter().rev().copied().collect(),
        reader: "rea".into(),
        not_before: now(),
        expiry: Millis::new(FAR),
        seal_until: None,
    };
    let info = ann.request_order(request).await.unwrap();
    let reader = HybridSecretKey::from_seed(&[90; 32]).public_key();
    assert_eq!(info.order.reader_key, reader);
    let filed = world.orders.0.lock().unwrap().records.clone();
    let show = |records: Vec<Vec<u8>>| world.orders.0.lock().unwrap().records = records;
    let mut hidden = filed.clone();
    hidden.pop();
    let mut added = filed.clone();
    added.push(vec![9; 32]);
    let mut exchanged = filed.clone();
    exchanged[4] = vec![8; 32];
    let twice = [filed[..1].to_vec(), filed.clone()].concat();
    for records in [hidden, added, exchanged, twice, vec![]] {
        show(records);
        let refused = bea.approve_order(&info.id).await.unwrap_err();
        assert_eq!(refused.reason(), "ORDER_LIST_MISMATCH", "{refused:?}");
    }
    assert!(world.orders.0.lock().unwrap().approvals.is_empty());
    show(filed);
    assert_eq!(
        ann.approve_order(&info.id).await.unwrap_err().reason(),
        "SELF_APPROVAL"
    );
    bea.approve_order(&info.id).await.unwrap();
    let approvals = world.orders.0.lock().unwrap().approvals.clone();
    let approval = Signed::<pb::Approval>::decode(approvals[0].clone()).unwrap();
    assert_eq!(approval.records_root, info.order.records_root);
    assert_eq!(approval.records_count, 5);
    // an order changed by the archive is nobody's
    let mut forged = info.order.raw().clone();
    forged.signatures[0].signature[0] ^= 1;
    world.orders.0.lock().unwrap().order = Some(forged);
    assert_eq!(
        bea.approve_order(&info.id).await.unwrap_err().reason(),
        "NOT_TRUSTED"
    );
}

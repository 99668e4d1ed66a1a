//! Bundles that change contact, nodes or people, and what was signed before them.

use greffe_api::relay as api;
use greffe_client::people::{OrderRequest, People};
use greffe_client::{ClientError, Outgoing, Person};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_types::{Digest, MatterId, Millis};
use sqlx::Connection as _;

use crate::life::{conversation, messages, user};
use crate::tenant::{FAR, now, public, signer};
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_is_acknowledged_though_contact_and_domains_have_changed_since() {
    let world = World::new().await;
    let client = world.client("alice").await;
    let alice = world.device(&client, "alice").await;
    let others = world.client("others").await;
    let bob = world.device(&others, "bob").await;
    let id = conversation(&alice, &[]).await;
    alice.invite(&id, &[user("bob")]).await.unwrap();
    alice.send(Outgoing::text(id, "hello")).await.unwrap();
    bob.catch_up().await.unwrap();
    // Bob has joined and reads the notice after the weekend.
    world
        .tenant
        .change_bundle(|b| b.contact = "legal@acme.example".into(), 0);
    world
        .tenant
        .change_bundle(|b| b.nodes[2].trust_domain = "Trust AG".into(), 3);
    others.refresh_trust().await.unwrap();
    assert_eq!(others.trust().unwrap().bundle().version(), 3);
    let notice = bob.notice(&id, "en").await.unwrap();
    assert!(notice.text().contains("records@acme.example"));
    bob.acknowledge(&id, "en").await.unwrap();
    assert_eq!(messages(bob.catch_up().await.unwrap()).len(), 1);
    // A client that knows the newest first knows the older ones too.
    let late = world.client("late").await;
    let carol = world.device(&late, "carol").await;
    alice.invite(&id, &[user("carol")]).await.unwrap();
    carol.catch_up().await.unwrap();
    carol.acknowledge(&id, "fr").await.unwrap();
    // What the root signed under none of them is still refused.
    let mut other = world.tenant.disclosure().message().clone();
    other.serial += 1;
    other.notices[0].digest = vec![7; 32];
    world.tenant.put_disclosure(&other);
    let dave = world.device(&late, "dave").await;
    late.refresh_trust().await.unwrap();
    let id = dave.create(pb::Mode::Journaled).await.unwrap();
    let language = &other.notices[0].language;
    let refused = dave.acknowledge(&id, language).await.unwrap_err();
    assert_eq!(refused.reason(), "NOTICE_MISMATCH");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_missed_several_bundles_takes_them_in_one_after_the_other() {
    let world = World::new().await;
    let client = world.client("apps").await;
    // The nodes agreed to the change of nodes; what came after it is the root's alone.
    world
        .tenant
        .change_bundle(|b| b.nodes[0].trust_domain = "moved".into(), 3);
    world.tenant.change_bundle(|b| b.contact.push('!'), 0);
    client.refresh_trust().await.unwrap();
    let state = client.trust().unwrap();
    assert_eq!(state.bundle().version(), 3);
    assert_eq!(state.older_bundles().count(), 2);
    // And knows them after a restart.
    drop((state, client));
    let client = world.client("apps").await;
    assert_eq!(client.trust().unwrap().older_bundles().count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_68_a_bundle_that_is_in_no_log_is_not_taken_in() {
    let world = World::new().await;
    let client = world.client("apps").await;
    let rogue = world
        .tenant
        .next_bundle(|b| b.device_issuer = public(&signer(99)), 0);
    let show = |place: Option<u64>| {
        let raw = rogue.raw().clone();
        let hook = move |answer: &mut api::GetTrustResponse| {
            answer.older_bundles = answer.bundle.replace(raw.clone()).into_iter().collect();
            let place = place.map(|log_index| api::BundlePlace {
                version: 2,
                log_index,
            });
            answer.bundle_places.extend(place);
        };
        world.relay.hooks.lock().unwrap().trust = Some(Box::new(hook));
    };
    show(None);
    let refused = client.refresh_trust().await.unwrap_err();
    assert_eq!(refused.reason(), "BUNDLE_NOT_LOGGED");
    let refused = world.try_client("new").await.unwrap_err();
    assert_eq!(refused.reason(), "BUNDLE_NOT_LOGGED");
    for place in [0, 1] {
        show(Some(place));
        let refused = client.refresh_trust().await.unwrap_err();
        assert!(matches!(refused, ClientError::Log { .. }), "{refused:?}");
        let refused = world.try_client("new").await.unwrap_err();
        assert!(matches!(refused, ClientError::Log { .. }), "{refused:?}");
    }
    assert_eq!(client.trust().unwrap().bundle().version(), 1);
    // In the log it is everybody's, and seen by all.
    let index = world.tenant.log_statement(rogue.raw());
    show(Some(index));
    client.refresh_trust().await.unwrap();
    assert_eq!(client.trust().unwrap().bundle().version(), 2);
    // A superseded one that only the relay knows of is none either.
    let (first, _) = world.tenant.bundles()[0].clone();
    let mut forged = first.message().clone();
    forged.contact.push('?');
    let forged = Signed::sign(forged, &[("root", &world.tenant.root)]);
    let mut newest = rogue.message().clone();
    newest.previous = forged.digest().to_vec();
    let newest = Signed::sign(newest, &[("root", &world.tenant.root)]);
    let index = world.tenant.log_statement(newest.raw());
    world.relay.hooks.lock().unwrap().trust = Some(Box::new(move |answer| {
        answer.bundle = Some(newest.raw().clone());
        answer.older_bundles = vec![forged.raw().clone()];
        let place = |version, log_index| api::BundlePlace { version, log_index };
        answer.bundle_places = vec![place(1, 0), place(2, index)];
    }));
    let refused = world.try_client("new").await.unwrap_err();
    assert!(matches!(refused, ClientError::Log { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_does_not_say_where_bundles_are_is_good_for_those_that_are_known() {
    let world = World::new().await;
    let client = world.client("apps").await;
    // As a version before this one stored it: the log was not asked.
    let path = world.folder.path().join("apps").join("client.db");
    let url = format!("sqlite://{}", path.display());
    let forget = async || {
        let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let sql = "UPDATE trust_statement SET in_log = 0, log_index = 0";
        sqlx::query(sql).execute(&mut conn).await.unwrap();
    };
    let in_log = async || -> i64 {
        let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let sql = "SELECT SUM(in_log) FROM trust_statement WHERE place = 1";
        sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap()
    };
    drop(client);
    forget().await;
    let old = |answer: &mut api::GetTrustResponse| answer.bundle_places.clear();
    world.relay.hooks.lock().unwrap().trust = Some(Box::new(old));
    let client = world.client("apps").await;
    client.refresh_trust().await.unwrap();
    assert_eq!(in_log().await, 0);
    world.tenant.change_bundle(|b| b.contact.push('!'), 0);
    let refused = client.refresh_trust().await.unwrap_err();
    assert_eq!(refused.reason(), "BUNDLE_NOT_LOGGED");
    // A relay that says it wrongly is found out, one that says it is believed once and for all.
    world.relay.hooks.lock().unwrap().trust = Some(Box::new(|answer| {
        answer.bundle_places[0].log_index = 1;
    }));
    let refused = client.refresh_trust().await.unwrap_err();
    assert!(matches!(refused, ClientError::Log { .. }), "{refused:?}");
    world.relay.hooks.lock().unwrap().trust = None;
    client.refresh_trust().await.unwrap();
    assert_eq!(in_log().await, 1);
    assert_eq!(client.trust().unwrap().bundle().version(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_with_another_key_leaves_every_order_listed() {
    let world = World::new().await;
    let client = world.client("people").await;
    let ann = People::new(&client, Person::new("ann", signer(80), None));
    let bea = People::new(&client, Person::new("bea", signer(81), None));
    let request = || OrderRequest {
        matter: MatterId::new([1; 16]),
        purpose: "an examination".into(),
        records: vec![Digest::new([1; 32])],
        reader: "rea".into(),
        not_before: now(),
        expiry: Millis::new(FAR),
        seal_until: None,
    };
    let first = ann.request_order(request()).await.unwrap();
    let renewed = |b: &mut pb::TrustBundle| b.roster[0].signing_key = public(&signer(85));
    world.tenant.change_bundle(renewed, 0);
    client.refresh_trust().await.unwrap();
    // Nodes want the key in force: nobody is asked to approve for nothing.
    let refused = bea.approve_order(&first.id).await.unwrap_err();
    assert_eq!(refused.reason(), "ORDER_SIGNATURE");
    assert!(world.orders.0.lock().unwrap().approvals.is_empty());
    let ann = People::new(&client, Person::new("ann", signer(85), None));
    let second = ann.request_order(request()).await.unwrap();
    let mut forged = second.order.message().clone();
    forged.id = vec![9; 16];
    let forged = Signed::sign(forged, &[("ann", &signer(99))]);
    let listed = [&first.order, &forged, &second.order];
    world.orders.0.lock().unwrap().listed = listed
        .into_iter()
        .map(|order| order.raw().clone())
        .collect();
    let page = bea.orders(None).await.unwrap();
    let [one, two, three] = &page.items[..] else {
        panic!("{page:?}");
    };
    assert_eq!(one.as_ref().unwrap().id, first.id);
    let unverified = two.as_ref().unwrap_err();
    assert_eq!(unverified.id.unwrap().to_vec(), vec![9; 16]);
    assert_eq!(unverified.error.reason(), "NOT_TRUSTED");
    assert_eq!(three.as_ref().unwrap().id, second.id);
}

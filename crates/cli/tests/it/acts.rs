//! A short life with an act of every kind that devices and people can do in a minute.

use std::time::{Duration, Instant};

use greffe_api::archive::RecordQuery;
use greffe_client::{OrderRequest, Outgoing, People};
use greffe_envelope::pb;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::{ConversationId, Digest, OrderId, UserId};
use tokio::time::sleep;

use crate::support::App;

/// What is said, and nowhere in what services write or hold.
pub(crate) const SAID: &str = "the heron stands in the reeds at dawn, and nobody is to know";

/// How long a receipt may take to be in the log.
const PATIENCE: Duration = Duration::from_secs(60);

/// A conversation with messages and a commit.
pub(crate) struct Spoken {
    pub(crate) conversation: ConversationId,
    pub(crate) messages: Vec<Digest>,
}

/// Two users speak; one leaves a commit behind.
pub(crate) async fn speak(app: &App) -> Spoken {
    let (alice, bob) = (app.device("alice").await, app.device("bob").await);
    let id = alice.create(pb::Mode::Journaled).await.unwrap();
    alice.acknowledge(&id, "en").await.unwrap();
    let bobs = UserId::new("bob").unwrap();
    alice.invite(&id, &[bobs]).await.unwrap();
    bob.catch_up().await.unwrap();
    bob.acknowledge(&id, "en").await.unwrap();
    let mut messages = Vec::new();
    for (n, device) in [&alice, &bob, &alice].into_iter().enumerate() {
        let said = Outgoing::text(id, format!("{n}: {SAID}"));
        messages.push(device.send(said).await.unwrap().envelope);
        alice.catch_up().await.unwrap();
        bob.catch_up().await.unwrap();
    }
    alice.update_keys(&id).await.unwrap();
    bob.catch_up().await.unwrap();
    Spoken {
        conversation: id,
        messages,
    }
}

/// Waits until every receipt is in the log.
pub(crate) async fn logged(auditor: &People, messages: &[Digest]) {
    let until = Instant::now() + PATIENCE;
    for message in messages {
        while auditor
            .record(message)
            .await
            .unwrap()
            .receipt_proof
            .is_none()
        {
            assert!(
                Instant::now() < until,
                "{message} has no receipt in the log"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// An order over messages, released; `sealed`: the log does not say over which.
pub(crate) async fn order(app: &App, messages: &[Digest], sealed: bool) -> OrderId {
    let auditor = app.person("auditor");
    logged(&auditor, messages).await;
    let matter = auditor.create_matter("The heron").await.unwrap();
    let now = SystemClock.now();
    let expiry = now.plus(Duration::from_secs(3600));
    let request = OrderRequest {
        matter,
        purpose: "to know what the heron does".to_owned(),
        records: messages.to_vec(),
        reader: "reader".to_owned(),
        not_before: now.minus(Duration::from_secs(1)),
        expiry,
        seal_until: sealed.then_some(expiry),
    };
    let order = auditor.request_order(request).await.unwrap();
    for name in ["principal", "compliance"] {
        app.person(name).approve_order(&order.id).await.unwrap();
    }
    order.id
}

/// The reader opens an order: every record, with what was said.
pub(crate) async fn open(app: &App, order: &OrderId) {
    let mut opening = app.person("reader").open_order(order).await.unwrap();
    for record in opening.all().await.unwrap() {
        let record = record.unwrap_or_else(|why| panic!("{}: {}", why.digest, why.error));
        assert!(record.content.text.ends_with(SAID.as_bytes()));
    }
}

/// Matters, holds and retention: placed, released, extended, closed.
pub(crate) async fn people_act(app: &App, spoken: &Spoken) {
    let (auditor, legal) = (app.person("auditor"), app.person("legal"));
    let matter = auditor.create_matter("The reeds").await.unwrap();
    let all = RecordQuery {
        conversation: spoken.conversation.to_vec(),
        ..RecordQuery::default()
    };
    let hold = legal.place_hold(&matter, &all, "A subpoena").await.unwrap();
    legal.place_hold(&matter, &all, "Another").await.unwrap();
    let release = People::hold_release(&hold, &matter, "It was withdrawn");
    let records = app.person("records");
    let both = [&legal, &records].map(|who| who.sign_act("hold.release", &release).unwrap());
    legal.perform(both.to_vec()).await.unwrap();
    let far = SystemClock
        .now()
        .plus(Duration::from_secs(40 * 365 * 86_400));
    legal
        .extend_retention(&spoken.messages[..1], far, "A question of the regulator")
        .await
        .unwrap();
    let other = auditor.create_matter("Nothing").await.unwrap();
    auditor.close_matter(&other).await.unwrap();
    auditor.search_all(&all).await.unwrap();
    auditor.range(&spoken.conversation, 0, 0).await.unwrap();
}

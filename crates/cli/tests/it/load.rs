//! Two people who go on talking whatever dies under them, and what has to hold of it in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greffe_api::archive::RecordQuery;
use greffe_client::{Device, Event, Outgoing};
use greffe_envelope::pb;
use greffe_types::{ConversationId, Digest, UserId};
use prost::Message as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::App;

/// Messages of one client on their way.
const WINDOW: usize = 8;
/// How long anything may take to go on.
const PATIENCE: Duration = Duration::from_secs(90);

/// Words that are in every message, and nowhere in what services write.
pub(crate) const WORDS: &str = "of the night watch, and all is well";

/// What a client was told is archived, by text.
type Acknowledged = Arc<Mutex<BTreeMap<String, Digest>>>;

/// What one client has been shown.
#[derive(Default)]
struct Shown {
    messages: Vec<(String, Digest)>,
    unexpected: Vec<String>,
}

/// Sends until told to stop; every message has a text of its own.
async fn talk(device: Device, id: ConversationId, stop: Arc<AtomicBool>, acked: Acknowledged) {
    let room = Arc::new(Semaphore::new(WINDOW));
    let mut waiting = JoinSet::new();
    let mut n = 0;
    let sender = device.sender().await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        let place = room.clone().acquire_owned().await.unwrap();
        let text = format!("{} {n} {WORDS}", device.user());
        n += 1;
        let pending = sender.send(Outgoing::text(id, text.clone())).await;
        let (pending, acked) = (pending.unwrap(), acked.clone());
        waiting.spawn(async move {
            // No death lasts longer than a client has patience.
            let sent = pending.await.unwrap();
            acked.lock().unwrap().insert(text, sent.envelope);
            drop(place);
        });
        sleep(Duration::from_millis(10)).await;
    }
    drop(sender);
    timeout(PATIENCE, async {
        while let Some(ended) = waiting.join_next().await {
            ended.unwrap();
        }
    })
    .await
    .unwrap();
}

/// Receives until told to stop.
async fn listen(device: Device, stop: Arc<AtomicBool>, shown: Arc<Mutex<Shown>>) {
    let mut receiver = device.receiver(0).await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        let Ok(events) = timeout(Duration::from_millis(200), receiver.next_batch()).await else {
            continue;
        };
        let mut shown = shown.lock().unwrap();
        for event in events.unwrap() {
            match event {
                Event::Message(message) => shown.messages.push((
                    String::from_utf8(message.content.text).unwrap(),
                    message.envelope,
                )),
                Event::Own { .. } | Event::CaughtUp | Event::Changed { .. } => {}
                other => shown.unexpected.push(format!("{other:?}")),
            }
        }
    }
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A conversation under load.
pub(crate) struct Load {
    app: App,
    _other: App,
    silence: Arc<AtomicBool>,
    deaf: Arc<AtomicBool>,
    acked: [Acknowledged; 2],
    shown: [Arc<Mutex<Shown>>; 2],
    talking: JoinSet<()>,
    listening: JoinSet<()>,
}

impl Load {
    /// Two applications, as on two machines, each with a person who sends and receives.
    pub(crate) async fn start(data: &Path) -> Self {
        let (app, other) = (App::open(data).await, App::open(data).await);
        let (alice, bob) = (app.device("alice").await, other.device("bob").await);
        let id = alice.create(pb::Mode::Journaled).await.unwrap();
        alice.acknowledge(&id, "en").await.unwrap();
        alice
            .invite(&id, &[UserId::new("bob").unwrap()])
            .await
            .unwrap();
        bob.catch_up().await.unwrap();
        bob.acknowledge(&id, "en").await.unwrap();

        let (silence, deaf) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let acked: [Acknowledged; 2] = Default::default();
        let shown: [Arc<Mutex<Shown>>; 2] = Default::default();
        let (mut talking, mut listening) = (JoinSet::new(), JoinSet::new());
        for (index, device) in [alice.clone(), bob.clone()].into_iter().enumerate() {
            talking.spawn(talk(
                device.clone(),
                id,
                silence.clone(),
                acked[index].clone(),
            ));
            listening.spawn(listen(device, deaf.clone(), shown[index].clone()));
        }
        Self {
            app,
            _other: other,
            silence,
            deaf,
            acked,
            shown,
            talking,
            listening,
        }
    }

    /// Waits until each has had a few more messages acknowledged.
    pub(crate) async fn goes_on(&self, when: &str) {
        let counts = || [0, 1].map(|index| self.acked[index].lock().unwrap().len());
        let before = counts();
        until(when, || {
            counts()
                .iter()
                .zip(before)
                .all(|(now, then)| *now >= then + 5)
        })
        .await;
    }

    /// Ends it: everything acknowledged was shown once and is archived once, and the log has a receipt for everything in
    /// the archive. Gives how many records there are.
    pub(crate) async fn settle(mut self) -> u64 {
        self.goes_on("clients go on").await;
        self.silence.store(true, Ordering::Relaxed);
        while let Some(ended) = self.talking.join_next().await {
            ended.unwrap();
        }

        // everything acknowledged is shown to the other, once, as it was sent
        for (from, to) in [(0, 1), (1, 0)] {
            let acked = self.acked[from].lock().unwrap().clone();
            let missing = || {
                let shown = self.shown[to].lock().unwrap();
                let texts: BTreeSet<&String> =
                    shown.messages.iter().map(|(text, _)| text).collect();
                acked.keys().filter(|text| !texts.contains(text)).count()
            };
            until("delivery", || missing() == 0).await;
            sleep(Duration::from_millis(300)).await;
            let shown = self.shown[to].lock().unwrap();
            assert_eq!(shown.unexpected, Vec::<String>::new());
            let mut seen = BTreeMap::new();
            for (text, envelope) in &shown.messages {
                assert!(seen.insert(text, envelope).is_none(), "twice: {text}");
            }
            for (text, envelope) in &acked {
                assert_eq!(seen[text], envelope, "{text}");
            }
        }
        self.deaf.store(true, Ordering::Relaxed);
        while let Some(ended) = self.listening.join_next().await {
            ended.unwrap();
        }

        // the archive has them all, once, and the log has a receipt for everything in the archive
        let auditor = self.app.person("auditor");
        let records = auditor.search_all(&RecordQuery::default()).await.unwrap();
        let digests: BTreeSet<Vec<u8>> =
            records.iter().map(|record| record.digest.clone()).collect();
        assert_eq!(digests.len(), records.len());
        // every number is given once, the archive's own and those of the conversation
        for (what, mut numbers) in [
            (
                "record",
                records.iter().map(|r| r.record).collect::<Vec<_>>(),
            ),
            ("sequence", records.iter().map(|r| r.sequence).collect()),
        ] {
            numbers.sort_unstable();
            let dense: Vec<u64> = (1..).take(records.len()).collect();
            assert_eq!(numbers, dense, "{what}");
        }
        for (text, digest) in self
            .acked
            .iter()
            .flat_map(|acked| acked.lock().unwrap().clone())
        {
            assert!(
                digests.contains(&digest.to_vec()),
                "acknowledged, but not archived: {text}"
            );
        }
        for shown in &self.shown {
            for (text, digest) in &shown.lock().unwrap().messages {
                assert!(
                    digests.contains(&digest.to_vec()),
                    "delivered, but not archived: {text}"
                );
            }
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let logged = receipts(&self.app).await;
            if logged == records.len() as u64 {
                break;
            }
            assert!(
                logged < records.len() as u64 && Instant::now() < end,
                "{logged} receipts in the log, {} records",
                records.len()
            );
            sleep(Duration::from_millis(200)).await;
        }
        records.len() as u64
    }
}

/// Receipts that the log's batches stand for.
pub(crate) async fn receipts(app: &App) -> u64 {
    let trust = app.client.trust().unwrap();
    let log = app.client.log();
    let size = log.checkpoint(trust.bundle(), 0).await.unwrap().head.size;
    let (mut next, mut receipts) = (0, 0);
    while next < size {
        let leaves = log.entries(next, 256).await.unwrap();
        assert!(!leaves.is_empty());
        for leaf in leaves.iter().take(usize::try_from(size - next).unwrap()) {
            let entry = pb::LogEntry::decode(leaf.as_slice()).unwrap();
            if let Some(pb::log_entry::Event::Receipts(batch)) = entry.event {
                receipts += batch.count;
            }
        }
        next += leaves.len() as u64;
    }
    receipts
}

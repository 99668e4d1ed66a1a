//! Real processes that are asked for too much, stand still, or are told to stop while everybody goes on.

use std::fs;
use std::time::Duration;

use greffe_client::{Device, Outgoing};
use greffe_envelope::pb;
use greffe_types::ConversationId;
use nix::sys::signal::Signal;
use sqlx::{Connection as _, SqliteConnection};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::ledger::leaves;
use crate::load::Load;
use crate::served::{SERVICES, Served};
use crate::support::App;

/// Devices that send, and how much each: the backlog holds a tenth of it.
const SENDERS: usize = 8;
const MESSAGES: usize = 50;
const BACKLOG: usize = SENDERS * MESSAGES / 10;

/// MiB that a process has in memory, or has had at most.
fn memory(process: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() / 1024
}

async fn alone(app: &App, user: &str) -> (Device, ConversationId) {
    let device = app.device(user).await;
    let id = device.create(pb::Mode::Journaled).await.unwrap();
    device.acknowledge(&id, "en").await.unwrap();
    (device, id)
}

/// One number of a service's database.
async fn count(data: &std::path::Path, file: &str, query: &'static str) -> i64 {
    let path = data.join("services").join(file);
    let url = format!("sqlite://{}?mode=ro", path.display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query_scalar(query)
        .fetch_one(&mut database)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_18_ten_times_what_may_wait_while_the_archive_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let backlog = format!("relay.backlog_items={BACKLOG}");
    let served = Served::start(&data, &[("relay", &backlog)]);
    let app = App::open(&data).await;
    let mut senders = Vec::new();
    for n in 0..SENDERS {
        senders.push(alone(&app, &format!("sender-{n}")).await);
    }
    let relay = served.pid("relay");
    let before = memory(relay, "VmRSS");
    served.signal("archive", Signal::SIGSTOP);
    let mut waiting = JoinSet::new();
    for n in 0..MESSAGES {
        for (device, id) in &senders {
            // Content that is as large as it may be is what would fill a memory.
            let text = format!("{n} {}", "x".repeat(100_000));
            let sender = device.sender().await.unwrap();
            let pending = sender.send(Outgoing::text(*id, text)).await.unwrap();
            waiting.spawn(async move { pending.await.unwrap().envelope });
        }
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_secs(2)).await;
    assert!(
        waiting.try_join_next().is_none(),
        "acknowledged, and not archived"
    );
    let unarchived = "SELECT count(*) FROM item WHERE receipt IS NULL";
    let backlog = count(&data, "relay/relay.db", unarchived).await;
    // What had passed the look at the backlog when it was full still gets its number.
    let most = (BACKLOG * 4) as i64;
    assert!((BACKLOG as i64..=most).contains(&backlog), "{backlog}");
    let most = memory(relay, "VmHWM");
    assert!(most < before + 192, "{before} MiB, then {most} MiB");

    served.signal("archive", Signal::SIGCONT);
    let mut acknowledged = 0;
    let all = async {
        while let Some(ended) = waiting.join_next().await {
            ended.unwrap();
            acknowledged += 1;
        }
    };
    timeout(Duration::from_secs(120), all).await.unwrap();
    assert_eq!(acknowledged, SENDERS * MESSAGES);
    let records = "SELECT count(*) FROM records WHERE kind = 1";
    let archived = count(&data, "archive/archive.db", records).await;
    assert_eq!(archived, (SENDERS * MESSAGES) as i64, "each once");
    served.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_19_services_that_are_told_to_stop_under_load_drain_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut served = Served::start(&data, &[]);
    let load = Load::start(&data).await;
    for service in SERVICES {
        load.goes_on(&format!("load before {service} stops")).await;
        served.signal(service, Signal::SIGTERM);
        let status = served.ended(service);
        assert!(status.success(), "{service}: {status}");
        let said = served.said(service);
        assert!(!said.contains("calls were cut"), "{service}: {said}");
        let ready = data.join("services").join(service).join("ready.json");
        assert!(!ready.exists(), "{service} says that it still listens");
        served.spawn(service, &[]);
        served.wait(service);
    }
    load.settle().await;
    served.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_43_while_the_log_stands_still_acts_wait_and_none_is_without_its_leaf() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let served = Served::start(&data, &[]);
    let load = Load::start(&data).await;
    let app = App::open(&data).await;
    let device = app.device("carol").await;
    load.goes_on("load before the log stands still").await;
    let conversations = "SELECT count(*) FROM conversation";
    let before = count(&data, "relay/relay.db", conversations).await;
    served.signal("audit", Signal::SIGSTOP);
    // A burst of acts, each of which needs its leaf.
    let mut acts = JoinSet::new();
    for _ in 0..30 {
        let device = device.clone();
        acts.spawn(async move { device.create(pb::Mode::Journaled).await });
    }
    sleep(Duration::from_secs(2)).await;
    assert!(acts.try_join_next().is_none(), "an act did not wait");
    let during = count(&data, "relay/relay.db", conversations).await;
    assert_eq!(during, before, "a change before its leaf");
    served.signal("audit", Signal::SIGCONT);
    let mut made = 0;
    while let Some(ended) = acts.join_next().await {
        ended.unwrap().unwrap();
        made += 1;
    }
    assert_eq!(made, 30);
    let after = count(&data, "relay/relay.db", conversations).await;
    let created = leaves(&data)
        .await
        .into_iter()
        .filter(|(_, entry)| matches!(entry.event, Some(pb::log_entry::Event::Conversation(_))));
    assert_eq!((after, created.count() as i64), (before + 30, before + 30));
    load.settle().await;
    served.stop();
}

//! Services that die at any moment, under clients that go on sending: nothing acknowledged is lost, nothing comes twice.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::load::{Load, WORDS, until};
use crate::no_plaintext_at_rest::{Needles, Search};
use crate::support::{Up, files, pid};

/// Which child dies in each round.
const ROUNDS: [&str; 10] = [
    "relay", "archive", "audit", "escrow-1", "relay", "escrow-2", "archive", "escrow-3", "audit",
    "relay",
];

/// Process of a service as its ready file says.
fn process(data: &Path, service: &str) -> Option<u32> {
    let text = std::fs::read(data.join("services").join(service).join("ready.json")).ok()?;
    let ready: Value = serde_json::from_slice(&text).ok()?;
    u32::try_from(ready["pid"].as_u64()?).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_deaths_under_load_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let up = Up::start(&data);
    let load = Load::start(&data).await;
    for (round, service) in ROUNDS.into_iter().enumerate() {
        load.goes_on(&format!("load before round {round}")).await;
        let victim = process(&data, service).unwrap();
        kill(pid(victim), Signal::SIGKILL).unwrap();
        until(&format!("{service} again in round {round}"), || {
            process(&data, service).is_some_and(|now| now != victim)
        })
        .await;
    }
    load.settle().await;
    // and no service that died left in its files what it was working on
    let mut needles = Needles::default();
    needles.add("text", WORDS.as_bytes());
    let search = Search::new(&needles);
    for (path, bytes) in files(&data.join("services")) {
        assert!(search.find(&bytes).is_empty(), "{path}");
    }
    up.stop();
}

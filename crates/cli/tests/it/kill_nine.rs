//! Services that die at any moment, one of them or all, under clients that go on sending: nothing acknowledged is lost, nothing
//! comes twice, numbers stay dense, and the log has what the archive has.
//!
//! `GREFFE_KILL_ROUNDS` says how many rounds of each, and `GREFFE_KILL_SEED` which ones: the seed of a run is printed, and
//! chooses the same victims and pauses again, though not the instant that a process has got to.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::time::sleep;

use crate::load::{Load, WORDS, until};
use crate::no_plaintext_at_rest::{Needles, Search};
use crate::support::{Up, files, pid};

/// Rounds, unless `GREFFE_KILL_ROUNDS` says otherwise.
const ROUNDS: u32 = 10;

const SERVICES: [&str; 6] = [
    "relay", "archive", "audit", "escrow-1", "escrow-2", "escrow-3",
];

/// What the environment asks for: rounds, and where chance begins.
fn chance() -> (u32, StdRng) {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|given| given.parse().unwrap_or_else(|_| panic!("{name}={given}")))
    };
    let rounds = number("GREFFE_KILL_ROUNDS").map_or(ROUNDS, |rounds| {
        u32::try_from(rounds).expect("fewer rounds")
    });
    let seed = number("GREFFE_KILL_SEED").unwrap_or_else(|| rand::rng().random());
    println!("GREFFE_KILL_SEED={seed}");
    (rounds, StdRng::seed_from_u64(seed))
}

/// Process of a service as its ready file says.
fn process(data: &Path, service: &str) -> Option<u32> {
    let text = std::fs::read(data.join("services").join(service).join("ready.json")).ok()?;
    let ready: Value = serde_json::from_slice(&text).ok()?;
    u32::try_from(ready["pid"].as_u64()?).ok()
}

/// Not always at the same instant of what a service does.
async fn a_moment(chance: &mut StdRng) {
    sleep(Duration::from_millis(chance.random_range(0..400))).await;
}

/// No service that died left in its files what it was working on.
fn no_plaintext(data: &Path) {
    let mut needles = Needles::default();
    needles.add("text", WORDS.as_bytes());
    let search = Search::new(&needles);
    for (path, bytes) in files(&data.join("services")) {
        assert!(search.find(&bytes).is_empty(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_19_deaths_of_services_under_load_lose_and_double_nothing() {
    let (rounds, mut chance) = chance();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let up = Up::start(&data);
    let load = Load::start(&data).await;
    for round in 0..rounds {
        load.goes_on(&format!("load before round {round}")).await;
        a_moment(&mut chance).await;
        let service = SERVICES[chance.random_range(0..SERVICES.len())];
        let victim = process(&data, service).unwrap();
        kill(pid(victim), Signal::SIGKILL).unwrap();
        until(&format!("{service} again in round {round}"), || {
            process(&data, service).is_some_and(|now| now != victim)
        })
        .await;
    }
    let records = load.settle().await;
    println!("{rounds} deaths of one service, {records} records");
    no_plaintext(&data);
    up.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_19_deaths_of_everything_under_load_lose_and_double_nothing() {
    let (rounds, mut chance) = chance();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut up = Up::start(&data);
    let load = Load::start(&data).await;
    for round in 0..rounds {
        load.goes_on(&format!("load before round {round}")).await;
        a_moment(&mut chance).await;
        // Who would start them again stands still first, and nobody is asked to drain.
        let parent = pid(up.id());
        kill(parent, Signal::SIGSTOP).unwrap();
        for service in SERVICES {
            kill(pid(process(&data, service).unwrap()), Signal::SIGKILL).unwrap();
        }
        kill(parent, Signal::SIGKILL).unwrap();
        up.gone();
        up = Up::start(&data);
    }
    let records = load.settle().await;
    println!("{rounds} deaths of everything, {records} records");
    no_plaintext(&data);
    up.stop();
}

//! Two processes each of relay, archive and audit over one PostgreSQL and one Object Lock store, under load, while the one that
//! leads, the other one, and the database itself are killed or stand still: nothing acknowledged is lost, nothing comes
//! twice, numbers stay dense, and the log has what the database has. Both relays serve: a client begins at either.

use std::path::Path;
use std::time::{Duration, Instant};

use greffe_testkit::postgres::Postgres;
use nix::sys::signal::{Signal, kill};

use crate::load::{Load, until};
use crate::stores::Stores;
use crate::support::{Up, greffe, pid};

/// What happens in a round.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The process that holds a service's lease is killed.
    Kill(&'static str),
    /// It stands still until another has taken over, and then goes on as if nothing had been.
    Pause(&'static str),
    /// The process that does not is killed: of relay and archive one that serves as well, of audit the one that waits.
    KillStandby(&'static str),
    /// The database is killed, and started again.
    Database,
}

use Fault::{Database, Kill, KillStandby, Pause};

/// One after the other, from the start again when there are more rounds.
const FAULTS: [Fault; 10] = [
    Kill("relay"),
    Pause("archive"),
    Database,
    Kill("audit"),
    Pause("relay"),
    KillStandby("archive"),
    Kill("archive"),
    Pause("audit"),
    Database,
    KillStandby("relay"),
];

/// Rounds, unless `GREFFE_CLUSTER_ROUNDS` says otherwise.
const ROUNDS: usize = 10;

/// Epoch and process of a service's lease.
fn lease(stores: &Stores, service: &str) -> (u64, u32) {
    let row = stores.query(service, "SELECT fence, holder FROM lease");
    let (fence, holder) = row.split_once('|').unwrap_or_else(|| panic!("{row:?}"));
    // "machine (process 123)"
    let process = holder.rsplit(' ').next().unwrap().trim_end_matches(')');
    (fence.parse().unwrap(), process.parse().unwrap())
}

/// The processes of a service that one `greffe up` keeps: those whose settings are in its folder.
fn processes(data: &Path, service: &str) -> Vec<u32> {
    let folder = data.join("services").display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let ours = |word: &&[u8]| word.starts_with(folder.as_bytes());
        if words.get(1) == Some(&b"serve".as_slice())
            && words.get(2) == Some(&service.as_bytes())
            && words.iter().any(ours)
        {
            found.push(id);
        }
    }
    found
}

async fn strike(stores: &Stores, data: &Path, fault: Fault, round: usize) {
    let taken_over = async |service: &'static str, fence: u64| {
        until(&format!("round {round}: {service} taken over"), || {
            lease(stores, service).0 > fence
        })
        .await;
    };
    match fault {
        Kill(service) => {
            let (fence, holder) = lease(stores, service);
            kill(pid(holder), Signal::SIGKILL).unwrap();
            taken_over(service, fence).await;
        }
        Pause(service) => {
            let (fence, holder) = lease(stores, service);
            kill(pid(holder), Signal::SIGSTOP).unwrap();
            taken_over(service, fence).await;
            kill(pid(holder), Signal::SIGCONT).unwrap();
            until(
                &format!("round {round}: the paused {service} has ended"),
                || !processes(data, service).contains(&holder),
            )
            .await;
        }
        KillStandby(service) => {
            let (_, holder) = lease(stores, service);
            let standby = |not: u32| {
                let mut others = processes(data, service).into_iter();
                others.find(|process| ![holder, not].contains(process))
            };
            until(&format!("round {round}: a {service} stands by"), || {
                standby(0).is_some()
            })
            .await;
            let victim = standby(0).unwrap();
            kill(pid(victim), Signal::SIGKILL).unwrap();
            until(
                &format!("round {round}: another {service} stands by"),
                || standby(victim).is_some(),
            )
            .await;
        }
        Database => {
            stores.postgres.kill();
            tokio::time::sleep(Duration::from_millis(500)).await;
            stores.postgres.start();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_52_whatever_dies_or_stands_still_nothing_acknowledged_is_lost() {
    let rounds = std::env::var("GREFFE_CLUSTER_ROUNDS")
        .map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let stores = Stores::new(Postgres::own(), folder.path(), 2).await;
    let mut command = greffe();
    command.env("GREFFE_STORES", &stores.file);
    let up = Up::start_with(command, &data);
    let load = Load::start(&data).await;
    let mut outages = Vec::new();
    for (round, fault) in FAULTS.into_iter().cycle().take(rounds).enumerate() {
        load.goes_on(&format!("load before round {round}")).await;
        let begun = Instant::now();
        strike(&stores, &data, fault, round).await;
        load.goes_on(&format!("load after round {round}, {fault:?}"))
            .await;
        outages.push((fault, begun.elapsed()));
    }
    let records = load.settle().await;
    for (fault, outage) in outages {
        println!("{fault:?}: goes on after {:.1} s", outage.as_secs_f64());
    }

    // numbers are dense, in the relay as in the archive, and both have the same
    let dense = "SELECT count(*) - max(sequence) FROM";
    assert_eq!(stores.query("relay", &format!("{dense} item")), "0");
    assert_eq!(stores.query("archive", &format!("{dense} records")), "0");
    let count = |service, table| stores.query(service, &format!("SELECT count(*) FROM {table}"));
    assert_eq!(count("archive", "records"), records.to_string());
    assert_eq!(
        count("relay", "item WHERE receipt IS NOT NULL"),
        records.to_string()
    );
    assert_eq!(
        stores.query("archive", "SELECT count(*) - max(record) FROM records"),
        "0"
    );
    // every release has its place, and none was written in an earlier epoch than the one before it
    assert_eq!(
        stores.query("relay", "SELECT count(*) - max(release_id) FROM item"),
        "0"
    );
    let back = "SELECT count(*) FROM (SELECT fence < lag(fence) OVER (ORDER BY release_id) AS back FROM item) i WHERE back";
    assert_eq!(stores.query("relay", back), "0");
    // the log has no gap, and the outbox nothing that it does not have
    assert_eq!(
        stores.query("audit", "SELECT count(*) - max(idx) - 1 FROM leaf"),
        "0"
    );
    assert_eq!(count("archive", "outbox WHERE log_index IS NULL"), "0");
    up.stop();
}

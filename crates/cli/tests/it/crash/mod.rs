//! Every write, fsync and name that a service or a client gives its disk, failed one by one under a life that goes on: nothing
//! acknowledged is lost or doubled, numbers stay dense, the log has what the archive has, and what is refused is refused with a
//! reason. Real processes of the real program, whose disk is `greffe_testkit::faults`.
//!
//! What may come of a fault says [`points::Outcome`]. A process whose fsync failed has to end, and not to try again.
//!
//! One life has several faults, of one kind and in one service, one at a time: the next one can only happen when the process is
//! back, or did not have to end, and something was done that was asked for after the last one ([`course::Course`]). Points are
//! counted on over the processes of a life. A life fails at the first number that is still to be gone through, then at the next
//! one it reaches with nothing left to recover from, and so on to its end; numbers that it passes meanwhile are left to other
//! lives. After each life everything is held against everything by a service whose disk works.
//!
//! The tests go through a few points of each service; `cargo xtask crash` goes through all of them and keeps what came of each
//! in `deploy/CRASH-POINTS.md`. Not gone through: the first start of a service, whose migrations are failed statement by
//! statement elsewhere; what a service does to take up after a fault, before it listens; PostgreSQL and buckets, whose disks are
//! not ours; and dispositions, whose time does not come in a test of the real program. Which of several tasks of a service comes
//! first, and what is done again after a fault, differs from life to life, so that a number does not always name the same call;
//! every number of a life without a fault is gone through, and of those after it, as many as lives with faults get to.

mod commands;
mod course;
mod life;
mod machine;
mod points;
mod world;

use greffe_testkit::faults::Mode;

use points::{Plan, Which};
use world::go_through;

/// A few points of a service, with each kind of fault.
async fn a_few(service: &'static str) {
    go_through(&Plan {
        service,
        modes: Mode::ALL.to_vec(),
        which: Which::Spread(1),
        results: None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_11_a_relay_that_dies_or_whose_disk_fails_anywhere_loses_and_doubles_nothing() {
    a_few("relay").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_11_an_archive_that_dies_or_whose_disk_fails_anywhere_loses_and_doubles_nothing() {
    a_few("archive").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_38_a_log_that_dies_or_whose_disk_fails_anywhere_keeps_what_it_acknowledged() {
    a_few("audit").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_or_whose_disk_fails_anywhere_goes_on_as_a_witness_and_opens() {
    a_few("escrow-1").await;
}

#[test]
fn attack_09_a_client_that_dies_or_whose_disk_fails_anywhere_goes_on_where_it_was() {
    commands::go_through(&Plan {
        service: "client",
        modes: Mode::ALL.to_vec(),
        which: Which::Spread(1),
        results: None,
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_51_a_process_whose_fsync_fails_ends_and_does_not_try_again() {
    for service in ["relay", "archive", "audit", "escrow-1"] {
        go_through(&Plan {
            service,
            modes: vec![Mode::Broken],
            which: Which::Syncs(1),
            results: None,
        })
        .await;
    }
}

/// What `cargo xtask crash` asks for by the environment.
fn asked() -> Plan {
    let said = |name: &str| std::env::var(name).ok();
    let number = |name: &str, otherwise: u64| {
        said(name).map_or(otherwise, |given| {
            given.parse().unwrap_or_else(|_| panic!("{name}={given}"))
        })
    };
    let service = said("GREFFE_CRASH_SERVICE").expect("GREFFE_CRASH_SERVICE names a service");
    let service = ["relay", "archive", "audit", "escrow-1", "client"]
        .into_iter()
        .find(|known| *known == service)
        .unwrap_or_else(|| panic!("GREFFE_CRASH_SERVICE={service}"));
    Plan {
        service,
        modes: said("GREFFE_CRASH_MODE").map_or_else(
            || Mode::ALL.to_vec(),
            |mode| vec![mode.parse().unwrap_or_else(|error| panic!("{error}"))],
        ),
        which: Which::Every {
            from: number("GREFFE_CRASH_FROM", 1),
            step: usize::try_from(number("GREFFE_CRASH_EVERY", 1))
                .unwrap()
                .max(1),
        },
        results: said("GREFFE_CRASH_RESULTS").map(Into::into),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "every point takes long: cargo xtask crash"]
async fn every_point() {
    let plan = asked();
    if plan.service == "client" {
        commands::go_through(&plan);
    } else {
        go_through(&plan).await;
    }
}

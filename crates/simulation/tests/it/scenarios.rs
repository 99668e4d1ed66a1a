//! Steps that once broke a promise, and ones written by hand.

use core::time::Duration;

use greffe_simulation::{Done, Op, Step, Trouble, run};

use crate::seeds::ORIGIN;

fn after(seed: u64, steps: &[(Op, u64)]) -> Done {
    let steps: Vec<Step> = steps
        .iter()
        .map(|(op, then)| Step {
            op: *op,
            then: Duration::from_millis(*then),
        })
        .collect();
    let outcome = run(&ORIGIN, seed, &steps).unwrap();
    assert_eq!(outcome.broken, None, "{}", outcome.trace.join("\n"));
    outcome.done
}

#[test]
fn a_quiet_day() {
    let done = after(
        1,
        &[
            (Op::Send("alice"), 2_000),
            (Op::Send("bob"), 2_000),
            (Op::Order(1), 2_000),
            (Op::Approve(0, "principal"), 2_000),
            (Op::Approve(0, "compliance"), 3_000),
            (Op::Open(0), 10_000),
        ],
    );
    let all = Done {
        sent: 2,
        shown: 2,
        opened: 2,
        disposed: 0,
    };
    assert_eq!(done, all);
}

#[test]
fn a_record_goes_when_its_time_is_over_and_no_hold_stands() {
    let send = (Op::Send("alice"), 3_000);
    let years = (Op::Days(3 * 366), 30_000);
    let dispose = (Op::Dispose(0), 20_000);
    assert_eq!(after(1, &[send, dispose]).disposed, 0);
    assert_eq!(after(1, &[send, years, dispose]).disposed, 1);
    let hold = (Op::Hold, 5_000);
    assert_eq!(after(1, &[send, hold, years, dispose]).disposed, 0);
}

#[test]
fn everybody_dies_in_turn_while_texts_are_on_their_way() {
    let mut steps = Vec::new();
    for process in [
        "audit", "escrow-1", "escrow-2", "archive", "relay", "alice", "bob",
    ] {
        steps.push((Op::Send("alice"), 0));
        steps.push((Op::Send("bob"), 15));
        steps.push((Op::Crash(process, 2_000), 100));
    }
    after(2, &steps);
}

/// Seed 166: after an fsync that failed the archive refused every further write, rightly, and went on running, so that nobody
/// started it anew.
#[test]
fn an_archive_whose_disk_has_failed_ends_and_begins_anew() {
    let faulty = Op::Disk("archive", Some(Trouble::Faulty));
    let mut steps = vec![(faulty, 0)];
    steps.extend([(Op::Send("alice"), 1_000); 6]);
    steps.push((Op::Disk("archive", None), 20_000));
    steps.push((Op::Send("bob"), 0));
    after(3, &steps);
}

/// Seed 197: carol is invited and removed while she is away. She joins late, and learns of her removal once she was shown the
/// notice; the conversation was active for her for ever.
#[test]
fn somebody_who_was_removed_before_she_joined_learns_of_it() {
    after(
        197,
        &[
            (Op::Crash("carol", 8_000), 100),
            (Op::Invite("bob"), 2_000),
            (Op::Send("alice"), 1_000),
            (Op::Remove("alice"), 2_000),
            (Op::Send("bob"), 10_000),
        ],
    );
}

/// Seeds 143 and 153: carol has joined, and is removed while her acknowledgement is on its way.
#[test]
fn somebody_who_was_removed_before_she_acknowledged_learns_of_it() {
    for (by, after_ms) in [("bob", 60), ("bob", 143), ("alice", 94), ("alice", 200)] {
        after(
            143,
            &[
                (Op::Send("bob"), 1_099),
                (Op::Invite("bob"), after_ms),
                (Op::Remove(by), 2_500),
                (Op::DieIn("carol", 2), 26),
                (Op::Send("alice"), 10_000),
            ],
        );
    }
}

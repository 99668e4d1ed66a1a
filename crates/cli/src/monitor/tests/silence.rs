//! Logs that stand still, say nothing, or say it slowly: after a while each of them is stale.

use super::*;
use crate::monitor::WatchLogArguments;

#[test]
fn a_log_that_stands_still_is_stale_until_it_is_cosigned_again() {
    let watched = Watched::new();
    watched.now.set(T0 + 4 * MINUTE);
    assert_eq!(watched.look(1).reasons(), [""; 0]);
    watched.now.set(T0 + 6 * MINUTE);
    assert_eq!(watched.look(3).reasons(), [alarm::STALE]);
    watched
        .log
        .change(|shown| shown.cosigned_at = T0 + 6 * MINUTE);
    assert_eq!(watched.look(1).reasons(), [""; 0]);
    // One that cannot be reached is no better: each look here takes four minutes.
    let away = |code| watched.log.change(|shown| shown.away = code);
    away(Some(tonic::Code::Unavailable));
    assert_eq!(watched.look(1).reasons(), [""; 0]);
    assert_eq!(watched.look(4).reasons(), [alarm::STALE]);
    // Nor is one that says something else; and a restart makes nothing recent.
    for code in [
        tonic::Code::Internal,
        tonic::Code::ResourceExhausted,
        tonic::Code::DataLoss,
        tonic::Code::OutOfRange,
        tonic::Code::PermissionDenied,
    ] {
        away(None);
        let now = watched.now.get();
        watched.log.change(|shown| shown.cosigned_at = now);
        assert_eq!(watched.look(1).reasons(), [""; 0], "{code}");
        away(Some(code));
        assert_eq!(watched.look(1).reasons(), [""; 0], "{code}");
        let seen = watched.look(1);
        assert_eq!(seen.reasons(), [alarm::STALE], "{code}");
        assert_eq!(seen.alarms[0].line().lines().count(), 1);
    }
}

#[test]
fn a_log_that_says_nothing_is_stale_after_a_while() {
    for silent in [(true, false), (false, true)] {
        let watched = Watched::new();
        assert_eq!(watched.look(1).reasons(), [""; 0]);
        watched.log.add("escrow-1", shares(1));
        // A checkpoint is recent; what it covers cannot be read.
        watched
            .log
            .change(|shown| (shown.silent, shown.live) = (silent, true));
        let seen = watched.look(3);
        assert_eq!(seen.failures, ["DEADLINE_EXCEEDED"; 3], "{silent:?}");
        assert_eq!(seen.reasons(), [alarm::STALE], "{silent:?}");
        watched.log.change(|shown| shown.silent = (false, false));
        let seen = watched.look(1);
        assert_eq!((seen.reasons(), seen.topics), (vec![], vec![Topic::Keys]));
    }
}

#[test]
fn a_log_that_claims_entries_without_end_is_not_read_for_ever() {
    let watched = Watched::new();
    watched.log.add("escrow-1", shares(1));
    assert_eq!(watched.look(1).reasons(), [""; 0]);
    watched.log.change(|shown| {
        (shown.claims, shown.slow) = (Some(1 << 63), 100);
        shown.log_key = 41;
    });
    let seen = watched.look(1);
    assert_eq!(seen.failures, ["DEADLINE_EXCEEDED"]);
    assert_eq!(seen.reasons(), [alarm::STALE]);
}

#[test]
fn a_log_that_hands_over_an_entry_now_and_then_is_stale_and_looked_at_meanwhile() {
    let watched = Watched::new();
    assert_eq!(watched.look(1).reasons(), [""; 0]);
    for _ in 0..9 {
        watched
            .log
            .add("audit", Event::Refusal(pb::Refusal::default()));
    }
    watched
        .log
        .change(|shown| (shown.slow, shown.live) = (MINUTE, true));
    let seen = watched.look(2);
    assert_eq!((seen.reasons(), seen.topics.len()), (vec![alarm::STALE], 6));
    assert_eq!(seen.outcome, Some(Outcome::More));
    watched.log.change(|shown| shown.slow = 0);
    let seen = watched.look(1);
    assert_eq!((seen.reasons(), seen.topics.len()), (vec![], 3));
    assert_eq!(seen.outcome, Some(Outcome::UpToDate));
}

/// As `greffe log watch` runs when nobody says how often, and how old the log's word may be.
#[test]
fn attack_40_an_entry_that_is_not_merged_in_time_is_alarmed_about_within_a_minute() {
    use clap::Parser as _;
    #[derive(clap::Parser)]
    struct Watch {
        #[command(flatten)]
        arguments: WatchLogArguments,
    }
    let asked = Watch::parse_from(["watch", "--state", "watch"]).arguments;
    let step = u64::try_from(asked.interval.as_millis()).unwrap();
    assert_eq!(asked.max_age, MAX_AGE);
    let deadline = T0 + u64::try_from(asked.max_age.as_millis()).unwrap();

    let watched = Watched::new();
    assert_eq!(watched.look(1).reasons(), [""; 0]);
    // From here on the log takes entries, acknowledges them, and merges none: its checkpoint stays what it was.
    let mut now = T0;
    let alarmed = loop {
        now += step;
        watched.now.set(now);
        let seen = watched.look(1);
        if seen.reasons() == [alarm::STALE] {
            break now;
        }
        assert_eq!(seen.reasons(), [""; 0]);
        assert!(now <= deadline + MINUTE, "no alarm");
    };
    assert!(alarmed > deadline, "an alarm before the deadline");
    assert!(alarmed <= deadline + MINUTE, "an alarm that is late");
}

//! A thread of the simulation: its time passes when it sleeps, its randomness follows from a number (`native/machine.c`).

use core::time::Duration;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use greffe_types::Millis;

/// The fraction by which a sleep that moves the calendar is known.
const JUMP: u32 = 999_999_999;

/// Runs work on a simulated thread of its own. Its time begins anew.
///
/// # Panics
/// As `work` does; when the system gives no thread.
pub(crate) fn on_thread<T: Send>(number: u32, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let name = format!("sim-{number}");
        let spawned = thread::Builder::new().name(name).spawn_scoped(scope, work);
        match spawned.expect("a thread").join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Lets time pass.
pub(crate) fn pass(time: Duration) {
    let time = if time.subsec_nanos() == JUMP {
        time + Duration::from_nanos(1)
    } else {
        time
    };
    thread::sleep(time);
}

/// Sets the calendar forward by whole seconds; no time passes.
pub(crate) fn jump(seconds: u64) {
    thread::sleep(Duration::new(seconds, JUMP));
}

/// What the calendar says.
pub(crate) fn now() -> Millis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Millis::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn time_passes_by_sleeping_and_randomness_repeats() {
        let live = || {
            let (begun, date) = (Instant::now(), now());
            pass(Duration::from_secs(3600));
            assert_eq!(begun.elapsed(), Duration::from_secs(3600));
            jump(86_400);
            assert_eq!(begun.elapsed(), Duration::from_secs(3600));
            assert_eq!(now(), date.plus(Duration::from_secs(90_000)));
            std::hash::RandomState::new()
        };
        use std::hash::BuildHasher as _;
        let [first, again, other] = [7, 7, 8].map(|n| on_thread(n, live).hash_one(1));
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert!(now() > Millis::new(1_772_442_000_000));
    }
}

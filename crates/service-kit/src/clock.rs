//! The clock as a value: the system's for services, one set by hand for tests.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use greffe_types::Millis;

use crate::errors::Reason;

/// The clock stands before the newest thing that was logged.
pub const CLOCK_BEHIND_LOG: Reason = Reason::new("CLOCK_BEHIND_LOG");

/// Where the time comes from.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now, UTC.
    fn now(&self) -> Millis;
}

/// A clock that tasks share.
pub type SharedClock = Arc<dyn Clock>;

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// A clock set before 1970 reads as 1970, which every period check then refuses.
    fn now(&self) -> Millis {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Millis::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that moves when it is told to.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Standing at an instant. Clones share it.
    pub fn at(now: Millis) -> Self {
        Self(Arc::new(AtomicU64::new(now.get())))
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }

    /// Moves to an instant, earlier ones included.
    pub fn set(&self, now: Millis) {
        self.0.store(now.get(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Millis {
        Millis::new(self.0.load(Ordering::SeqCst))
    }
}

/// This machine's clock is behind the log's newest entry by more than clocks may differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the clock ({now}) is behind the log ({logged}) by more than {} s", tolerance.as_secs())]
pub struct ClockBehind {
    /// What the clock said.
    pub now: Millis,
    /// Time of the newest entry known.
    pub logged: Millis,
    /// Difference that is forgiven.
    pub tolerance: Duration,
}

/// Refuses to act on a clock that stands before what has already happened.
pub fn not_behind(now: Millis, logged: Millis, tolerance: Duration) -> Result<(), ClockBehind> {
    if now.plus(tolerance) < logged {
        return Err(ClockBehind {
            now,
            logged,
            tolerance,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_behind_the_log_is_refused() {
        let clock = ManualClock::at(Millis::new(100_000));
        let tolerance = Duration::from_secs(10);
        assert!(not_behind(clock.now(), Millis::new(110_000), tolerance).is_ok());
        assert!(not_behind(clock.now(), Millis::new(110_001), tolerance).is_err());
        clock.advance(Duration::from_millis(1));
        assert!(not_behind(clock.now(), Millis::new(110_001), tolerance).is_ok());
    }

    #[test]
    fn the_system_clock_is_of_this_century() {
        assert!(SystemClock.now() > Millis::new(1_700_000_000_000));
    }
}

//! Instants and half-open periods in milliseconds since the Unix epoch, UTC. No clock is read here.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(u64);

impl Millis {
    /// From milliseconds.
    pub const fn new(millis: u64) -> Self {
        Self(millis)
    }

    /// In milliseconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Later by a duration; stops at the end of time instead of wrapping.
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_millis() as u64))
    }

    /// Earlier by a duration; stops at the epoch.
    pub const fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_millis() as u64))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// From `not_before` (included) to `not_after` (excluded).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    not_before: Millis,
    not_after: Millis,
}

impl TimeRange {
    /// A period; none when it would be empty.
    pub fn new(not_before: Millis, not_after: Millis) -> Option<Self> {
        (not_before < not_after).then_some(Self {
            not_before,
            not_after,
        })
    }

    /// Whether an instant lies in it.
    pub fn contains(&self, at: Millis) -> bool {
        self.not_before <= at && at < self.not_after
    }

    /// First instant in it.
    pub const fn not_before(&self) -> Millis {
        self.not_before
    }

    /// First instant after it.
    pub const fn not_after(&self) -> Millis {
        self.not_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_half_open() {
        let range = TimeRange::new(Millis::new(5), Millis::new(7)).expect("not empty");
        assert!(!range.contains(Millis::new(4)));
        assert!(range.contains(Millis::new(5)));
        assert!(!range.contains(Millis::new(7)));
        assert!(TimeRange::new(Millis::new(5), Millis::new(5)).is_none());
    }
}

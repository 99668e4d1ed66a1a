//! A time good enough to destroy by: our own clock, and witnesses of the log who agree with it.

use std::collections::BTreeMap;

use core::time::Duration;

use greffe_types::Millis;

/// How far a witness's cosignature time may be from our clock: cosignatures are up to five minutes old, clocks err.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(600);

/// The earliest time that our clock and a quorum of witnesses agree on. Nothing is destroyed by one clock alone, so ten
/// years ahead on one machine destroy nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrustedNow(Millis);

/// Why no trusted time was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// A quorum of nobody was asked for.
    #[error("a trusted time needs at least one witness")]
    NoQuorum,
    /// Too few witnesses agree with our clock.
    #[error("{agreeing} of {needed} witnesses agree with this clock")]
    Disagreement {
        /// Witnesses within [`CLOCK_TOLERANCE`] of our clock.
        agreeing: usize,
        /// Witnesses needed.
        needed: usize,
    },
}

impl ClockError {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoQuorum => "CLOCK_NO_QUORUM",
            Self::Disagreement { .. } => "CLOCK_DISAGREEMENT",
        }
    }
}

impl TrustedNow {
    /// From our clock and the times in witnesses' verified cosignatures of a recent checkpoint, by witness name.
    ///
    /// # Errors
    /// When fewer than `quorum` witnesses are within [`CLOCK_TOLERANCE`] of our clock.
    pub fn agree(
        own: Millis,
        cosigned: &BTreeMap<String, Millis>,
        quorum: usize,
    ) -> Result<Self, ClockError> {
        if quorum == 0 {
            return Err(ClockError::NoQuorum);
        }
        let near = own.minus(CLOCK_TOLERANCE)..=own.plus(CLOCK_TOLERANCE);
        let agreeing: Vec<Millis> = cosigned
            .values()
            .copied()
            .filter(|at| near.contains(at))
            .collect();
        if agreeing.len() < quorum {
            return Err(ClockError::Disagreement {
                agreeing: agreeing.len(),
                needed: quorum,
            });
        }
        let earliest = agreeing.into_iter().min().unwrap_or(own);
        Ok(Self(own.min(earliest)))
    }

    /// The time.
    pub const fn get(self) -> Millis {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stands_alone_is_refused() {
        let minute = 60_000;
        let own = Millis::new(1_000 * minute);
        let witness = |name: &str, at: u64| (name.to_owned(), Millis::new(at * minute));
        let two = BTreeMap::from([witness("w1", 996), witness("w2", 1_004)]);
        assert_eq!(
            TrustedNow::agree(own, &two, 2).map(TrustedNow::get),
            Ok(Millis::new(996 * minute))
        );
        let one_off = BTreeMap::from([witness("w1", 996), witness("w2", 980)]);
        assert_eq!(
            TrustedNow::agree(own, &one_off, 2),
            Err(ClockError::Disagreement {
                agreeing: 1,
                needed: 2
            })
        );
        assert!(TrustedNow::agree(own, &one_off, 1).is_ok());
        assert_eq!(
            TrustedNow::agree(own, &BTreeMap::new(), 0),
            Err(ClockError::NoQuorum)
        );
    }
}

//! What happened, when and to whom: the same for the same seed.

use core::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Events in order.
#[derive(Debug)]
pub(crate) struct Trace {
    begun: Instant,
    lines: Mutex<Vec<String>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            lines: Mutex::default(),
        }
    }
}

impl Trace {
    /// Something happened.
    pub(crate) fn note(&self, who: &str, what: fmt::Arguments<'_>) {
        let at = self.begun.elapsed().as_millis();
        let line = format!("{at:>8} {who:<10} {what}");
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    /// All of it.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

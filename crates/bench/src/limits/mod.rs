//! Limits measured beside the services: what the same machine does with the same bytes when nothing is checked.

pub(crate) mod disk;
pub(crate) mod postgres;
pub(crate) mod sink;

/// Rows, or messages, that a limit takes together.
pub(crate) const BATCH: usize = 100;

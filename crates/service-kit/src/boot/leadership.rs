//! Who of the processes that serve at once does the background work of all: the one with the lease.

use std::sync::{Arc, Mutex, PoisonError};

use super::host;
use crate::db::lease::{Candidate, Lease};
use crate::errors::Causes;
use crate::health::{self, Guard, Health};
use crate::telemetry::metrics;

/// The way to the lease, beside serving. Losing it ends the process: [`crate::db::lease::or_lost`].
#[derive(Debug)]
pub struct Leadership {
    candidate: Candidate,
    health: Health,
    watched: Arc<Mutex<Vec<Guard>>>,
}

impl Leadership {
    pub(super) const fn new(
        candidate: Candidate,
        health: Health,
        watched: Arc<Mutex<Vec<Guard>>>,
    ) -> Self {
        Self {
            candidate,
            health,
            watched,
        }
    }

    /// Waits until this process leads; at once when nobody else does. A lease that can never be had makes the process one that
    /// is not alive.
    pub async fn gained(self) -> Lease {
        match self.candidate.gained().await {
            Ok(lease) => {
                leads(&lease);
                let guard = health::watch_lease(&self.health, &lease);
                let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
                watched.push(guard);
                lease
            }
            Err(error) => {
                self.health.stuck(Causes(&error).to_string());
                core::future::pending().await
            }
        }
    }
}

/// What the metrics say from now on.
pub(super) fn leads(lease: &Lease) {
    metrics::LEASE_HELD.set(1);
    metrics::LEASE_EPOCH.set(lease.fence());
}

/// Who takes the lease, for people who look at the table.
pub(super) fn holder() -> String {
    format!("{} (process {})", host(), std::process::id())
}

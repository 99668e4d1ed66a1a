//! Whether this process lives and whether it should be given work, from what its parts say of themselves.
//!
//! Ready means: the main port serves, and every named condition holds: the lease, the database, the log. Alive means that no
//! part has said it is stuck for good; a process that waits, stands by or drains is alive.

pub(crate) mod server;

use core::fmt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use crate::db::lease::Lease;
use crate::db::{Database, sql};
use crate::telemetry::metrics;

/// Where a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It opens what it needs.
    Starting,
    /// Another replica has the lease.
    Standby,
    /// The main port serves.
    Serving,
    /// It finishes what is under way, and ends.
    Draining,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Serving => "serving",
            Self::Draining => "draining",
        })
    }
}

/// The state of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    phase: Phase,
    conditions: BTreeMap<&'static str, Holds>,
    stuck: Option<String>,
}

#[derive(Debug)]
enum Holds {
    Yes,
    /// For as long as it is said again in time.
    Until(Instant),
    No(String),
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Of a process that has just begun.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            phase: Phase::Starting,
            conditions: BTreeMap::new(),
            stuck: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the process stands.
    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// It stands somewhere else now. One that drains never does anything else again.
    pub fn enter(&self, phase: Phase) {
        let mut state = self.state();
        if state.phase != Phase::Draining {
            state.phase = phase;
        }
    }

    /// A part without which the process is not ready. It does not hold until it says so, nor once it is dropped: a task that
    /// ended does not do its work any more.
    pub fn condition(&self, name: &'static str) -> Condition {
        self.state()
            .conditions
            .insert(name, Holds::No("not yet".to_owned()));
        Condition {
            name,
            state: Arc::downgrade(&self.0),
        }
    }

    /// Asks every so often, and holds while the last answer in time was a good one. The condition goes with the guard.
    pub fn probe<F, R, E>(
        &self,
        name: &'static str,
        every: Duration,
        patience: Duration,
        mut ask: F,
    ) -> Guard
    where
        F: FnMut() -> R + Send + 'static,
        R: Future<Output = Result<(), E>> + Send,
        E: fmt::Display,
    {
        let condition = self.condition(name);
        let task = tokio::spawn(async move {
            loop {
                match tokio::time::timeout(patience, ask()).await {
                    Ok(Ok(())) => condition.hold_for(2 * (every + patience)),
                    Ok(Err(error)) => condition.fail(error.to_string()),
                    Err(_) => condition.fail("no answer in time"),
                }
                tokio::time::sleep(every).await;
            }
        });
        Guard(task.abort_handle())
    }

    /// The process cannot go on by itself, and has to be started again.
    pub fn stuck(&self, why: impl Into<String>) {
        let why = why.into();
        tracing::error!(%why, "the process is stuck");
        self.state().stuck = Some(why);
    }

    /// Whether the process lives.
    ///
    /// # Errors
    /// Why it does not.
    pub fn alive(&self) -> Result<(), String> {
        self.state().stuck.clone().map_or(Ok(()), Err)
    }

    /// Whether the process should be given work.
    ///
    /// # Errors
    /// Everything that keeps it from that.
    pub fn ready(&self) -> Result<(), Vec<String>> {
        let state = self.state();
        let now = Instant::now();
        let mut missing: Vec<String> = state.stuck.iter().cloned().collect();
        if state.phase != Phase::Serving {
            missing.push(state.phase.to_string());
        }
        for (name, holds) in &state.conditions {
            match holds {
                Holds::Yes => {}
                Holds::Until(end) if now < *end => {}
                Holds::Until(_) => missing.push(format!("{name}: silent for too long")),
                Holds::No(why) => missing.push(format!("{name}: {why}")),
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(missing)
        }
    }
}

/// A part without which a process is not ready.
#[derive(Debug)]
pub struct Condition {
    name: &'static str,
    state: Weak<Mutex<State>>,
}

impl Condition {
    /// It holds.
    pub fn hold(&self) {
        self.set(Holds::Yes);
    }

    /// It holds, and is taken not to when this is not said again in that time.
    pub fn hold_for(&self, time: Duration) {
        self.set(Holds::Until(Instant::now() + time));
    }

    /// It does not hold. Everybody may read why: no secret, no content.
    pub fn fail(&self, why: impl Into<String>) {
        self.set(Holds::No(why.into()));
    }

    fn set(&self, holds: Holds) {
        if let Some(state) = self.state.upgrade() {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.conditions.insert(self.name, holds);
        }
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        self.fail("ended");
    }
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How often a database is asked whether it is there, and how long it may take.
const DATABASE_EVERY: Duration = Duration::from_secs(5);
const DATABASE_PATIENCE: Duration = Duration::from_secs(3);

/// Ready only while the database answers.
pub(crate) fn watch_database(health: &Health, database: &Database) -> Guard {
    let database = database.clone();
    let ask = move || {
        let database = database.clone();
        async move {
            let asked = sql::query_scalar::<i64>("SELECT CAST(1 AS BIGINT)")
                .fetch_one(database.read())
                .await;
            // The reason may name hosts and users: it is for the log.
            asked.map(drop).map_err(|error| {
                tracing::warn!(%error, "the database does not answer");
                "no answer"
            })
        }
    };
    health.probe("database", DATABASE_EVERY, DATABASE_PATIENCE, ask)
}

/// Ready only while the lease is held.
pub(crate) fn watch_lease(health: &Health, lease: &Lease) -> Guard {
    let condition = health.condition("lease");
    condition.hold();
    let lost = lease.lost();
    let task = tokio::spawn(async move {
        lost.cancelled().await;
        condition.fail("lost");
        metrics::LEASE_HELD.set(0);
        // The process ends; until then it stays so.
        core::future::pending::<()>().await;
    });
    Guard(task.abort_handle())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_takes_the_port_and_every_condition() {
        let health = Health::new();
        assert_eq!(health.ready(), Err(vec!["starting".to_owned()]));
        let (database, log) = (health.condition("database"), health.condition("log"));
        health.enter(Phase::Serving);
        assert_eq!(
            health.ready(),
            Err(vec![
                "database: not yet".to_owned(),
                "log: not yet".to_owned()
            ])
        );
        database.hold();
        log.hold_for(Duration::from_secs(60));
        assert_eq!(health.ready(), Ok(()));
        log.hold_for(Duration::ZERO);
        assert_eq!(
            health.ready(),
            Err(vec!["log: silent for too long".to_owned()])
        );
        log.hold();
        drop(database);
        assert_eq!(health.ready(), Err(vec!["database: ended".to_owned()]));
        health.condition("database").hold();
        health.enter(Phase::Draining);
        health.enter(Phase::Serving);
        assert_eq!(health.phase(), Phase::Draining);
        assert_eq!(health.alive(), Ok(()));
        health.stuck("a lock is never given back");
        assert!(health.alive().is_err());
    }

    #[tokio::test]
    async fn a_probe_notices_silence_and_recovery() {
        let health = Health::new();
        health.enter(Phase::Serving);
        let (answer, asked) = tokio::sync::watch::channel(Some(Ok(())));
        let (every, patience) = (Duration::from_millis(20), Duration::from_millis(300));
        let _guard = health.probe("database", every, patience, move || {
            let now: Option<Result<(), &str>> = *asked.borrow();
            async move {
                match now {
                    Some(answer) => answer,
                    None => core::future::pending().await,
                }
            }
        });
        for (next, expected) in [
            (Some(Ok(())), Ok(())),
            (Some(Err("gone")), Err(vec!["database: gone".to_owned()])),
            (None, Err(vec!["database: no answer in time".to_owned()])),
            (Some(Ok(())), Ok(())),
        ] {
            answer.send(next).unwrap();
            let waited = Instant::now();
            while health.ready() != expected {
                assert!(waited.elapsed() < Duration::from_secs(10), "{expected:?}");
                tokio::time::sleep(every).await;
            }
        }
    }
}

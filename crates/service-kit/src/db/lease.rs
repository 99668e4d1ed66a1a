//! The lease: which of several processes writes, and the fencing epoch by which the others are refused.
//!
//! A table `lease` has one row a tenant: the epoch, its holder, and until when it holds. On SQLite, where a data folder has one
//! process, a start takes it at once. On PostgreSQL a process waits until the holder has given it up or not renewed it, by
//! the database's clock, and then raises the epoch under a lock that waits for the holder's last transaction. Every
//! transaction of a process that took it begins with the epoch's check (`BEGIN_FENCED` and `BEGIN_IN_TURN` in the module above), so
//! that a process that was paused, cut off or merely slow changes nothing once another has taken over, whatever it believes
//! of the time.

use core::time::Duration;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Instant;

use greffe_types::TenantId;
use sqlx::Executor as _;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio_util::sync::CancellationToken;

use super::{Connection, Database, DbError, Pool, errors, sql};
use crate::errors::Reason;

/// Another process has taken over.
pub const FENCED: Reason = Reason::new("FENCED");

/// How long a lease holds without being renewed if nothing else was said: how long a take-over waits for a process that died.
pub const TTL: Duration = Duration::from_secs(10);
/// How often it is renewed, and how often a standby looks, in parts of that time.
const RENEWALS: u32 = 5;
const LOOKS: u32 = 20;
/// What transactions of [`super::Writers::Any`] begin with.
const TURN: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended(current_setting('greffe.tenant'), 0))";
/// The database's clock, in milliseconds since the Unix epoch.
const CLOCK: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";

/// Why a transaction was not begun.
#[derive(Debug, Clone, thiserror::Error)]
#[error("another process has taken over: {0}")]
pub struct Fenced(String);

impl From<Fenced> for sqlx::Error {
    fn from(fenced: Fenced) -> Self {
        Self::Io(std::io::Error::other(fenced))
    }
}

/// A lease that was taken. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tenant: TenantId,
    fence: u64,
    lost: CancellationToken,
    why: RwLock<Option<String>>,
    row: Option<Row>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.lost.cancel();
    }
}

/// The lease's row on PostgreSQL.
#[derive(Debug, Clone)]
struct Row {
    pool: PgPool,
    tenant: TenantId,
    fence: i64,
    ttl: Duration,
}

impl Row {
    async fn renew(&self) -> sqlx::Result<bool> {
        let done = sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE lease SET expires = {CLOCK} + $3 WHERE tenant = $1 AND fence = $2"
        )))
        .bind(self.tenant.as_str())
        .bind(self.fence)
        .bind(millis(self.ttl))
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Lets the next process take over at once.
    async fn give_up(&self) {
        let given = sqlx::query("UPDATE lease SET expires = 0 WHERE tenant = $1 AND fence = $2")
            .bind(self.tenant.as_str())
            .bind(self.fence)
            .execute(&self.pool)
            .await;
        if let Err(error) = given {
            tracing::warn!(%error, "the lease could not be given up; it runs out by itself");
        }
        self.pool.close().await;
    }

    /// Renews until the lease is lost, and gives it up when nobody has the database any more, as after a start that failed.
    async fn keep(self, lease: Weak<Inner>, lost: CancellationToken) {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = lost.cancelled() => {}
                () = tokio::time::sleep(self.ttl / RENEWALS) => {}
            }
            let Some(lease) = lease.upgrade().map(Lease) else {
                // What a transaction of ours may still do is over before anybody takes over.
                return self.give_up().await;
            };
            if lost.is_cancelled() {
                return;
            }
            // Time counts from before the renewal was sent.
            let begun = Instant::now();
            if begun.duration_since(renewed) >= self.ttl {
                return lease.lose("it was not renewed in time");
            }
            let left = self.ttl.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.renew()).await {
                Ok(Ok(true)) => renewed = begun,
                Ok(Ok(false)) => return lease.lose("another process has raised its epoch"),
                Ok(Err(error)) => tracing::warn!(%error, "the lease was not renewed; trying again"),
                Err(_) => return lease.lose("it was not renewed in time"),
            }
        }
    }
}

impl Lease {
    /// The fencing epoch.
    pub fn fence(&self) -> u64 {
        self.0.fence
    }

    /// Cancelled once the lease is lost: the process has to end.
    pub fn lost(&self) -> CancellationToken {
        self.0.lost.clone()
    }

    pub(super) fn tenant(&self) -> &str {
        self.0.tenant.as_str()
    }

    pub(super) fn lose(&self, why: impl Into<String>) {
        let why = why.into();
        tracing::error!(fence = self.0.fence, why, "the lease is lost");
        self.0
            .why
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(why);
        self.0.lost.cancel();
    }

    pub(super) fn check_held(&self) -> Result<(), Fenced> {
        if !self.0.lost.is_cancelled() {
            return Ok(());
        }
        let why = self.0.why.read().unwrap_or_else(PoisonError::into_inner);
        Err(Fenced(why.clone().unwrap_or_default()))
    }

    pub(super) fn check(&self, found: Option<i64>) -> Result<(), Fenced> {
        let found = found.map(i64::cast_unsigned);
        if found == Some(self.0.fence) {
            return Ok(());
        }
        self.lose(match found {
            Some(found) => format!("its epoch is {found}, ours {}", self.0.fence),
            None => "its row is gone".to_owned(),
        });
        self.check_held()
    }

    /// Lets the next process take over at once. Nothing is written through this database afterwards.
    pub(super) async fn release(&self) {
        let Some(row) = &self.0.row else {
            return;
        };
        if self.0.lost.is_cancelled() {
            return;
        }
        self.0
            .why
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| "it was given up".to_owned());
        self.0.lost.cancel();
        row.give_up().await;
    }
}

impl Database {
    /// Waits for the lease and takes it: from now on every transaction checks it. `holder` is for people who look at the table.
    ///
    /// # Errors
    /// [`DbError::Lease`]: the database failed, or the lease was taken through this value before.
    pub async fn take_lease(&self, tenant: &TenantId, holder: &str) -> Result<Lease, DbError> {
        self.take_lease_for(tenant, holder, TTL).await
    }

    /// As [`Database::take_lease`], holding for `ttl` without being renewed.
    ///
    /// # Errors
    /// As there.
    pub async fn take_lease_for(
        &self,
        tenant: &TenantId,
        holder: &str,
        ttl: Duration,
    ) -> Result<Lease, DbError> {
        self.candidate(tenant, holder, ttl).await?.gained().await
    }

    /// Takes the lease if nobody holds it now; otherwise [`Candidate::gained`] does once it can.
    ///
    /// # Errors
    /// As [`Database::take_lease`].
    pub async fn candidate(
        &self,
        tenant: &TenantId,
        holder: &str,
        ttl: Duration,
    ) -> Result<Candidate, DbError> {
        let own = match &self.writer {
            Pool::Sqlite(_) => None,
            // A connection of its own: a renewal never waits for the writer.
            Pool::Postgres(pool) => Some(
                PgPoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(ttl)
                    .connect_lazy_with((*pool.connect_options()).clone()),
            ),
        };
        let mut candidate = Candidate {
            db: self.clone(),
            tenant: tenant.clone(),
            holder: holder.to_owned(),
            ttl,
            own,
            lease: None,
        };
        candidate.look().await?;
        Ok(candidate)
    }

    async fn take_at_once(&self, tenant: &TenantId, holder: &str) -> Result<u64, DbError> {
        self.run_tx("take_lease", async |tx: &mut Connection| {
            let fence: i64 = sql::query_scalar(
                "INSERT INTO lease (tenant, fence, holder, expires) VALUES ($1, 1, $2, 0)
                 ON CONFLICT (tenant) DO UPDATE SET fence = lease.fence + 1, holder = excluded.holder
                 RETURNING fence",
            )
            .bind(tenant.as_str())
            .bind(holder)
            .fetch_one(tx)
            .await?;
            Ok::<_, sqlx::Error>(fence.cast_unsigned())
        })
        .await
        .map_err(DbError::Lease)
    }
}

/// A process that takes the lease when it can.
#[derive(Debug)]
pub struct Candidate {
    db: Database,
    tenant: TenantId,
    holder: String,
    ttl: Duration,
    own: Option<PgPool>,
    lease: Option<Lease>,
}

impl Candidate {
    /// Waits until the lease is ours.
    ///
    /// # Errors
    /// [`DbError::Lease`], not while the database merely does not answer.
    pub async fn gained(mut self) -> Result<Lease, DbError> {
        loop {
            if let Some(lease) = self.lease.take() {
                return Ok(lease);
            }
            tokio::time::sleep(self.ttl / LOOKS).await;
            self.look().await?;
        }
    }

    /// Takes the lease if nobody holds it.
    async fn look(&mut self) -> Result<(), DbError> {
        let Some(own) = &self.own else {
            let fence = self.db.take_at_once(&self.tenant, &self.holder).await?;
            return self.took(fence);
        };
        match try_take(own, &self.tenant, &self.holder, self.ttl).await {
            Ok(Some(fence)) => self.took(fence),
            Ok(None) => Ok(()),
            Err(error) if errors::is_passing(&error) => {
                tracing::warn!(%error, "the lease could not be looked at; trying again");
                Ok(())
            }
            Err(error) => Err(DbError::Lease(error)),
        }
    }

    fn took(&mut self, fence: u64) -> Result<(), DbError> {
        let row = self.own.clone().map(|pool| Row {
            pool,
            tenant: self.tenant.clone(),
            fence: fence.cast_signed(),
            ttl: self.ttl,
        });
        let lease = Lease(Arc::new(Inner {
            tenant: self.tenant.clone(),
            fence,
            lost: CancellationToken::new(),
            why: RwLock::new(None),
            row,
        }));
        if self.db.lease.set(lease.clone()).is_err() {
            return Err(DbError::Lease(sqlx::Error::Configuration(
                "the lease was taken before".into(),
            )));
        }
        if let Some(row) = &lease.0.row {
            let held = Arc::downgrade(&lease.0);
            tokio::spawn(row.clone().keep(held, lease.lost()));
        }
        tracing::info!(fence, holder = self.holder, "the lease is ours");
        self.lease = Some(lease);
        Ok(())
    }
}

/// Comes back when a service is told to stop, or may not go on.
pub async fn or_lost(db: &Database, stop: impl Future<Output = ()>) {
    tokio::select! {
        () = stop => {}
        () = db.lost() => {}
    }
}

/// Takes the lease when nobody holds it.
async fn try_take(
    pool: &PgPool,
    tenant: &TenantId,
    holder: &str,
    ttl: Duration,
) -> sqlx::Result<Option<u64>> {
    let held: Option<bool> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "SELECT expires > {CLOCK} FROM lease WHERE tenant = $1"
    )))
    .bind(tenant.as_str())
    .fetch_optional(pool)
    .await?;
    match held {
        Some(true) => return Ok(None),
        Some(false) => {}
        None => {
            sqlx::query(
                "INSERT INTO lease (tenant, fence, holder, expires) VALUES ($1, 0, '', 0) ON CONFLICT DO NOTHING",
            )
            .bind(tenant.as_str())
            .execute(pool)
            .await?;
        }
    }
    let mut tx = pool.begin().await?;
    // In turn with everybody who writes: those that come after do not pass.
    tx.execute(TURN).await?;
    // FOR UPDATE waits for the key share lock of the holder's last transaction; a plain UPDATE would not.
    let free: Option<bool> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "SELECT expires <= {CLOCK} FROM lease WHERE tenant = $1 FOR UPDATE"
    )))
    .bind(tenant.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    if free != Some(true) {
        tx.rollback().await?;
        return Ok(None);
    }
    let fence: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "UPDATE lease SET fence = fence + 1, holder = $2, expires = {CLOCK} + $3 WHERE tenant = $1 RETURNING fence"
    )))
    .bind(tenant.as_str())
    .bind(holder)
    .bind(millis(ttl))
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Some(fence.cast_unsigned()))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

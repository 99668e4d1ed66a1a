//! The services' databases, read from outside as an examiner would.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use greffe_types::{ConversationId, Digest};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions as _, Row as _};
use std::cell::RefCell;
use tokio::runtime::{Builder, Runtime};

/// A record as its row says.
pub(super) struct Record {
    pub(super) conversation: ConversationId,
    pub(super) sequence: u64,
    /// 1 message, 2 handshake, 3 void.
    pub(super) kind: i64,
    pub(super) digest: Digest,
    pub(super) content: Option<Digest>,
    pub(super) retain_until: u64,
    pub(super) disposal: i64,
}

/// A connection to each.
pub(super) struct Stores {
    runtime: Runtime,
    archive: RefCell<SqliteConnection>,
    wraps: RefCell<SqliteConnection>,
    log: RefCell<SqliteConnection>,
    relay: RefCell<SqliteConnection>,
    escrow: [RefCell<SqliteConnection>; 3],
    users: [RefCell<SqliteConnection>; 3],
}

impl Stores {
    pub(super) fn open(base: &Path) -> Result<Self> {
        // Without a driver of time: a simulated thread that waits has to be woken by its database.
        let runtime = Builder::new_current_thread().build()?;
        let open = |file: &str| {
            let options = SqliteConnectOptions::new()
                .filename(base.join(file))
                .pragma("query_only", "ON");
            let opened = runtime.block_on(options.connect());
            opened
                .map(RefCell::new)
                .with_context(|| format!("opening {file}"))
        };
        let stores = (
            open("archive/archive.db")?,
            open("archive/wraps.db")?,
            open("audit/log.sqlite")?,
            open("relay/relay.db")?,
            [
                open("escrow-1/escrow.db")?,
                open("escrow-2/escrow.db")?,
                open("escrow-3/escrow.db")?,
            ],
            [
                open("alice/client.db")?,
                open("bob/client.db")?,
                open("carol/client.db")?,
            ],
        );
        let (archive, wraps, log, relay, escrow, users) = stores;
        Ok(Self {
            archive,
            wraps,
            log,
            relay,
            escrow,
            users,
            runtime,
        })
    }

    fn all(&self, store: &RefCell<SqliteConnection>, sql: &'static str) -> Result<Vec<SqliteRow>> {
        let mut connection = store.borrow_mut();
        Ok(self
            .runtime
            .block_on(sqlx::query(sql).fetch_all(&mut *connection))?)
    }

    pub(super) fn records(&self) -> Result<Vec<Record>> {
        let sql = "SELECT conversation, sequence, kind, digest, content, retain_until, disposal FROM records ORDER BY record";
        let rows = self.all(&self.archive, sql)?;
        rows.iter()
            .map(|row| {
                let content: Option<&[u8]> = row.try_get(4)?;
                Ok(Record {
                    conversation: ConversationId::try_from(row.try_get::<&[u8], _>(0)?)?,
                    sequence: row.try_get::<i64, _>(1)?.cast_unsigned(),
                    kind: row.try_get(2)?,
                    digest: Digest::try_from(row.try_get::<&[u8], _>(3)?)?,
                    content: content.map(Digest::try_from).transpose()?,
                    retain_until: row.try_get::<i64, _>(5)?.cast_unsigned(),
                    disposal: row.try_get(6)?,
                })
            })
            .collect()
    }

    pub(super) fn wraps(&self) -> Result<BTreeSet<Digest>> {
        let rows = self.all(&self.wraps, "SELECT DISTINCT envelope FROM wraps")?;
        rows.iter()
            .map(|row| Ok(Digest::try_from(row.try_get::<&[u8], _>(0)?)?))
            .collect()
    }

    /// Leaves from an index on.
    pub(super) fn leaves(&self, from: u64) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut log = self.log.borrow_mut();
        let query = sqlx::query("SELECT idx, leaf FROM leaf WHERE idx >= ? ORDER BY idx")
            .bind(from.cast_signed());
        let rows = self.runtime.block_on(query.fetch_all(&mut *log))?;
        rows.iter()
            .map(|row| Ok((row.try_get::<i64, _>(0)?.cast_unsigned(), row.try_get(1)?)))
            .collect()
    }

    pub(super) fn log_size(&self) -> Result<u64> {
        let rows = self.all(&self.log, "SELECT COUNT(*) FROM leaf")?;
        let row = rows.first().context("a count")?;
        Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
    }

    /// Items with a number that the archive's receipt is not known of.
    pub(super) fn relay_waits(&self) -> Result<u64> {
        let rows = self.all(
            &self.relay,
            "SELECT COUNT(*) FROM item WHERE receipt IS NULL",
        )?;
        let row = rows.first().context("a count")?;
        Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
    }

    /// What a user has in the outbox.
    pub(super) fn outbox(&self, user: &str) -> Result<u64> {
        let place = match user {
            "alice" => 0,
            "bob" => 1,
            _ => 2,
        };
        let rows = self.all(&self.users[place], "SELECT COUNT(*) FROM outbox")?;
        let row = rows.first().context("a count")?;
        Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
    }

    /// Order, envelope, and whether the answer is there.
    pub(super) fn openings(&self, node: &str) -> Result<Vec<(Digest, Digest, bool)>> {
        let place = match node {
            "escrow-1" => 0,
            "escrow-2" => 1,
            _ => 2,
        };
        let sql = "SELECT order_digest, envelope, answer IS NOT NULL FROM opening";
        let rows = self.all(&self.escrow[place], sql)?;
        rows.iter()
            .map(|row| {
                Ok((
                    Digest::try_from(row.try_get::<&[u8], _>(0)?)?,
                    Digest::try_from(row.try_get::<&[u8], _>(1)?)?,
                    row.try_get::<i64, _>(2)? != 0,
                ))
            })
            .collect()
    }
}

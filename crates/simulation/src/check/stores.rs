//! The services' databases, read from outside as an examiner would, and each only when somebody has written it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use greffe_types::{ConversationId, Digest};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions as _, Row as _};
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

/// An opening at a node: order, envelope, and whether the answer is there.
pub(super) type Opening = (Digest, Digest, bool);

/// The databases beside the archive's, by the names under which its connection has them too.
const OTHERS: [(&str, &str); 9] = [
    ("wraps", "archive/wraps.db"),
    ("log", "audit/log.sqlite"),
    ("one", "escrow-1/escrow.db"),
    ("two", "escrow-2/escrow.db"),
    ("three", "escrow-3/escrow.db"),
    ("relay", "relay/relay.db"),
    ("alice", "alice/client.db"),
    ("bob", "bob/client.db"),
    ("carol", "carol/client.db"),
];
/// How often each of the first was written, in the order of [`Stores::look`].
const VERSIONS: &str =
    "PRAGMA main.data_version; PRAGMA wraps.data_version; PRAGMA log.data_version;
    PRAGMA one.data_version; PRAGMA two.data_version; PRAGMA three.data_version";
const RECORDS: &str = "SELECT conversation, sequence, kind, digest, content, retain_until, disposal FROM records ORDER BY record";
const OPENINGS: [&str; 3] = [
    "SELECT order_digest, envelope, answer IS NOT NULL FROM one.opening",
    "SELECT order_digest, envelope, answer IS NOT NULL FROM two.opening",
    "SELECT order_digest, envelope, answer IS NOT NULL FROM three.opening",
];

/// One connection to all of them, and what it found when it looked last.
pub(super) struct Stores {
    runtime: Runtime,
    connection: RefCell<SqliteConnection>,
    versions: [Option<i64>; 6],
    log_changed: bool,
    pub(super) records: Vec<Record>,
    pub(super) wraps: BTreeSet<Digest>,
    pub(super) openings: [Vec<Opening>; 3],
}

impl Stores {
    pub(super) fn open(base: &Path) -> Result<Self> {
        // Without a driver of time: a simulated thread that waits has to be woken by its database.
        let runtime = Builder::new_current_thread().build()?;
        let options = SqliteConnectOptions::new()
            .filename(base.join("archive/archive.db"))
            .pragma("query_only", "ON");
        let connected = runtime.block_on(options.connect());
        let mut connection = connected.context("opening the archive's database")?;
        for (name, file) in OTHERS {
            let path = base.join(file);
            let attached = sqlx::query("ATTACH DATABASE ? AS ?")
                .bind(path.to_str().context("a path in UTF-8")?)
                .bind(name)
                .execute(&mut connection);
            let attached = runtime.block_on(attached);
            attached.with_context(|| format!("opening {file}"))?;
        }
        let mut stores = Self {
            connection: RefCell::new(connection),
            runtime,
            versions: [None; 6],
            log_changed: true,
            records: Vec::new(),
            wraps: BTreeSet::new(),
            openings: Default::default(),
        };
        stores.look()?;
        Ok(stores)
    }

    /// Reads what was written since. The version of a database is asked for first: what is written later changes it again.
    pub(super) fn look(&mut self) -> Result<()> {
        let rows = {
            let mut connection = self.connection.borrow_mut();
            let asked = sqlx::raw_sql(VERSIONS).fetch_all(&mut *connection);
            self.runtime.block_on(asked)?
        };
        ensure!(
            rows.len() == self.versions.len(),
            "a database has no version"
        );
        for (place, row) in rows.iter().enumerate() {
            let version = Some(row.try_get(0)?);
            if self.versions[place] == version {
                continue;
            }
            match place {
                0 => self.records = self.read_records()?,
                1 => self.wraps = self.read_wraps()?,
                2 => self.log_changed = true,
                _ => self.openings[place - 3] = self.read_openings(OPENINGS[place - 3])?,
            }
            self.versions[place] = version;
        }
        Ok(())
    }

    /// Whether the log was written since this was asked last.
    pub(super) const fn log_has_changed(&mut self) -> bool {
        core::mem::replace(&mut self.log_changed, false)
    }

    fn all(&self, sql: &'static str) -> Result<Vec<SqliteRow>> {
        let mut connection = self.connection.borrow_mut();
        let query = sqlx::query(sql).fetch_all(&mut *connection);
        Ok(self.runtime.block_on(query)?)
    }

    fn count(&self, sql: &'static str) -> Result<u64> {
        let rows = self.all(sql)?;
        let row = rows.first().context("a count")?;
        Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
    }

    fn read_records(&self) -> Result<Vec<Record>> {
        let rows = self.all(RECORDS)?;
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

    fn read_wraps(&self) -> Result<BTreeSet<Digest>> {
        let rows = self.all("SELECT DISTINCT envelope FROM wraps.wraps")?;
        rows.iter()
            .map(|row| Ok(Digest::try_from(row.try_get::<&[u8], _>(0)?)?))
            .collect()
    }

    fn read_openings(&self, sql: &'static str) -> Result<Vec<Opening>> {
        let rows = self.all(sql)?;
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

    /// Leaves from an index on.
    pub(super) fn leaves(&self, from: u64) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut connection = self.connection.borrow_mut();
        let query = sqlx::query("SELECT idx, leaf FROM log.leaf WHERE idx >= ? ORDER BY idx")
            .bind(from.cast_signed());
        let rows = self.runtime.block_on(query.fetch_all(&mut *connection))?;
        rows.iter()
            .map(|row| Ok((row.try_get::<i64, _>(0)?.cast_unsigned(), row.try_get(1)?)))
            .collect()
    }

    pub(super) fn log_size(&self) -> Result<u64> {
        self.count("SELECT COUNT(*) FROM log.leaf")
    }

    /// Items with a number that the archive's receipt is not known of.
    pub(super) fn relay_waits(&self) -> Result<u64> {
        self.count("SELECT COUNT(*) FROM relay.item WHERE receipt IS NULL")
    }

    /// What a user has in the outbox.
    pub(super) fn outbox(&self, user: &str) -> Result<u64> {
        self.count(match user {
            "alice" => "SELECT COUNT(*) FROM alice.outbox",
            "bob" => "SELECT COUNT(*) FROM bob.outbox",
            _ => "SELECT COUNT(*) FROM carol.outbox",
        })
    }
}

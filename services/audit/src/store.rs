//! The log's database: one function a query.

use std::collections::{BTreeSet, HashMap};

use futures::TryStreamExt as _;
use greffe_service_kit::db::sql::{self, Builder, Row};
use greffe_service_kit::db::{Connection, Reader};
use greffe_tlog::leaf_hash;
use greffe_types::{Digest, Millis};

/// A row's bytes and hash contradict each other, or a number is out of range.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database failed.
    #[error("the log's database")]
    Database(#[from] sqlx::Error),
    /// A stored leaf is no longer what was stored.
    #[error("leaf {0} does not have the hash that was stored with it")]
    Damaged(u64),
}

/// A stored leaf; its hash has been compared with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Index in the log.
    pub(crate) index: u64,
    /// Exact bytes.
    pub(crate) bytes: Vec<u8>,
    /// RFC 6962 leaf hash.
    pub(crate) hash: Digest,
}

/// What a new row holds.
pub(crate) struct NewLeaf {
    pub(crate) index: u64,
    pub(crate) caller: String,
    pub(crate) id: [u8; 16],
    pub(crate) event: Digest,
    pub(crate) at: Millis,
    pub(crate) bytes: Vec<u8>,
}

/// What an id was used for.
pub(crate) struct Known {
    pub(crate) index: u64,
    pub(crate) event: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
}

/// Which of the two checkpoints that are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Signed,
    Published,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Published => "published",
        }
    }
}

/// Number of leaves.
pub(crate) async fn count(pool: &Reader) -> Result<u64, sqlx::Error> {
    let next: i64 = sql::query_scalar("/* count */ SELECT COALESCE(MAX(idx) + 1, 0) FROM leaf")
        .fetch_one(pool)
        .await?;
    Ok(next.cast_unsigned())
}

/// Index after the last leaf, and that leaf's time.
pub(crate) async fn end(tx: &mut Connection) -> Result<(u64, Millis), sqlx::Error> {
    let last = sql::query("/* end */ SELECT idx, at FROM leaf ORDER BY idx DESC LIMIT 1")
        .fetch_optional(tx)
        .await?;
    Ok(match last {
        Some(row) => (unsigned(&row, 0)? + 1, Millis::new(unsigned(&row, 1)?)),
        None => (0, Millis::default()),
    })
}

/// What callers have used ids for, of those asked for.
pub(crate) async fn known(
    tx: &mut Connection,
    asked: &BTreeSet<(&str, &[u8; 16])>,
) -> Result<HashMap<(String, [u8; 16]), Known>, sqlx::Error> {
    let mut known = HashMap::new();
    let callers: BTreeSet<&str> = asked.iter().map(|(caller, _)| *caller).collect();
    for caller in callers {
        let of_caller = asked.iter().filter(|(of, _)| *of == caller);
        let ids: Vec<&[u8; 16]> = of_caller.map(|(_, id)| *id).collect();
        for some in sql::groups(&ids, |_| 0) {
            let mut sql =
                Builder::new("/* known */ SELECT id, idx, event, leaf FROM leaf WHERE caller = ");
            sql.push_bind(caller)
                .push(" AND id IN ")
                .push_list(some.iter().map(|id| id.as_slice()));
            for row in sql.build().fetch_all(&mut *tx).await? {
                let id: Vec<u8> = row.at(0)?;
                let id = <[u8; 16]>::try_from(id).map_err(|_| sqlx::Error::RowNotFound)?;
                let found = Known {
                    index: unsigned(&row, 1)?,
                    event: row.at(2)?,
                    bytes: row.at(3)?,
                };
                known.insert((caller.to_owned(), id), found);
            }
        }
    }
    Ok(known)
}

/// Adds leaves.
pub(crate) async fn insert(tx: &mut Connection, leaves: &[NewLeaf]) -> Result<(), sqlx::Error> {
    for some in sql::groups(leaves, |leaf| leaf.bytes.len()) {
        let mut sql =
            Builder::new("/* insert */ INSERT INTO leaf (idx, caller, id, event, at, leaf, hash) ");
        sql.push_values(some, |row, leaf| {
            row.push_bind(leaf.index.cast_signed())
                .push_bind(leaf.caller.as_str())
                .push_bind(leaf.id.as_slice())
                .push_bind(leaf.event.as_bytes().as_slice())
                .push_bind(leaf.at.get().cast_signed())
                .push_bind(leaf.bytes.as_slice())
                .push_bind(leaf_hash(&leaf.bytes).as_bytes().as_slice());
        });
        sql.build().execute(&mut *tx).await?;
    }
    Ok(())
}

/// Leaves from `start` to `end`, excluded, in order; stops once `most` bytes are reached, but gives at least one.
pub(crate) async fn leaves(
    pool: &Reader,
    start: u64,
    end: u64,
    most: usize,
) -> Result<Vec<Leaf>, StoreError> {
    let sql =
        "/* leaves */ SELECT idx, leaf, hash FROM leaf WHERE idx >= $1 AND idx < $2 ORDER BY idx";
    let mut rows = sql::query(sql)
        .bind(start.cast_signed())
        .bind(end.cast_signed())
        .fetch(pool);
    let (mut leaves, mut size) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        let index = unsigned(&row, 0)?;
        let bytes: Vec<u8> = row.at(1)?;
        let stored: Vec<u8> = row.at(2)?;
        let hash = leaf_hash(&bytes);
        // A gap would shift every later leaf: as bad as another content.
        if index != start + leaves.len() as u64 || stored != hash.as_bytes() {
            return Err(StoreError::Damaged(index));
        }
        size += bytes.len();
        if size > most && !leaves.is_empty() {
            break;
        }
        leaves.push(Leaf { index, bytes, hash });
    }
    Ok(leaves)
}

/// Index of the first leaf with a hash.
pub(crate) async fn by_hash(pool: &Reader, hash: &Digest) -> Result<Option<u64>, sqlx::Error> {
    let index: Option<i64> =
        sql::query_scalar("/* by_hash */ SELECT MIN(idx) FROM leaf WHERE hash = $1")
            .bind(hash.as_bytes().as_slice())
            .fetch_one(pool)
            .await?;
    Ok(index.map(i64::cast_unsigned))
}

/// The newest checkpoint of a kind.
pub(crate) async fn checkpoint(pool: &Reader, kind: Kind) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sql::query_scalar("/* checkpoint */ SELECT note FROM checkpoint WHERE kind = $1")
        .bind(kind.as_str())
        .fetch_optional(pool)
        .await
}

/// Keeps a checkpoint; one of fewer leaves never replaces one of more.
pub(crate) async fn put_checkpoint(
    tx: &mut Connection,
    kind: Kind,
    size: u64,
    note: &[u8],
) -> Result<(), sqlx::Error> {
    let sql = "/* put_checkpoint */ INSERT INTO checkpoint (kind, size, note) VALUES ($1, $2, $3) \
               ON CONFLICT (kind) DO UPDATE SET size = excluded.size, note = excluded.note \
               WHERE excluded.size >= checkpoint.size";
    sql::query(sql)
        .bind(kind.as_str())
        .bind(size.cast_signed())
        .bind(note)
        .execute(tx)
        .await?;
    Ok(())
}

fn unsigned(row: &Row, column: usize) -> Result<u64, sqlx::Error> {
    Ok(row.at::<i64>(column)?.cast_unsigned())
}

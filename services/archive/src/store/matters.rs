//! Matters: the cases that holds and orders belong to.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, FromRow, Row};
use greffe_types::MatterId;

use super::{Scope, int, uint};

/// A matter.
#[derive(Debug, Clone)]
pub struct Matter {
    matter: Vec<u8>,
    number: i64,
    /// What it is called.
    pub name: String,
    /// Who opened it.
    pub opened_by: String,
    opened_at: i64,
    closed_at: Option<i64>,
}

impl FromRow for Matter {
    fn from_row(row: &Row) -> sqlx::Result<Self> {
        Ok(Self {
            matter: row.get("matter")?,
            number: row.get("number")?,
            name: row.get("name")?,
            opened_by: row.get("opened_by")?,
            opened_at: row.get("opened_at")?,
            closed_at: row.get("closed_at")?,
        })
    }
}

impl Matter {
    /// Its id.
    pub fn id(&self) -> &[u8] {
        &self.matter
    }

    /// Order of creation.
    pub fn number(&self) -> u64 {
        uint(self.number)
    }

    /// When it was opened.
    pub fn opened_at(&self) -> u64 {
        uint(self.opened_at)
    }

    /// Whether it takes holds and orders.
    pub const fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }
}

/// A matter by id.
pub async fn get(
    conn: &mut Connection,
    scope: &Scope,
    matter: &MatterId,
) -> sqlx::Result<Option<Matter>> {
    sql::query_as(
        "SELECT matter, number, name, opened_by, opened_at, closed_at FROM matters
         WHERE tenant = $1 AND matter = $2",
    )
    .bind(scope.tenant())
    .bind(matter.as_bytes().as_slice())
    .fetch_optional(conn)
    .await
}

/// Opens a matter; false when its id is taken.
pub async fn create(
    conn: &mut Connection,
    scope: &Scope,
    matter: &MatterId,
    name: &str,
    (opened_by, opened_at): (&str, u64),
) -> sqlx::Result<bool> {
    let done = sql::query(
        "INSERT INTO matters (tenant, matter, number, name, opened_by, opened_at, fence)
         SELECT $1, $2, COALESCE(MAX(number), 0) + 1, $3, $4, $5, $6 FROM matters WHERE tenant = $1
         ON CONFLICT (tenant, matter) DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(matter.as_bytes().as_slice())
    .bind(name)
    .bind(opened_by)
    .bind(int(opened_at))
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Closes a matter; false when it is closed already.
pub async fn close(
    conn: &mut Connection,
    scope: &Scope,
    matter: &MatterId,
    at: u64,
) -> sqlx::Result<bool> {
    let done = sql::query(
        "UPDATE matters SET closed_at = $3, fence = $4
         WHERE tenant = $1 AND matter = $2 AND closed_at IS NULL",
    )
    .bind(scope.tenant())
    .bind(matter.as_bytes().as_slice())
    .bind(int(at))
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Matters after one, by creation.
pub async fn page(
    conn: &mut Connection,
    scope: &Scope,
    after: u64,
    limit: u32,
) -> sqlx::Result<Vec<Matter>> {
    sql::query_as(
        "SELECT matter, number, name, opened_by, opened_at, closed_at FROM matters
         WHERE tenant = $1 AND number > $2 ORDER BY number LIMIT $3",
    )
    .bind(scope.tenant())
    .bind(int(after))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await
}

//! Months of records: on PostgreSQL each is a partition, made ahead, which a database's owner may detach; SQLite has none.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::Millis;

use super::{int, uint};

/// What a record's month lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MonthError {
    /// It was made, holds records, and was detached.
    #[error("{0} is detached from the database")]
    Detached(String),
    /// It was never made.
    #[error("records of this month have no partition")]
    Missing,
}

impl MonthError {
    /// What the database says of a row that no partition takes. Its SQLSTATE is that of a check, and there are no others.
    pub(crate) fn of(error: &sqlx::Error) -> Option<Self> {
        let code = error.as_database_error()?.code()?;
        (code == "23514").then_some(Self::Missing)
    }
}

/// A month that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Month {
    /// Name of its partition, `records_YYYY_MM`.
    pub name: String,
    /// Its first instant.
    pub begins: u64,
    /// The first instant after it.
    pub ends: u64,
    /// Whether it is a partition now.
    pub attached: bool,
}

/// Every month that was made, by time.
pub async fn all(conn: impl Executor<'_>) -> sqlx::Result<Vec<Month>> {
    let rows: Vec<(String, i64, i64, i64)> =
        sql::query_as("SELECT name, begins, ends, attached FROM months_attached ORDER BY begins")
            .fetch_all(conn)
            .await?;
    let months = rows
        .into_iter()
        .map(|(name, begins, ends, attached)| Month {
            name,
            begins: uint(begins),
            ends: uint(ends),
            attached: attached != 0,
        });
    Ok(months.collect())
}

/// Makes the partitions of an instant's month and of those that follow it, `count` in all, as far as they are missing; gives
/// how many were. PostgreSQL only.
pub async fn ensure(conn: &mut Connection, at: Millis, count: u32) -> sqlx::Result<u64> {
    let made: i64 = sql::query_scalar("SELECT ensure_months($1, $2)")
        .bind(int(at.get()))
        .bind(i64::from(count))
        .fetch_one(conn)
        .await?;
    Ok(uint(made))
}

/// How many months in a row have a partition, from an instant's on.
pub fn ahead(months: &[Month], at: Millis) -> u64 {
    let (mut next, mut count) = (at.get(), 0);
    for month in months.iter().filter(|month| month.attached) {
        if month.begins <= next && next < month.ends {
            next = month.ends;
            count += 1;
        }
    }
    count
}

/// The first month between two instants that is detached: what is read of that time would not be all there is. `until` 0 is
/// without end.
pub async fn detached(
    conn: impl Executor<'_>,
    from: u64,
    until: u64,
) -> sqlx::Result<Option<String>> {
    let until = if until == 0 { i64::MAX } else { int(until) };
    sql::query_scalar(
        "SELECT name FROM months_attached WHERE attached = 0 AND ends > $1 AND begins < $2
         ORDER BY begins LIMIT 1",
    )
    .bind(int(from))
    .bind(until)
    .fetch_optional(conn)
    .await
}

/// A record whose key is there and whose row is not: its month says why.
pub(super) fn away(at: u64) -> sqlx::Error {
    let name = jiff::Timestamp::from_millisecond(int(at)).map_or_else(
        |_| at.to_string(),
        |at| at.strftime("records_%Y_%m").to_string(),
    );
    sqlx::Error::Decode(Box::new(MonthError::Detached(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(name: &str, begins: u64, ends: u64, attached: bool) -> Month {
        Month {
            name: name.to_owned(),
            begins,
            ends,
            attached,
        }
    }

    #[test]
    fn months_ahead_are_counted_until_the_first_that_is_missing() {
        let months = [
            month("a", 0, 10, true),
            month("b", 10, 20, true),
            month("c", 20, 30, false),
            month("d", 30, 40, true),
        ];
        for (at, expected) in [(0, 2), (9, 2), (10, 1), (20, 0), (35, 1), (40, 0)] {
            assert_eq!(ahead(&months, Millis::new(at)), expected, "{at}");
        }
    }
}

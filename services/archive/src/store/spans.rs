//! Spans of 256 records in a row, and from when to when each is: where a search for a time has to look, and which months it needs.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql;

use super::{Scope, int, uint};

/// Records of a span.
const SPAN: u64 = 256;
/// Spans that are read at a time.
const PAGE: usize = 1024;

/// A time that records are searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Archived, or sent by the sender's clock, at or after.
    pub from: u64,
    /// Archived before; 0 is without end.
    pub until: u64,
}

impl Time {
    fn end(self) -> i64 {
        match self.until {
            0 => i64::MAX,
            until => int(until),
        }
    }
}

/// Before which instant no record after a number was archived that is of a time; none when there is no such record.
pub async fn earliest(
    conn: &mut Connection,
    scope: &Scope,
    time: Time,
    after: u64,
) -> sqlx::Result<Option<u64>> {
    let found: Option<i64> = sql::query_scalar(
        "SELECT MIN(earliest) FROM record_spans WHERE tenant = $1 AND span >= $2 AND latest >= $3 AND earliest < $4",
    )
    .bind(scope.tenant())
    .bind(int((after.saturating_add(1)) / SPAN))
    .bind(int(time.from))
    .bind(time.end())
    .fetch_one(conn)
    .await?;
    Ok(found.map(uint))
}

/// The next few runs of records, as first and last number, outside of which no record after a number is of a time; none when there
/// is nothing more.
pub async fn runs(
    conn: &mut Connection,
    scope: &Scope,
    time: Time,
    after: u64,
) -> sqlx::Result<Vec<(u64, u64)>> {
    let first = after.saturating_add(1);
    let spans: Vec<i64> = sql::query_scalar(
        "SELECT span FROM record_spans WHERE tenant = $1 AND span >= $2 AND latest >= $3 AND earliest < $4
         ORDER BY span LIMIT $5",
    )
    .bind(scope.tenant())
    .bind(int(first / SPAN))
    .bind(int(time.from))
    .bind(time.end())
    .bind(int(PAGE as u64))
    .fetch_all(conn)
    .await?;
    Ok(joined(spans.into_iter().map(uint), first))
}

/// Neighbouring spans as one run.
fn joined(spans: impl Iterator<Item = u64>, first: u64) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for span in spans {
        let (begins, ends) = (span * SPAN, span * SPAN + (SPAN - 1));
        match runs.last_mut() {
            Some(run) if run.1 + 1 == begins => run.1 = ends,
            _ => runs.push((begins.max(first), ends)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_spans_are_one_run_from_the_first_number_on() {
        assert!(joined(core::iter::empty(), 1).is_empty());
        assert_eq!(
            joined([0, 1, 3, 9, 10].into_iter(), 7),
            [(7, 511), (768, 1023), (2304, 2815)]
        );
    }
}

//! Resharings that the node took part in.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::{Digest, Millis, SessionId};

use super::{Scope, digest, int};

/// A resharing that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The root's descriptor.
    pub descriptor: Digest,
    /// The share epoch that the node signed at its end.
    pub share_epoch: Option<Vec<u8>>,
}

/// Reads one.
pub async fn get(
    conn: impl Executor<'_>,
    scope: &Scope,
    session: &SessionId,
) -> sqlx::Result<Option<Begun>> {
    let row: Option<(Vec<u8>, Option<Vec<u8>>)> = sql::query_as(
        "SELECT descriptor, share_epoch FROM reshare WHERE tenant = $1 AND session = $2",
    )
    .bind(scope.tenant())
    .bind(session.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    row.map(|(descriptor, share_epoch)| {
        Ok(Begun {
            descriptor: digest(&descriptor)?,
            share_epoch,
        })
    })
    .transpose()
}

/// Remembers for ever that a session was begun; false when it was before.
pub async fn begin(
    conn: &mut Connection,
    scope: &Scope,
    session: &SessionId,
    descriptor: &Digest,
    at: Millis,
) -> sqlx::Result<bool> {
    let done = sql::query(
        "INSERT INTO reshare (tenant, session, descriptor, begun_at, fence) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(session.as_bytes().as_slice())
    .bind(descriptor.as_bytes().as_slice())
    .bind(int(at.get()))
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps what the node ends a session with.
pub async fn end(
    conn: &mut Connection,
    scope: &Scope,
    session: &SessionId,
    share_epoch: &[u8],
) -> sqlx::Result<()> {
    sql::query(
        "UPDATE reshare SET share_epoch = $3, fence = $4
         WHERE tenant = $1 AND session = $2 AND share_epoch IS NULL",
    )
    .bind(scope.tenant())
    .bind(session.as_bytes().as_slice())
    .bind(share_epoch)
    .bind(scope.fence())
    .execute(conn)
    .await?;
    Ok(())
}

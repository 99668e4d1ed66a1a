//! The erasable store: wraps and the MLS messages that carry seeds. A database of its own.

use std::collections::HashMap;

use greffe_envelope::pb;
use greffe_service_kit::db::sql::{self, Builder, Executor};
use greffe_service_kit::db::{Connection, Reader};
use greffe_types::{Digest, Millis};

use super::{Scope, digest, int};

/// What of an envelope can be destroyed.
#[derive(Debug, Clone, Copy)]
pub struct Erasable<'a> {
    /// The envelope.
    pub envelope: &'a Digest,
    /// Its wraps, in its order.
    pub wraps: &'a [pb::Wrap],
    /// The MLS message that carries its seed.
    pub mls_message: &'a [u8],
}

/// Stores wraps and MLS messages; false, and nothing stored, when those of an envelope were destroyed, after which they never come
/// back. What is there already stays.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    erasable: &[Erasable<'_>],
) -> sqlx::Result<bool> {
    let envelopes: Vec<Digest> = erasable.iter().map(|e| *e.envelope).collect();
    for some in sql::groups(&envelopes, |_| 0) {
        let mut sql = Builder::new("SELECT COUNT(*) FROM destroyed WHERE tenant = ");
        sql.push_bind(scope.tenant())
            .push(" AND envelope IN ")
            .push_list(some.iter().map(Digest::as_bytes));
        let destroyed: i64 = sql.build_query_scalar().fetch_one(&mut *conn).await?;
        if destroyed > 0 {
            return Ok(false);
        }
    }
    let fence = int(conn.epoch());
    let wraps: Vec<(&Digest, u64, &pb::Wrap)> = erasable
        .iter()
        .flat_map(|e| (0..).zip(e.wraps).map(|(at, wrap)| (e.envelope, at, wrap)))
        .collect();
    for some in sql::groups(&wraps, |(_, _, wrap)| wrap.sealed.len()) {
        let mut sql = Builder::new(
            "INSERT INTO wraps (tenant, envelope, position, key_tenant, key_id, sealed, fence) ",
        );
        sql.push_values(some, |row, (envelope, position, wrap)| {
            row.push_bind(scope.tenant())
                .push_bind(envelope.as_bytes())
                .push_bind(int(*position))
                .push_bind(&wrap.tenant)
                .push_bind(&wrap.key_id)
                .push_bind(&wrap.sealed)
                .push_bind(fence);
        });
        sql.push(" ON CONFLICT (tenant, envelope, position) DO NOTHING");
        sql.build().execute(&mut *conn).await?;
    }
    for some in sql::groups(erasable, |e| e.mls_message.len()) {
        let mut sql = Builder::new("INSERT INTO mls_messages (tenant, envelope, message, fence) ");
        sql.push_values(some, |row, e| {
            row.push_bind(scope.tenant())
                .push_bind(e.envelope.as_bytes())
                .push_bind(e.mls_message)
                .push_bind(fence);
        });
        sql.push(" ON CONFLICT (tenant, envelope) DO NOTHING");
        sql.build().execute(&mut *conn).await?;
    }
    Ok(true)
}

/// An envelope's wraps, in its order; none once destroyed.
pub async fn load(
    reader: &Reader,
    scope: &Scope,
    envelope: &Digest,
) -> sqlx::Result<Vec<pb::Wrap>> {
    let mut found = load_all(reader, scope, &[*envelope]).await?;
    Ok(found.remove(envelope).unwrap_or_default())
}

/// As [`load`], of several envelopes; nothing stands for one without wraps.
pub async fn load_all(
    reader: &Reader,
    scope: &Scope,
    envelopes: &[Digest],
) -> sqlx::Result<HashMap<Digest, Vec<pb::Wrap>>> {
    type Row = (Vec<u8>, String, Vec<u8>, Vec<u8>);
    let mut found: HashMap<Digest, Vec<pb::Wrap>> = HashMap::new();
    for some in sql::groups(envelopes, |_| 0) {
        let mut sql =
            Builder::new("SELECT envelope, key_tenant, key_id, sealed FROM wraps WHERE tenant = ");
        sql.push_bind(scope.tenant())
            .push(" AND envelope IN ")
            .push_list(some.iter().map(Digest::as_bytes))
            .push(" ORDER BY envelope, position");
        let rows: Vec<Row> = sql.build_query_as().fetch_all(reader).await?;
        for (envelope, tenant, key_id, sealed) in rows {
            let wraps = found.entry(digest(&envelope)?).or_default();
            wraps.push(pb::Wrap {
                tenant,
                key_id,
                sealed,
            });
        }
    }
    Ok(found)
}

/// Whether any wrap of a journaling key is there. Asked when a key is retired, and at no other time: it reads the whole store.
pub async fn is_used(
    conn: impl Executor<'_>,
    scope: &Scope,
    key_id: &Digest,
) -> sqlx::Result<bool> {
    let found: Option<i64> =
        sql::query_scalar("SELECT 1 FROM wraps WHERE tenant = $1 AND key_id = $2 LIMIT 1")
            .bind(scope.tenant())
            .bind(key_id.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// The MLS message of an envelope; none once destroyed.
pub async fn mls_message(
    reader: &Reader,
    scope: &Scope,
    envelope: &Digest,
) -> sqlx::Result<Option<Vec<u8>>> {
    let mut found = mls_messages(reader, scope, &[*envelope]).await?;
    Ok(found.remove(envelope))
}

/// As [`mls_message`], of several envelopes.
pub async fn mls_messages(
    reader: &Reader,
    scope: &Scope,
    envelopes: &[Digest],
) -> sqlx::Result<HashMap<Digest, Vec<u8>>> {
    let mut found = HashMap::new();
    for some in sql::groups(envelopes, |_| 0) {
        let mut sql = Builder::new("SELECT envelope, message FROM mls_messages WHERE tenant = ");
        sql.push_bind(scope.tenant())
            .push(" AND envelope IN ")
            .push_list(some.iter().map(Digest::as_bytes));
        let rows: Vec<(Vec<u8>, Vec<u8>)> = sql.build_query_as().fetch_all(reader).await?;
        for (envelope, message) in rows {
            found.insert(digest(&envelope)?, message);
        }
    }
    Ok(found)
}

/// Destroys an envelope's wraps and MLS message: no query finds them again, and they are never stored anew.
/// [`greffe_service_kit::db::Database::scrub_deleted`] says what stays of the bytes, and for how long.
pub async fn destroy(
    conn: &mut Connection,
    scope: &Scope,
    envelope: &Digest,
    at: Millis,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO destroyed (tenant, envelope, destroyed_at, fence) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant, envelope) DO NOTHING",
    )
    .bind(scope.tenant())
    .bind(envelope.as_bytes().as_slice())
    .bind(int(at.get()))
    .bind(int(conn.epoch()))
    .execute(&mut *conn)
    .await?;
    for sql in [
        "DELETE FROM wraps WHERE tenant = $1 AND envelope = $2",
        "DELETE FROM mls_messages WHERE tenant = $1 AND envelope = $2",
    ] {
        sql::query(sql)
            .bind(scope.tenant())
            .bind(envelope.as_bytes().as_slice())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

//! ML-KEM ciphertexts that have been used, for ever.

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Executor};
use greffe_types::Digest;

use super::{Scope, digest, int};

/// A ciphertext under a journaling key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KemUse {
    /// Tenant of the journaling key.
    pub key_tenant: String,
    /// The journaling key.
    pub key_id: Vec<u8>,
    /// SHA-256 of the ML-KEM ciphertext.
    pub ciphertext: Digest,
}

/// The envelope that used a ciphertext, if any did.
pub async fn find(
    conn: impl Executor<'_>,
    scope: &Scope,
    used: &KemUse,
) -> sqlx::Result<Option<Digest>> {
    let envelope: Option<Vec<u8>> = sql::query_scalar(
        "SELECT envelope FROM kem_uses
         WHERE tenant = $1 AND key_tenant = $2 AND key_id = $3 AND ciphertext = $4",
    )
    .bind(scope.tenant())
    .bind(&used.key_tenant)
    .bind(&used.key_id)
    .bind(used.ciphertext.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    envelope.as_deref().map(digest).transpose()
}

/// Remembers a use. A second one, even by the same envelope, fails the transaction: the caller has looked first.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    used: &KemUse,
    envelope: &Digest,
) -> sqlx::Result<()> {
    sql::query(
        "INSERT INTO kem_uses (tenant, key_tenant, key_id, ciphertext, envelope, fence)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(scope.tenant())
    .bind(&used.key_tenant)
    .bind(&used.key_id)
    .bind(used.ciphertext.as_bytes().as_slice())
    .bind(envelope.as_bytes().as_slice())
    .bind(int(conn.epoch()))
    .execute(conn)
    .await?;
    Ok(())
}

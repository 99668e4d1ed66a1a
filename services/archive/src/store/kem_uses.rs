//! ML-KEM ciphertexts that have been used, for ever.

use std::collections::{BTreeMap, HashSet};

use greffe_service_kit::db::Connection;
use greffe_service_kit::db::sql::{self, Builder};
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

/// Which of these ciphertexts an envelope has used.
pub async fn used<'a>(
    conn: &mut Connection,
    scope: &Scope,
    uses: impl IntoIterator<Item = &'a KemUse>,
) -> sqlx::Result<HashSet<KemUse>> {
    let mut by_key: BTreeMap<(&str, &[u8]), Vec<Digest>> = BTreeMap::new();
    for used in uses {
        let ciphertexts = by_key.entry((&used.key_tenant, &used.key_id)).or_default();
        ciphertexts.push(used.ciphertext);
    }
    let mut found = HashSet::new();
    for ((key_tenant, key_id), ciphertexts) in by_key {
        for some in sql::groups(&ciphertexts, |_| 0) {
            let mut sql = Builder::new("SELECT ciphertext FROM kem_uses WHERE tenant = ");
            sql.push_bind(scope.tenant())
                .push(" AND key_tenant = ")
                .push_bind(key_tenant)
                .push(" AND key_id = ")
                .push_bind(key_id)
                .push(" AND ciphertext IN ")
                .push_list(some.iter().map(Digest::as_bytes));
            let rows: Vec<Vec<u8>> = sql.build_query_scalar().fetch_all(&mut *conn).await?;
            for row in rows {
                found.insert(KemUse {
                    key_tenant: key_tenant.to_owned(),
                    key_id: key_id.to_vec(),
                    ciphertext: digest(&row)?,
                });
            }
        }
    }
    Ok(found)
}

/// Remembers uses, each with its envelope. A second one, even by the same envelope, fails the transaction: the caller has looked
/// first.
pub async fn insert(
    conn: &mut Connection,
    scope: &Scope,
    uses: &[(&KemUse, &Digest)],
) -> sqlx::Result<()> {
    let fence = int(conn.epoch());
    for some in sql::groups(uses, |_| 0) {
        let mut sql = Builder::new(
            "INSERT INTO kem_uses (tenant, key_tenant, key_id, ciphertext, envelope, fence) ",
        );
        sql.push_values(some, |row, (used, envelope)| {
            row.push_bind(scope.tenant())
                .push_bind(&used.key_tenant)
                .push_bind(&used.key_id)
                .push_bind(used.ciphertext.as_bytes())
                .push_bind(envelope.as_bytes())
                .push_bind(fence);
        });
        sql.build().execute(&mut *conn).await?;
    }
    Ok(())
}

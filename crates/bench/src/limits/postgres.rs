//! A plain batched insert into PostgreSQL: one table, one connection, 100 rows a statement, each statement committed.

use std::time::Instant;

use anyhow::Result;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::BATCH;

/// Rows a second.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn insert(url: &str, payload: &[u8], count: usize) -> Result<f64> {
    let mut database = PgConnection::connect(url).await?;
    database.execute("DROP TABLE IF EXISTS plain").await?;
    database
        .execute("CREATE TABLE plain (conversation BYTEA, sequence BIGINT, payload BYTEA, PRIMARY KEY (conversation, sequence))")
        .await?;
    let conversations = vec![vec![1_u8; 16]; BATCH];
    let payloads = vec![payload.to_vec(); BATCH];
    let begun = Instant::now();
    let mut next = 0_i64;
    for _ in 0..count.div_ceil(BATCH) {
        let numbers: Vec<i64> = (next..next + BATCH as i64).collect();
        next += BATCH as i64;
        sqlx::query(
            "INSERT INTO plain SELECT * FROM UNNEST($1::bytea[], $2::bigint[], $3::bytea[])",
        )
        .bind(&conversations)
        .bind(&numbers)
        .bind(&payloads)
        .execute(&mut database)
        .await?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    database.execute("DROP TABLE plain").await?;
    database.close().await?;
    Ok(next as f64 / seconds)
}

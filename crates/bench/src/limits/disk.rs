//! One file that grows, made durable a batch at a time, with or without a hash of each piece; the hash of the same bytes.

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use super::BATCH;

/// Messages a second appended to one file with one fdatasync a batch.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn append(folder: &Path, payload: &[u8], count: usize) -> Result<f64> {
    let path = folder.join("appended");
    let mut file = File::create(&path)?;
    let batch = payload.repeat(BATCH);
    let begun = Instant::now();
    for _ in 0..count.div_ceil(BATCH) {
        file.write_all(&batch)?;
        file.sync_data()?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok((count.div_ceil(BATCH) * BATCH) as f64 / seconds)
}

/// Leaves a second hashed one by one and appended to one file with one fdatasync a batch.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn log(folder: &Path, leaf: &[u8], count: usize) -> Result<f64> {
    let path = folder.join("leaves");
    let mut file = File::create(&path)?;
    let mut batch = Vec::with_capacity(leaf.len() * BATCH);
    let begun = Instant::now();
    for _ in 0..count.div_ceil(BATCH) {
        batch.clear();
        for _ in 0..BATCH {
            black_box(Sha256::digest(black_box(leaf)));
            batch.extend_from_slice(leaf);
        }
        file.write_all(&batch)?;
        file.sync_data()?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok((count.div_ceil(BATCH) * BATCH) as f64 / seconds)
}

/// Messages a second hashed with SHA-256.
pub(crate) fn hash(payload: &[u8], count: usize) -> f64 {
    let begun = Instant::now();
    for _ in 0..count {
        black_box(Sha256::digest(black_box(payload)));
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

//! Writes a production: complete and signed, or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;

use ed25519_dalek::SigningKey;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_types::{ConversationId, Digest, Millis, to_hex};
use prost::Message as _;

use crate::error::WriteError;
use crate::evidence::{LogProof, Production};
use crate::layout;
use crate::manifest::{Manifest, sha256};
use crate::opened::Opened;
use crate::render;
use crate::zip;

/// Files of a folder that are made durable at a time.
const WRITERS: usize = 8;

/// Who hands the production over.
#[derive(Clone, Copy)]
pub struct Producer<'a> {
    /// The reader's name in the roster.
    pub name: &'a str,
    /// The reader's signing key.
    pub key: &'a SigningKey,
    /// When, by the reader's clock.
    pub at: Millis,
}

impl core::fmt::Debug for Producer<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Producer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Writes a production into a folder that does not exist yet. It appears under its name only when it is complete and
/// durable; an interrupted one leaves nothing but a folder beside it whose name begins with a dot.
///
/// # Errors
/// [`WriteError`]; the folder is not there then.
pub fn write(
    folder: &Path,
    production: Production,
    producer: Producer<'_>,
) -> Result<(), WriteError> {
    if folder.exists() {
        return Err(WriteError::Exists(folder.to_owned()));
    }
    place(folder, &assemble(production, producer)?, write_files)
}

/// As [`write()`], into one zip file. Its bytes follow from the production's files alone.
///
/// # Errors
/// [`WriteError`]; the file is not there then.
pub fn write_zip(
    file: &Path,
    production: Production,
    producer: Producer<'_>,
) -> Result<(), WriteError> {
    if file.exists() {
        return Err(WriteError::Exists(file.to_owned()));
    }
    place(file, &assemble(production, producer)?, |path, files| {
        zip::write(path, files).map_err(WriteError::io(path))
    })
}

/// Every file by path, signed.
fn assemble(
    mut production: Production,
    producer: Producer<'_>,
) -> Result<BTreeMap<String, Vec<u8>>, WriteError> {
    let records = open_all(&mut production)?;
    let invalid = |problem: String| WriteError::Record { record: 0, problem };
    let mut files = files(&production, &records).map_err(invalid)?;
    let manifest = Manifest::of(&files, render::version(&records)).encode();
    let order = production
        .order
        .order
        .as_ref()
        .map(|o| sha256(&o.statement));
    let statement = pb::ProductionStatement {
        tenant: records
            .first()
            .map(|r| r.receipt.tenant.clone())
            .unwrap_or_default(),
        reader: producer.name.to_owned(),
        order: order.unwrap_or_default().to_vec(),
        manifest: sha256(&manifest).to_vec(),
        records: records.len() as u64,
        at: producer.at.get(),
    };
    let statement = Signed::sign(statement, &[(producer.name, producer.key)]);
    files.insert(layout::MANIFEST.to_owned(), manifest);
    files.insert(
        layout::STATEMENT.to_owned(),
        statement.raw().encode_to_vec(),
    );
    Ok(files)
}

/// Sorts the records by conversation and number and opens each.
fn open_all(production: &mut Production) -> Result<Vec<Opened>, WriteError> {
    let mut opened = Vec::with_capacity(production.records.len());
    for (number, record) in (1..).zip(production.records.drain(..)) {
        let view = Opened::new(&record).map_err(|problem| WriteError::Record {
            record: number,
            problem,
        })?;
        opened.push((view, record));
    }
    opened.sort_by_key(|(view, _)| view.place());
    let (views, records) = opened.into_iter().unzip();
    production.records = records;
    Ok(views)
}

/// Every file but manifest and statement, by path; `records` are the production's, opened, in their order.
pub(crate) fn files(
    production: &Production,
    records: &[Opened],
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut files = render::all(production, records)?;
    let mut put = |path: String, bytes: Vec<u8>| files.insert(path, bytes);
    for raw in &production.bundles {
        let bundle = Signed::<pb::TrustBundle>::decode(raw.clone()).map_err(|e| e.to_string())?;
        put(layout::bundle(bundle.version), raw.encode_to_vec());
    }
    for raw in &production.disclosures {
        put(
            layout::disclosure(sha256(&raw.statement)),
            raw.encode_to_vec(),
        );
    }
    for raw in &production.ranges {
        let range = Signed::<pb::RangeStatement>::decode(raw.clone()).map_err(|e| e.to_string())?;
        let conversation =
            ConversationId::try_from(range.conversation.as_slice()).map_err(|e| e.to_string())?;
        put(
            layout::range(&conversation.to_string(), range.first),
            raw.encode_to_vec(),
        );
    }
    put(layout::ORDER.to_owned(), production.order.encode_to_vec());
    let mut digests: Vec<Digest> = records.iter().map(|r| r.envelope.digest()).collect();
    digests.sort();
    put(
        layout::ORDER_RECORDS.to_owned(),
        lines(digests.iter().map(ToString::to_string)),
    );
    put(
        layout::ORDER_LEAF.to_owned(),
        production.order_proof.leaf.clone(),
    );
    put(
        layout::ORDER_PATH.to_owned(),
        log_path(&production.order_proof),
    );
    put(layout::CHECKPOINT.to_owned(), production.checkpoint.clone());
    for (number, record) in (1..).zip(&production.records) {
        let parts: [Vec<u8>; 8] = [
            record.envelope.encode_to_vec(),
            record.certificate.encode_to_vec(),
            record.receipt.encode_to_vec(),
            path(
                record.batch_index,
                Some(record.batch_size),
                &record.batch_path,
            ),
            record.log.leaf.clone(),
            log_path(&record.log),
            record.ciphertext.clone(),
            lines([to_hex(&*record.key)].into_iter()),
        ];
        for (name, bytes) in layout::RECORD_FILES.into_iter().zip(parts) {
            put(layout::record(number, name), bytes);
        }
    }
    Ok(files)
}

fn lines(lines: impl Iterator<Item = String>) -> Vec<u8> {
    lines
        .fold(String::new(), |text, line| text + &line + "\n")
        .into_bytes()
}

fn log_path(proof: &LogProof) -> Vec<u8> {
    path(proof.index, None, &proof.path)
}

/// `index N`, `size N` where the tree is not the checkpoint's, then a hash a line, lowest first.
fn path(index: u64, size: Option<u64>, hashes: &[Digest]) -> Vec<u8> {
    let head = [format!("index {index}")].into_iter();
    let size = size.map(|size| format!("size {size}"));
    lines(
        head.chain(size)
            .chain(hashes.iter().map(ToString::to_string)),
    )
}

/// Writes beside, then gives it its name.
fn place(
    path: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    write: impl FnOnce(&Path, &BTreeMap<String, Vec<u8>>) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let staging = staging(path);
    if staging.exists() {
        remove(&staging).map_err(WriteError::io(&staging))?;
    }
    let written = write(&staging, files)
        .and_then(|()| fs::rename(&staging, path).map_err(WriteError::io(path)));
    if written.is_err() {
        // What is left would only take room; that it cannot be removed changes nothing about the error.
        let _ = remove(&staging);
    }
    written?;
    let parent = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    fs::File::open(parent)
        .and_then(|f| f.sync_all())
        .map_err(WriteError::io(parent))
}

/// An earlier attempt's leavings, whichever of the two it was to become.
fn remove(staging: &Path) -> std::io::Result<()> {
    if staging.is_dir() {
        fs::remove_dir_all(staging)
    } else {
        fs::remove_file(staging)
    }
}

fn staging(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

fn write_files(staging: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), WriteError> {
    let mut folders = std::collections::BTreeSet::from([staging.to_owned()]);
    make_folder(staging)?;
    let mut all = Vec::with_capacity(files.len());
    for (path, bytes) in files {
        let path = staging.join(path);
        if let Some(parent) = path.parent() {
            make_folder(parent)?;
            folders.extend(
                parent
                    .ancestors()
                    .take_while(|p| p.starts_with(staging))
                    .map(Path::to_owned),
            );
        }
        all.push((path, bytes.as_slice()));
    }
    // An fsync waits for the disk, and a disk makes what several wait for durable together.
    thread::scope(|scope| {
        let shares = all.chunks(all.len().div_ceil(WRITERS).max(1));
        let writers: Vec<_> = shares
            .map(|share| scope.spawn(|| share.iter().try_for_each(write_file)))
            .collect();
        writers.into_iter().try_for_each(|writer| {
            writer
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    for folder in folders {
        fs::File::open(&folder)
            .and_then(|f| f.sync_all())
            .map_err(WriteError::io(&folder))?;
    }
    Ok(())
}

fn write_file((path, bytes): &(PathBuf, &[u8])) -> Result<(), WriteError> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(WriteError::io(path))
}

/// For its owner alone: what was opened, and the keys to it, are nobody else's on this machine.
fn make_folder(path: &Path) -> Result<(), WriteError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(WriteError::io(path))
}

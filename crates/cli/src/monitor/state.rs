//! What a monitor has seen, in a folder of its own: replaced as a whole, so that a restart goes on where it was.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use greffe_envelope::trust::RootKey;
use greffe_tlog::{Checkpoint, Note, Tree, TreeHead};
use greffe_types::{Digest, Millis};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::book::{Book, Kept};
use crate::fail::{Failure, Result};
use crate::layout::{private_folder, write_whole};

const FORMAT: &str = "greffe-log-watch-v1";
const FILE: &str = "watch.json";
const EVIDENCE: &str = "evidence";
/// Beside the rest, since it is written after each look.
const FRESH: &str = "fresh";

/// As it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: String,
    /// The root's line: what was seen of one tenant's log says nothing about another's.
    root: String,
    /// Entries read.
    size: u64,
    /// The right edge of the tree over them.
    peaks: Vec<Digest>,
    /// The newest checkpoint that was believed; it covers at least the entries read.
    checkpoint: Option<String>,
    kept: Kept,
}

/// What has been seen.
#[derive(Debug)]
pub(super) struct State {
    folder: PathBuf,
    root: String,
    /// Over the entries read.
    pub(super) tree: Tree,
    /// What they say.
    pub(super) book: Book,
    /// The newest checkpoint that was believed, and what it says.
    pub(super) seen: Option<(Vec<u8>, TreeHead)>,
    _turn: Flock<File>,
}

impl State {
    /// Opens a folder, which is made when it is not there.
    ///
    /// # Errors
    /// When another monitor uses it, or what is in it cannot be gone on from.
    pub(super) fn open(folder: &Path, root: &RootKey) -> Result<Self> {
        private_folder(folder)?;
        let turn = turn(folder)?;
        let path = folder.join(FILE);
        let stored = match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::io("read", &path, &error)),
        };
        let unusable = |problem: String| {
            Failure::failed(
                "WATCH_STATE",
                format_args!(
                    "{} cannot be gone on from: {problem}; restore it, or begin anew in another folder, and keep this one: it may be evidence",
                    path.display()
                ),
            )
        };
        let root_line = root.to_string();
        let (tree, kept, seen) = match stored {
            None => (Tree::new(), Kept::default(), None),
            Some(bytes) => decode(&bytes, &root_line).map_err(unusable)?,
        };
        Ok(Self {
            folder: folder.to_owned(),
            root: root_line,
            tree,
            book: Book::new(root.clone(), kept).map_err(unusable)?,
            seen,
            _turn: turn,
        })
    }

    /// Makes durable what was seen so far.
    ///
    /// # Errors
    /// When the file cannot be written; the one before is still there then.
    pub(super) fn store(&self) -> Result<()> {
        let stored = Stored {
            format: FORMAT.to_owned(),
            root: self.root.clone(),
            size: self.tree.size(),
            peaks: self.tree.peaks().to_vec(),
            checkpoint: self
                .seen
                .as_ref()
                .map(|(note, _)| String::from_utf8_lossy(note).into_owned()),
            kept: self.book.kept().clone(),
        };
        let bytes = serde_json::to_vec(&stored)
            .map_err(|error| Failure::because("WATCH_STATE", "what was seen", &error))?;
        write_whole(&self.folder.join(FILE), &bytes)
    }

    /// When the newest checkpoint was last recent, by this machine's clock; before the first that is when the monitor began.
    ///
    /// # Errors
    /// When the file cannot be gone on from.
    pub(super) fn fresh(&self, began: Millis) -> Result<Millis> {
        let path = self.folder.join(FRESH);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(began),
            Err(error) => return Err(Failure::io("read", &path, &error)),
        };
        let at = text.trim().parse::<u64>().map(Millis::new);
        at.map(|at| at.min(began)).map_err(|error| {
            Failure::failed(
                "WATCH_STATE",
                format_args!(
                    "{} has no time in milliseconds ({error}): remove it, and the log is taken to have been recent when the monitor \
                     begins",
                    path.display()
                ),
            )
        })
    }

    /// Makes durable when that was: a log that is silent over a restart is as stale as before.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn store_fresh(&self, at: Millis) -> Result<()> {
        write_whole(
            &self.folder.join(FRESH),
            format!("{}\n", at.get()).as_bytes(),
        )
    }

    /// Keeps a note for others to judge, under a name that says what it is of; gives where.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn keep(&self, note: &[u8]) -> Result<PathBuf> {
        let folder = self.folder.join(EVIDENCE);
        private_folder(&folder)?;
        // The digest is that of the whole note: one checkpoint with other cosignatures is another piece of evidence.
        let digest = greffe_envelope::label::sha256(note).to_string();
        let name = match claimed(note) {
            Some(head) => format!("{:012}-{}.note", head.size, &digest[..16]),
            None => format!("{}.note", &digest[..16]),
        };
        let path = folder.join(name);
        write_whole(&path, note)?;
        Ok(path)
    }
}

/// What a note says, whoever signed it.
pub(super) fn claimed(note: &[u8]) -> Option<TreeHead> {
    let note = Note::parse(note).ok()?;
    Some(Checkpoint::parse_body(note.text()).ok()?.head())
}

type Decoded = (Tree, Kept, Option<(Vec<u8>, TreeHead)>);

fn decode(bytes: &[u8], root: &str) -> core::result::Result<Decoded, String> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if stored.format != FORMAT {
        return Err(format!("its format is {:?}, not {FORMAT}", stored.format));
    }
    if stored.root != root {
        return Err("it is about the log of another tenant or root".to_owned());
    }
    let tree =
        Tree::from_peaks(stored.size, stored.peaks).ok_or("its hashes are not its size's")?;
    let seen = match stored.checkpoint {
        None => None,
        Some(note) => {
            let head = claimed(note.as_bytes()).ok_or("its checkpoint is none")?;
            Some((note.into_bytes(), head))
        }
    };
    let head = seen
        .as_ref()
        .map_or_else(TreeHead::empty, |(_, head)| *head);
    if head.size < tree.size() || (head.size == tree.size() && head != tree.head()) {
        return Err("its hashes are not those of its checkpoint".to_owned());
    }
    Ok((tree, stored.kept, seen))
}

/// One monitor at a time: two would each forget what the other has seen.
fn turn(folder: &Path) -> Result<Flock<File>> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|error| Failure::io("open", &path, &error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        Failure::refused(
            "WATCH_RUNNING",
            format_args!(
                "another `greffe log watch` uses {}: end it, or name another folder with --state",
                folder.display()
            ),
        )
    })
}

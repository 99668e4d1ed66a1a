//! The start: every stored leaf is hashed again, the tree compared with what was signed, and missing tiles are written.

use std::sync::Arc;

use greffe_envelope::pb::{self, log_entry::Event};
use greffe_service_kit::boot::SharedTrust;
use greffe_service_kit::db::Database;
use greffe_service_kit::files::FileError;
use greffe_tlog::{
    Checkpoint, CheckpointError, Node, Note, NoteError, NoteSigner, NoteVerifier, SignedCheckpoint,
    TILE_WIDTH, Tile, TileError, Tree, TreeHead, encode_bundle, encode_hashes, new_tiles,
};
use greffe_types::{Digest, Millis};
use prost::Message as _;

use crate::checkpointer::{apply, cosigners, quorum_time};
use crate::grow::Log;
use crate::state::{LOG_BEHIND_CHECKPOINT, LOG_DAMAGED, Published};
use crate::store::{self, Kind, Leaf, StoreError};
use crate::tiles::Tiles;

/// Why the log does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// Fewer leaves than were signed or published.
    #[error(
        "{LOG_BEHIND_CHECKPOINT}: the database has {found} leaves and a checkpoint over {signed} was signed: it was restored \
         from an old copy; restore the newest copy of the whole data folder"
    )]
    Behind {
        /// Leaves in the database.
        found: u64,
        /// Leaves of the checkpoint.
        signed: u64,
    },
    /// The leaves do not have the root that was signed.
    #[error("{LOG_DAMAGED}: the {0} stored leaves do not have the root that was signed for them")]
    Root(u64),
    /// A stored leaf or the database is damaged.
    #[error("{LOG_DAMAGED}: reading the stored leaves")]
    Store(#[from] StoreError),
    /// A tile contradicts the leaves.
    #[error(
        "{LOG_DAMAGED}: a tile is not that of the stored leaves; restore it from a copy, or remove it to have it rewritten"
    )]
    Contradiction(#[source] FileError),
    /// A tile cannot be written.
    #[error("writing the log's files")]
    File(#[source] FileError),
    /// The file `checkpoint` cannot be read.
    #[error("reading the published checkpoint")]
    Read(#[from] std::io::Error),
    /// A kept checkpoint is not one that this log signed.
    #[error("{LOG_DAMAGED}: a kept checkpoint is not one of this log")]
    Checkpoint(#[from] CheckpointError),
    /// The first checkpoint cannot be made.
    #[error("signing the empty log")]
    Note(#[from] NoteError),
    /// A leaf is longer than a bundle can hold.
    #[error("encoding a bundle of stored leaves")]
    Tile(#[from] TileError),
    /// A blocking task ended early.
    #[error("a blocking task ended early")]
    Join(#[from] tokio::task::JoinError),
}

impl From<sqlx::Error> for LoadError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<FileError> for LoadError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Conflict { .. } => Self::Contradiction(error),
            other => Self::File(other),
        }
    }
}

/// The log as it was found.
pub(crate) struct Loaded {
    pub(crate) log: Log,
    pub(crate) signed: SignedCheckpoint,
    pub(crate) published: Option<Arc<Published>>,
    /// Statements that no published checkpoint covers yet.
    pub(crate) statements: Vec<(u64, pb::SignedStatement)>,
}

/// Loads and verifies the log; takes the statements that are published into `trust`.
pub(crate) async fn load(
    db: &Database,
    tiles: Tiles,
    signer: NoteSigner,
    trust: &SharedTrust,
) -> Result<Loaded, LoadError> {
    let verifier = signer.verifier();
    let signed = match store::checkpoint(db.read(), Kind::Signed).await? {
        Some(note) => SignedCheckpoint::open(&note, &verifier)?,
        None => sign_empty(&signer, &verifier)?,
    };
    let published = match store::checkpoint(db.read(), Kind::Published).await? {
        Some(note) => Some(SignedCheckpoint::open(&note, &verifier)?),
        None => None,
    };
    let size = signed.head().size;
    // The file may come from a newer copy than the database.
    let shown = match tiles.checkpoint()? {
        Some(note) => SignedCheckpoint::open(&note, &verifier)?.head().size,
        None => 0,
    };
    let found = store::count(db.read()).await?;
    if found < size || size < shown {
        return Err(LoadError::Behind {
            found: found.min(size),
            signed: size.max(shown),
        });
    }
    let covered = published.as_ref().map_or(0, |note| note.head().size);
    let (tree, statements) = rebuild(db, &tiles, size).await?;
    if tree.head() != signed.head() {
        return Err(LoadError::Root(size));
    }
    let (now, later): (Vec<_>, Vec<_>) = statements
        .into_iter()
        .partition(|(index, _)| *index < covered);
    apply(trust, &now);
    let published = published.map(|checkpoint| Arc::new(publication(checkpoint, trust)));
    Ok(Loaded {
        log: Log::new(tiles, signer, tree),
        signed,
        published,
        statements: later,
    })
}

/// What is published of a log without leaves: witnesses who know more than that will say so.
fn sign_empty(signer: &NoteSigner, verifier: &NoteVerifier) -> Result<SignedCheckpoint, LoadError> {
    let checkpoint = Checkpoint::new(verifier.name(), TreeHead::empty(), Vec::new())?;
    let mut note = Note::new(checkpoint.body())?;
    note.sign(signer);
    Ok(SignedCheckpoint::open(&note.encode(), verifier)?)
}

fn publication(checkpoint: SignedCheckpoint, trust: &SharedTrust) -> Published {
    let bundle = trust.read().bundle().clone();
    let required = bundle.message().cosigner_quorum as usize;
    // Witnesses may have changed since: then it is of no time that could count as recent.
    let as_of = quorum_time(cosigners(&bundle), required, &checkpoint);
    Published {
        checkpoint,
        as_of: as_of.unwrap_or(Millis::new(0)),
        asked: None,
    }
}

type Statements = Vec<(u64, pb::SignedStatement)>;

/// Hashes every leaf up to `size` and makes sure of every tile.
async fn rebuild(db: &Database, tiles: &Tiles, size: u64) -> Result<(Tree, Statements), LoadError> {
    let (mut tree, mut statements, mut upper) = (Tree::new(), Vec::new(), Vec::new());
    while tree.size() < size {
        let start = tree.size();
        let end = (start + TILE_WIDTH).min(size);
        let leaves = store::leaves(db.read(), start, end, usize::MAX).await?;
        if leaves.len() as u64 != end - start {
            return Err(StoreError::Damaged(start + leaves.len() as u64).into());
        }
        let hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf.hash).collect();
        let finished = tree.append(&hashes);
        upper.extend(
            finished
                .into_iter()
                .filter(|(node, _)| node.level > 0 && node.level.is_multiple_of(8)),
        );
        statements.extend(leaves.iter().filter_map(trusted_statement));
        let tiles = tiles.clone();
        greffe_service_kit::blocking(move || {
            let (index, width) = (start / TILE_WIDTH, leaves.len() as u16);
            let entries: Vec<&[u8]> = leaves.iter().map(|leaf| leaf.bytes.as_slice()).collect();
            tiles.ensure(&[
                (Tile::hashes(0, index, width)?, encode_hashes(&hashes)),
                (Tile::entries(index, width)?, encode_bundle(&entries)?),
            ])?;
            Ok::<_, LoadError>(())
        })
        .await??;
    }
    let upper_tiles: Vec<_> = new_tiles(0, size)
        .into_iter()
        .filter(|tile| tile.level() > Some(0))
        .map(|tile| (tile, encode_hashes(&hashes_of(&tile, &upper))))
        .collect();
    let tiles = tiles.clone();
    greffe_service_kit::blocking(move || tiles.ensure(&upper_tiles)).await??;
    Ok((tree, statements))
}

/// The nodes that a tile above the leaves holds.
fn hashes_of(tile: &Tile, finished: &[(Node, Digest)]) -> Vec<Digest> {
    let level = tile.level().unwrap_or_default() * 8;
    let range = tile.start()..tile.start() + u64::from(tile.width());
    finished
        .iter()
        .filter(|(node, _)| node.level == level && range.contains(&node.index))
        .map(|(_, hash)| *hash)
        .collect()
}

/// A leaf's statement, if it is of a kind that trust is made of.
pub(crate) fn trusted_statement(leaf: &Leaf) -> Option<(u64, pb::SignedStatement)> {
    let entry = pb::LogEntry::decode(leaf.bytes.as_slice()).ok()?;
    match entry.event? {
        Event::Statement(statement)
            if matches!(
                statement.r#type.as_str(),
                "trust-bundle" | "key-record" | "share-epoch" | "disclosure"
            ) =>
        {
            Some((leaf.index, statement))
        }
        _ => None,
    }
}

//! What callers can do with the log: append, and read what a published checkpoint covers.

use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use greffe_service_kit::blocking;
use greffe_service_kit::clock::SharedClock;
use greffe_service_kit::db::Database;
use greffe_service_kit::db::group::{GroupError, GroupHandle};
use greffe_service_kit::errors::{Reason, ServiceError};
use greffe_tlog::{
    HashReader, ProofError, ProveError, TILE_WIDTH, Tile, TreeHead, leaf_hash, prove_consistency,
    prove_inclusion, root_at, verify_consistency, verify_inclusion,
};
use greffe_types::Digest;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::Code;

use crate::checkpointer::Wakers;
use crate::entry::{EntryRefused, Proposed};
use crate::sequencer::{Appended, Sequencer};
use crate::state::{LOG_DAMAGED, Published, State};
use crate::store::{self, Leaf, StoreError};
use crate::tiles::{TileReadError, Tiles};

/// No such leaf under the checkpoint.
pub const LEAF_NOT_FOUND: Reason = Reason::new("LEAF_NOT_FOUND");
/// No such tile under the checkpoint.
pub const TILE_NOT_FOUND: Reason = Reason::new("TILE_NOT_FOUND");
/// The size asked for is larger than that of the newest checkpoint.
pub const SIZE_NOT_PUBLISHED: Reason = Reason::new("SIZE_NOT_PUBLISHED");
/// A field of the request is malformed.
pub const REQUEST_INVALID: Reason = Reason::new("REQUEST_INVALID");
/// No quorum of witnesses cosigned in time.
pub const NOT_COSIGNED: Reason = Reason::new("NOT_COSIGNED");

/// Most bytes of leaves in one answer: with everything around them it stays below 4 MiB.
const MOST_BYTES: usize = 3 << 20;
/// Cosignatures are dated to the second: nothing younger than this can be told apart.
const FRESHEST: Duration = Duration::from_secs(2);
/// Pause before a full queue is tried again.
const QUEUE_PAUSE: Duration = Duration::from_millis(20);

/// A leaf and where it stands.
#[derive(Debug)]
pub(crate) struct Inclusion {
    pub(crate) leaf: Leaf,
    pub(crate) size: u64,
    pub(crate) path: Vec<Digest>,
}

/// How a leaf is named.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LeafName {
    Index(u64),
    Hash(Digest),
}

/// The log as its callers use it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) db: Database,
    pub(crate) group: GroupHandle<Sequencer>,
    pub(crate) tiles: Tiles,
    pub(crate) state: watch::Receiver<State>,
    pub(crate) wakers: Arc<Wakers>,
    pub(crate) clock: SharedClock,
    pub(crate) wait: Duration,
}

impl App {
    /// Sequences an entry; it is on disk when this returns. A full queue makes its caller wait.
    pub(crate) async fn append(
        &self,
        proposed: Proposed,
    ) -> Result<Result<Appended, EntryRefused>, ServiceError> {
        let mut proposed = proposed;
        loop {
            self.not_halted()?;
            let kept = proposed.clone();
            match self.group.submit(proposed).await {
                Err(GroupError::Overloaded) => sleep(QUEUE_PAUSE).await,
                answer => return answer.map_err(ServiceError::from),
            }
            proposed = kept;
        }
    }

    /// The newest checkpoint, once it covers `size` leaves and is no older than `age` (0 for any).
    pub(crate) async fn checkpoint(
        &self,
        size: u64,
        age: Duration,
    ) -> Result<Arc<Published>, ServiceError> {
        let mut state = self.state.clone();
        let asked = Instant::now();
        let recent = |published: &Published| {
            let limit = age.max(FRESHEST);
            age.is_zero()
                || published.as_of >= self.clock.now().minus(limit)
                || published.asked.is_some_and(|when| when >= asked)
        };
        let fits = |state: &State| {
            let published = state.published.as_ref()?;
            (published.head().size >= size && recent(published)).then(|| published.clone())
        };
        if let Some(published) = fits(&state.borrow()) {
            return Ok(published);
        }
        if !age.is_zero() {
            self.wakers.refresh.notify_one();
        }
        let waited = timeout(
            self.wait,
            state.wait_for(|state| state.halted.is_some() || fits(state).is_some()),
        );
        let found = match waited.await {
            Ok(Ok(state)) => fits(&state),
            Ok(Err(_)) | Err(_) => None,
        };
        self.not_halted()?;
        found.ok_or_else(|| {
            ServiceError::new(
                Code::Unavailable,
                NOT_COSIGNED,
                "no such checkpoint was cosigned in time: are enough witnesses running, and is the log that long?",
            )
            .retry_after(Duration::from_secs(1))
        })
    }

    /// The newest published checkpoint, of whatever age.
    pub(crate) fn published(&self) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        let published = state.published.as_ref()?;
        Some(published.checkpoint.encode())
    }

    /// A leaf with its path under the tree of `size` leaves; 0 is the published size.
    pub(crate) async fn inclusion(
        &self,
        name: LeafName,
        size: u64,
    ) -> Result<Inclusion, ServiceError> {
        let published = self.state.borrow().size();
        let size = if size == 0 { published } else { size };
        within(size, published)?;
        let index = match name {
            LeafName::Index(index) => index,
            LeafName::Hash(hash) => store::by_hash(self.db.read(), &hash)
                .await?
                .ok_or_else(leaf_not_found)?,
        };
        if index >= size {
            return Err(leaf_not_found());
        }
        let leaves = store::leaves(self.db.read(), index, index + 1, MOST_BYTES).await?;
        let leaf = leaves.into_iter().next().ok_or_else(leaf_not_found)?;
        let (tiles, hash) = (self.tiles.clone(), leaf_hash(&leaf.bytes));
        let path = blocking(move || {
            let reader = tiles.reader(published);
            let path = prove_inclusion(index, size, &reader)?;
            let head = head_at(size, &reader)?;
            // A proof from a damaged tile must not leave: its receiver could only say that the log lies.
            verify_inclusion(&hash, index, &head, &path)?;
            Ok::<_, ReadFailed>(path)
        })
        .await
        .map_err(ReadFailed::from)??;
        Ok(Inclusion { leaf, size, path })
    }

    /// The proof that the tree of `new` leaves continues that of `old`.
    pub(crate) async fn consistency(
        &self,
        old: u64,
        new: u64,
    ) -> Result<Vec<Digest>, ServiceError> {
        let published = self.state.borrow().size();
        within(new, published)?;
        if old > new {
            return Err(invalid("old_size is larger than new_size"));
        }
        let tiles = self.tiles.clone();
        let proof = blocking(move || {
            let reader = tiles.reader(published);
            let proof = prove_consistency(old, new, &reader)?;
            let (old, new) = (head_at(old, &reader)?, head_at(new, &reader)?);
            verify_consistency(&old, &new, &proof)?;
            Ok::<_, ReadFailed>(proof)
        })
        .await
        .map_err(ReadFailed::from)??;
        Ok(proof)
    }

    /// Published leaves from `start` on, at most `count`; fewer when they are many bytes, none at the log's end.
    pub(crate) async fn entries(&self, start: u64, count: u64) -> Result<Vec<Leaf>, ServiceError> {
        let end = start.saturating_add(count).min(self.state.borrow().size());
        if start >= end {
            return Ok(Vec::new());
        }
        Ok(store::leaves(self.db.read(), start, end, MOST_BYTES).await?)
    }

    /// A tile's bytes.
    pub(crate) async fn tile(&self, path: &str) -> Result<Vec<u8>, ServiceError> {
        let tile: Tile = path
            .parse()
            .map_err(|_| invalid("path is not that of a tile, such as tile/0/x001/067"))?;
        let level = 8 * tile.level().unwrap_or_default();
        let end = u128::from(tile.index() * TILE_WIDTH + u64::from(tile.width())) << level;
        if end > u128::from(self.state.borrow().size()) {
            return Err(tile_not_found());
        }
        let tiles = self.tiles.clone();
        blocking(move || tiles.read(&tile))
            .await
            .map_err(ReadFailed::from)?
            .map_err(|error| match error {
                // A partial one, once there is more of it.
                TileReadError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                    tile_not_found()
                }
                error => damaged().because(error),
            })
    }

    fn not_halted(&self) -> Result<(), ServiceError> {
        match &self.state.borrow().halted {
            Some(halted) => Err(halted.as_ref().into()),
            None => Ok(()),
        }
    }
}

fn head_at<R: HashReader>(size: u64, reader: &R) -> Result<TreeHead, ProveError<R::Error>> {
    Ok(TreeHead {
        size,
        root: root_at(size, reader)?,
    })
}

fn within(size: u64, published: u64) -> Result<(), ServiceError> {
    if size <= published {
        return Ok(());
    }
    Err(ServiceError::new(
        Code::OutOfRange,
        SIZE_NOT_PUBLISHED,
        "the size is larger than the newest checkpoint's: ask for that one first",
    )
    .with("size", published))
}

fn leaf_not_found() -> ServiceError {
    ServiceError::new(
        Code::NotFound,
        LEAF_NOT_FOUND,
        "no such leaf in a tree of that size",
    )
}

fn tile_not_found() -> ServiceError {
    ServiceError::new(
        Code::NotFound,
        TILE_NOT_FOUND,
        "no such tile under the newest checkpoint, or a fuller one has replaced it",
    )
}

pub(crate) fn invalid(message: &'static str) -> ServiceError {
    ServiceError::new(Code::InvalidArgument, REQUEST_INVALID, message)
}

/// Why a proof could not be read from the files.
#[derive(Debug, thiserror::Error)]
enum ReadFailed {
    #[error("tiles")]
    Prove(#[from] ProveError<TileReadError>),
    #[error("a proof made from the tiles does not verify")]
    False(#[from] ProofError),
    #[error("a blocking task ended early")]
    Join(#[from] tokio::task::JoinError),
}

impl From<ReadFailed> for ServiceError {
    fn from(error: ReadFailed) -> Self {
        damaged().because(error)
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(error) => error.into(),
            StoreError::Damaged(_) => damaged().because(error),
        }
    }
}

pub(crate) fn damaged() -> ServiceError {
    ServiceError::new(
        Code::DataLoss,
        LOG_DAMAGED,
        "what is stored contradicts itself; it is not served",
    )
}

//! The log as files: tiles, entry bundles and `checkpoint` in the C2SP tlog-tiles layout, and the tree's hashes read from them.
//!
//! Everything here blocks. Files are derived from the database: what is missing is written anew at the next start.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use greffe_service_kit::files::{FileError, replace, write_once_all};
use greffe_tlog::{
    HashReader, Node, TILE_WIDTH, Tile, TileError, decode_hashes, new_bundles, new_tiles, node_hash,
};
use greffe_types::Digest;

/// Name of the file with the newest published checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// Why a tile could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TileReadError {
    /// No tree of that size has it.
    #[error("no tree has this tile")]
    Coordinates(#[source] TileError),
    /// The file cannot be read.
    #[error("the tile {tile} cannot be read")]
    Read {
        /// Which.
        tile: String,
        /// As the system reported it.
        source: io::Error,
    },
    /// The file does not hold what a tile of its name does.
    #[error("the tile {tile} is damaged")]
    Content {
        /// Which.
        tile: String,
        /// Why.
        source: TileError,
    },
}

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Tiles {
    root: PathBuf,
}

impl Tiles {
    /// Opens the folder, which is made when it is not there.
    ///
    /// # Errors
    /// As the system reports it.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root.join("tile"))?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Where a tile is.
    pub(crate) fn path(&self, tile: &Tile) -> PathBuf {
        self.root.join(tile.to_string())
    }

    /// Reads a tile's bytes as they are.
    ///
    /// # Errors
    /// [`TileReadError::Read`].
    pub(crate) fn read(&self, tile: &Tile) -> Result<Vec<u8>, TileReadError> {
        fs::read(self.path(tile)).map_err(|source| TileReadError::Read {
            tile: tile.to_string(),
            source,
        })
    }

    /// Reads a tile of hashes. A partial one that has been replaced by the full one is read from that.
    ///
    /// # Errors
    /// [`TileReadError`].
    pub(crate) fn hashes(&self, tile: &Tile) -> Result<Vec<Digest>, TileReadError> {
        let content = |source| TileReadError::Content {
            tile: tile.to_string(),
            source,
        };
        match self.read(tile) {
            Ok(bytes) => decode_hashes(&bytes, tile.width()).map_err(content),
            Err(error) if tile.is_partial() => {
                let Ok(bytes) = self.read(&tile.full().map_err(TileReadError::Coordinates)?) else {
                    return Err(error);
                };
                let mut hashes = decode_hashes(&bytes, TILE_WIDTH as u16).map_err(content)?;
                hashes.truncate(usize::from(tile.width()));
                Ok(hashes)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes sure that these tiles are there with these bytes, and durable.
    ///
    /// # Errors
    /// [`FileError::Conflict`] when one is there with other bytes: either it or the database is damaged.
    pub(crate) fn ensure(&self, tiles: &[(Tile, Vec<u8>)]) -> Result<(), FileError> {
        let mut missing = Vec::new();
        for (tile, bytes) in tiles {
            let path = self.path(tile);
            match fs::read(&path) {
                Ok(found) if found == *bytes => {}
                Ok(_) => return Err(FileError::Conflict { path }),
                Err(_) => {
                    if let Some(folder) = path.parent() {
                        fs::create_dir_all(folder).map_err(|source| FileError::Io {
                            operation: "make the folder",
                            path: folder.to_owned(),
                            source,
                        })?;
                    }
                    missing.push((path, bytes.as_slice()));
                }
            }
        }
        write_once_all(&missing).map(drop)
    }

    /// Removes the partial forms of tiles that have become full between two published sizes.
    pub(crate) fn remove_superseded(&self, old: u64, new: u64) {
        let grown = new_tiles(old, new).into_iter().chain(new_bundles(old, new));
        for tile in grown.filter(|tile| !tile.is_partial()) {
            let folder = self.root.join(format!("{tile}.p"));
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, folder = %folder.display(), "superseded partial tiles stay");
                }
                _ => {}
            }
        }
    }

    /// The published checkpoint's file, if any.
    pub(crate) fn checkpoint(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.root.join(CHECKPOINT)) {
            Ok(note) => Ok(Some(note)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the published checkpoint's file.
    pub(crate) fn put_checkpoint(&self, note: &[u8]) -> Result<(), FileError> {
        replace(&self.root.join(CHECKPOINT), note)
    }

    /// The hashes of the tree of `size` leaves, whose tiles have been written.
    pub(crate) fn reader(&self, size: u64) -> DiskHashes<'_> {
        DiskHashes {
            tiles: self,
            size,
            read: RefCell::default(),
        }
    }
}

/// Hashes of a tree's complete subtrees, computed from the tiles on disk and nothing else.
#[derive(Debug)]
pub(crate) struct DiskHashes<'a> {
    tiles: &'a Tiles,
    size: u64,
    read: RefCell<BTreeMap<(u8, u64), Vec<Digest>>>,
}

impl DiskHashes<'_> {
    fn node(&self, node: Node) -> Result<Digest, TileReadError> {
        let (level, height) = (node.level / 8, node.level % 8);
        let first = node.index << height;
        let (index, offset) = (first / TILE_WIDTH, (first % TILE_WIDTH) as usize);
        let mut read = self.read.borrow_mut();
        let hashes = match read.entry((level, index)) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let held = (self.size >> (8 * level)).saturating_sub(index * TILE_WIDTH);
                let width = held.min(TILE_WIDTH) as u16;
                let tile = Tile::hashes(level, index, width).map_err(TileReadError::Coordinates)?;
                place.insert(self.tiles.hashes(&tile)?)
            }
        };
        let leaves = hashes
            .get(offset..offset + (1 << height))
            .ok_or(TileReadError::Coordinates(TileError::Coordinates))?;
        Ok(subtree_root(leaves))
    }
}

impl HashReader for DiskHashes<'_> {
    type Error = TileReadError;

    fn read_hashes(&self, nodes: &[Node]) -> Result<Vec<Digest>, TileReadError> {
        nodes.iter().map(|node| self.node(*node)).collect()
    }
}

/// The root over a power of two of hashes.
pub(crate) fn subtree_root(hashes: &[Digest]) -> Digest {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node_hash(left, right),
                odd => odd[0],
            })
            .collect();
    }
    level.first().copied().unwrap_or_default()
}

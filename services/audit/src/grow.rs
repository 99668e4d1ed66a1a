//! From stored leaves to a signed checkpoint: the tree in memory and the tiles on disk have to agree before anything is signed.
//!
//! [`Log::draft`] extends the tree in memory and writes tiles; [`Log::sign`] computes the root again from what it reads
//! back, checks that the new tree continues the signed one, and compares the text that is about to be signed. A bit that
//! flipped in a leaf, a tile or memory makes these differ, and then nothing is signed (LOG_DAMAGED).

use greffe_service_kit::files::FileError;
use greffe_tlog::{
    Checkpoint, CheckpointError, Node, Note, NoteError, NoteSigner, NoteVerifier, ProofError,
    ProveError, SignedCheckpoint, TILE_WIDTH, Tile, TileError, Tree, TreeHead, decode_bundle,
    encode_bundle, encode_hashes, leaf_hash, new_bundles, new_tiles, prove_consistency, root_at,
    verify_consistency,
};
use greffe_types::Digest;

use crate::store::Leaf;
use crate::tiles::{TileReadError, Tiles, subtree_root};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrowError {
    /// Leaves do not continue the tree, or contradict their hashes.
    #[error("leaf {0} is not what was stored")]
    Leaf(u64),
    /// A tile says something else than the leaves.
    #[error("the tile {0} contradicts the leaves")]
    Tile(String),
    /// Tiles and tree in memory have different roots.
    #[error("the tiles do not have the root of the tree in memory")]
    Root,
    /// The text that was about to be signed is not that of the verified tree.
    #[error("the checkpoint's text is not that of the verified tree")]
    Text,
    /// The new tree does not continue the signed one.
    #[error("the tree does not continue what was signed")]
    Inconsistent(#[source] ProofError),
    /// Tiles cannot be read back.
    #[error("reading tiles back")]
    Read(#[from] TileReadError),
    /// A proof could not be made from the tiles.
    #[error("computing hashes from tiles")]
    Prove(#[from] ProveError<TileReadError>),
    /// Tiles cannot be written.
    #[error("writing tiles")]
    Write(#[source] FileError),
    /// A bundle or tile does not hold what it has to.
    #[error("encoding a tile")]
    Encoding(#[from] TileError),
    /// The checkpoint itself.
    #[error("making the checkpoint")]
    Checkpoint(#[from] CheckpointError),
    /// The note around it.
    #[error("making the note")]
    Note(#[from] NoteError),
}

impl GrowError {
    /// Whether trying again later may help: only when something could not be written, and nothing contradicts.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Write(
                FileError::DiskFull { .. } | FileError::NotDurable { .. } | FileError::Io { .. }
            )
        )
    }
}

/// The log as it was last signed.
#[derive(Debug)]
pub(crate) struct Log {
    tiles: Tiles,
    signer: NoteSigner,
    verifier: NoteVerifier,
    tree: Tree,
}

/// A larger tree whose tiles are written, and the text that shall be signed for it.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    tree: Tree,
    text: String,
}

impl Log {
    /// The log without leaves, or as verified when it was loaded.
    pub(crate) fn new(tiles: Tiles, signer: NoteSigner, tree: Tree) -> Self {
        let verifier = signer.verifier();
        Self {
            tiles,
            signer,
            verifier,
            tree,
        }
    }

    /// The files.
    pub(crate) fn tiles(&self) -> &Tiles {
        &self.tiles
    }

    /// First leaf that [`Self::draft`] needs: the start of the tile that is not full.
    pub(crate) fn tail(&self) -> u64 {
        self.tree.size() / TILE_WIDTH * TILE_WIDTH
    }

    /// Extends the tree and writes the tiles that are new. `leaves` begin at [`Self::tail`]. Blocking.
    ///
    /// # Errors
    /// [`GrowError`].
    pub(crate) fn draft(&self, leaves: &[Leaf]) -> Result<Draft, GrowError> {
        let (tail, old) = (self.tail(), self.tree.size());
        for (index, leaf) in (tail..).zip(leaves) {
            if leaf.index != index || leaf_hash(&leaf.bytes) != leaf.hash {
                return Err(GrowError::Leaf(index));
            }
        }
        let known = (old - tail) as usize;
        let hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf.hash).collect();
        let mut tree = self.tree.clone();
        let finished = tree.append(hashes.get(known..).ok_or(GrowError::Leaf(old))?);
        let new = tree.size();
        let mut files = Vec::new();
        for bundle in new_bundles(old, new) {
            let from = (bundle.start() - tail) as usize;
            let part = &leaves[from..from + usize::from(bundle.width())];
            let entries: Vec<&[u8]> = part.iter().map(|leaf| leaf.bytes.as_slice()).collect();
            files.push((bundle, encode_bundle(&entries)?));
        }
        for tile in new_tiles(old, new) {
            let hashes = self.tile_hashes(&tile, &hashes, &finished)?;
            files.push((tile, encode_hashes(&hashes)));
        }
        self.tiles.ensure(&files).map_err(GrowError::Write)?;
        let checkpoint = Checkpoint::new(self.verifier.name(), tree.head(), Vec::new())?;
        Ok(Draft {
            tree,
            text: checkpoint.body(),
        })
    }

    /// Hashes of a tile: of leaves at level 0, else what the older tile held and what has just been finished.
    fn tile_hashes(
        &self,
        tile: &Tile,
        leaves: &[Digest],
        finished: &[(Node, Digest)],
    ) -> Result<Vec<Digest>, GrowError> {
        let level = tile.level().unwrap_or_default();
        if level == 0 {
            let from = (tile.start() - self.tail()) as usize;
            return Ok(leaves[from..from + usize::from(tile.width())].to_vec());
        }
        let held = (self.tree.size() >> (8 * level)).saturating_sub(tile.start());
        let mut hashes = match u16::try_from(held.min(TILE_WIDTH)) {
            Ok(0) | Err(_) => Vec::new(),
            Ok(width) => self
                .tiles
                .hashes(&Tile::hashes(level, tile.index(), width)?)?,
        };
        let end = tile.start() + u64::from(tile.width());
        let new = tile.start() + hashes.len() as u64..end;
        let at_level = finished.iter().filter(|(node, _)| node.level == 8 * level);
        hashes.extend(
            at_level
                .filter(|(node, _)| new.contains(&node.index))
                .map(|(_, hash)| *hash),
        );
        Ok(hashes)
    }

    /// Signs a draft after verifying it against the files, and takes it for the log's new state. The only place where the
    /// log's key is used. Blocking.
    ///
    /// # Errors
    /// [`GrowError`]; nothing is signed then.
    pub(crate) fn sign(&mut self, draft: Draft) -> Result<SignedCheckpoint, GrowError> {
        let head = self.verify(&draft)?;
        let checkpoint = Checkpoint::new(self.verifier.name(), head, Vec::new())?;
        if checkpoint.body() != draft.text {
            return Err(GrowError::Text);
        }
        let mut note = Note::new(draft.text)?;
        note.sign(&self.signer);
        let signed = SignedCheckpoint::open(&note.encode(), &self.verifier)?;
        if signed.head() != head {
            return Err(GrowError::Text);
        }
        self.tree = draft.tree;
        Ok(signed)
    }

    /// Computes the root again, from the files alone.
    fn verify(&self, draft: &Draft) -> Result<TreeHead, GrowError> {
        let (old, new) = (self.tree.size(), draft.tree.size());
        for bundle in new_bundles(old, new) {
            let bytes = self.tiles.read(&bundle)?;
            let entries = decode_bundle(&bytes, bundle.width())?;
            let tile = Tile::hashes(0, bundle.index(), bundle.width())?;
            let hashes = self.tiles.hashes(&tile)?;
            let agree = |(entry, hash): (&&[u8], &Digest)| leaf_hash(entry) == *hash;
            if !entries.iter().zip(&hashes).all(agree) {
                return Err(GrowError::Tile(bundle.to_string()));
            }
        }
        for tile in new_tiles(old, new) {
            self.verify_upper(&tile, old)?;
        }
        let reader = self.tiles.reader(new);
        let head = TreeHead {
            size: new,
            root: root_at(new, &reader)?,
        };
        let proof = prove_consistency(old, new, &reader)?;
        verify_consistency(&self.tree.head(), &head, &proof).map_err(GrowError::Inconsistent)?;
        if head == draft.tree.head() {
            Ok(head)
        } else {
            Err(GrowError::Root)
        }
    }

    /// Each new hash of an upper tile is the root of the full tile below it.
    fn verify_upper(&self, tile: &Tile, old: u64) -> Result<(), GrowError> {
        let level = match tile.level() {
            Some(level) if level > 0 => level,
            _ => return Ok(()),
        };
        let first = (old >> (8 * level)).max(tile.start());
        for (index, hash) in (tile.start()..).zip(self.tiles.hashes(tile)?) {
            if index < first {
                continue;
            }
            let below = Tile::hashes(level - 1, index, TILE_WIDTH as u16)?;
            if subtree_root(&self.tiles.hashes(&below)?) != hash {
                return Err(GrowError::Tile(below.to_string()));
            }
        }
        Ok(())
    }

    /// The consistency proof from an older size to one whose tiles are written. Blocking.
    ///
    /// # Errors
    /// [`GrowError::Prove`].
    pub(crate) fn consistency(tiles: &Tiles, old: u64, new: u64) -> Result<Vec<Digest>, GrowError> {
        Ok(prove_consistency(old, new, &tiles.reader(new))?)
    }
}

#[cfg(test)]
mod tests;

//! Tiles: the tree and its entries as immutable files (C2SP tlog-tiles, height 8).

use core::fmt;
use core::str::FromStr;

use greffe_types::Digest;

/// Hashes or entries of a full tile.
pub const TILE_WIDTH: u64 = 256;

/// Longest entry of a bundle, in bytes: its length is written in 16 bits.
pub const MAX_ENTRY: usize = 65_535;

/// A tree of less than 2^64 leaves has tiles on eight levels.
const LEVELS: u8 = 8;

/// Why a tile or its bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// No tree has a tile of that level, index and width.
    #[error("no tree has such a tile")]
    Coordinates,
    /// Not a tile's path, in its only spelling.
    #[error("not the path of a tile")]
    Path,
    /// The bytes are not what a tile of that width holds.
    #[error("the bytes do not fill the tile exactly")]
    Length,
    /// An entry is longer than [`MAX_ENTRY`].
    #[error("an entry of {0} bytes is too long")]
    Entry(usize),
}

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Contents {
    /// Hashes of subtrees of this many levels times eight.
    Hashes(u8),
    /// The entries themselves.
    Entries,
}

/// One tile, full or partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    contents: Contents,
    index: u64,
    width: u16,
}

impl Tile {
    /// A tile of hashes; level 0 holds leaf hashes, each level above the roots of full tiles below. Width 1 to 256.
    pub fn hashes(level: u8, index: u64, width: u16) -> Result<Self, TileError> {
        Self::new(Contents::Hashes(level), index, width)
    }

    /// A bundle of entries. Width 1 to 256.
    pub fn entries(index: u64, width: u16) -> Result<Self, TileError> {
        Self::new(Contents::Entries, index, width)
    }

    fn new(contents: Contents, index: u64, width: u16) -> Result<Self, TileError> {
        let level = match contents {
            Contents::Hashes(level) => level,
            Contents::Entries => 0,
        };
        if level >= LEVELS || width == 0 || u64::from(width) > TILE_WIDTH {
            return Err(TileError::Coordinates);
        }
        let end = (u128::from(index) * 256 + u128::from(width)) << (8 * level);
        if end > u128::from(u64::MAX) {
            return Err(TileError::Coordinates);
        }
        Ok(Self {
            contents,
            index,
            width,
        })
    }

    /// Level of a tile of hashes; none for entries.
    pub fn level(&self) -> Option<u8> {
        match self.contents {
            Contents::Hashes(level) => Some(level),
            Contents::Entries => None,
        }
    }

    /// Number within its level, from 0.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Hashes or entries in it, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether it is not full yet.
    pub fn is_partial(&self) -> bool {
        u64::from(self.width) < TILE_WIDTH
    }

    /// Number of its first hash or entry within the level.
    pub fn start(&self) -> u64 {
        self.index * TILE_WIDTH
    }

    /// The same tile, once full: what replaces a partial one.
    pub fn full(&self) -> Result<Self, TileError> {
        Self::new(self.contents, self.index, TILE_WIDTH as u16)
    }
}

/// Its path under the log's prefix: `tile/0/x001/x234/067.p/8`.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.contents {
            Contents::Hashes(level) => write!(f, "tile/{level}/")?,
            Contents::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if self.is_partial() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for Tile {
    type Err = TileError;

    fn from_str(path: &str) -> Result<Self, TileError> {
        let rest = path.strip_prefix("tile/").ok_or(TileError::Path)?;
        let (kind, rest) = rest.split_once('/').ok_or(TileError::Path)?;
        let contents = match kind {
            "entries" => Contents::Entries,
            level => Contents::Hashes(level.parse().map_err(|_| TileError::Path)?),
        };
        let (groups, width) = match rest.split_once(".p/") {
            Some((groups, width)) => (groups, width.parse().map_err(|_| TileError::Path)?),
            None => (rest, TILE_WIDTH as u16),
        };
        let mut index: u64 = 0;
        for group in groups.split('/') {
            let digits: u64 = group
                .strip_prefix('x')
                .unwrap_or(group)
                .parse()
                .map_err(|_| TileError::Path)?;
            index = index
                .checked_mul(1000)
                .and_then(|index| index.checked_add(digits))
                .ok_or(TileError::Path)?;
        }
        let tile = Self::new(contents, index, width)?;
        // Whatever was read loosely above, only the one spelling counts.
        if tile.to_string() == path {
            Ok(tile)
        } else {
            Err(TileError::Path)
        }
    }
}

/// The tiles of hashes that a tree of `new` leaves has and one of `old` leaves has not, level by level: what to write
/// after growing. Partial ones are given at their present width only.
pub fn new_tiles(old: u64, new: u64) -> Vec<Tile> {
    (0..LEVELS)
        .flat_map(|level| {
            grown(
                Contents::Hashes(level),
                old >> (8 * level),
                new >> (8 * level),
            )
        })
        .collect()
}

/// The same for bundles of entries.
pub fn new_bundles(old: u64, new: u64) -> Vec<Tile> {
    grown(Contents::Entries, old, new).collect()
}

fn grown(contents: Contents, old: u64, new: u64) -> impl Iterator<Item = Tile> {
    let first = old / TILE_WIDTH;
    let end = if old < new {
        new.div_ceil(TILE_WIDTH)
    } else {
        first
    };
    (first..end).map(move |index| Tile {
        contents,
        index,
        width: (new - index * TILE_WIDTH).min(TILE_WIDTH) as u16,
    })
}

/// The bytes of a tile of hashes.
pub fn encode_hashes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// The hashes of a tile of that width.
pub fn decode_hashes(bytes: &[u8], width: u16) -> Result<Vec<Digest>, TileError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || hashes.len() != usize::from(width) {
        return Err(TileError::Length);
    }
    Ok(hashes.iter().copied().map(Digest::new).collect())
}

/// The bytes of a bundle: each entry behind its length in 16 bits, big-endian.
pub fn encode_bundle<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, TileError> {
    let mut bundle = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len()).map_err(|_| TileError::Entry(entry.len()))?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// The entries of a bundle of that width.
pub fn decode_bundle(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, TileError> {
    let mut rest = bytes;
    let mut entries = Vec::with_capacity(usize::from(width));
    for _ in 0..width {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(TileError::Length)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, after) = after.split_at_checked(length).ok_or(TileError::Length)?;
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() {
        Ok(entries)
    } else {
        Err(TileError::Length)
    }
}

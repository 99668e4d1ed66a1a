//! Tiles: the specification's examples, and the `tlog_tiles` crate.

use greffe_tlog::{
    MAX_ENTRY, Tile, TileError, decode_bundle, decode_hashes, encode_bundle, encode_hashes,
    new_bundles, new_tiles,
};
use greffe_types::Digest;
use proptest::prelude::*;

#[test]
fn published_paths() {
    for (tile, path) in [
        (Tile::hashes(0, 1_234_067, 256), "tile/0/x001/x234/067"),
        (Tile::hashes(1, 0, 256), "tile/1/000"),
        (Tile::hashes(7, 0, 1), "tile/7/000.p/1"),
        (Tile::entries(273, 112), "tile/entries/273.p/112"),
        (Tile::entries(1000, 256), "tile/entries/x001/000"),
    ] {
        let tile = tile.unwrap();
        assert_eq!(tile.to_string(), path);
        assert_eq!(path.parse(), Ok(tile));
    }
}

#[test]
fn paths_have_one_spelling() {
    for path in [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "/tile/0/000",
        "tile/00/000",
        "tile/+0/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/x001",
        "tile/0/001/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/../000",
        "tile/8/000",
        "tile/64/000",
        "tile/data/000",
        "tile/7/x001/000",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
    ] {
        assert!(path.parse::<Tile>().is_err(), "{path}");
    }
}

#[test]
fn a_partial_tile_starts_where_the_full_one_does() {
    for (path, index, width, start) in [
        ("tile/entries/000.p/112", 0, 112, 0),
        ("tile/entries/001.p/1", 1, 1, 256),
        ("tile/0/273.p/112", 273, 112, 69_888),
        ("tile/1/001.p/17", 1, 17, 256),
    ] {
        let tile: Tile = path.parse().unwrap();
        let full = tile.full().unwrap();
        assert_eq!(Some(full.to_string().as_str()), path.split(".p/").next());
        let place = |tile: &Tile| (tile.index(), tile.width(), tile.start());
        assert_eq!(place(&tile), (index, width, start), "{path}");
        assert_eq!(place(&full), (index, 256, start), "{path}");
        assert!(tile.is_partial() && !full.is_partial());
        assert_eq!(full.full(), Ok(full));
    }
    // The last tile of the largest tree never fills.
    let last = Tile::hashes(0, u64::MAX / 256, 255).unwrap();
    assert_eq!(last.full(), Err(TileError::Coordinates));
    assert_eq!(last.start(), u64::MAX - 255);
}

/// The specification's example: 70,000 leaves.
#[test]
fn published_layout() {
    let tiles = new_tiles(0, 70_000);
    let at = |level| tiles.iter().filter(move |tile| tile.level() == Some(level));
    assert_eq!((at(0).count(), at(1).count(), at(2).count()), (274, 2, 1));
    assert_eq!(tiles.len(), 277);
    let partial: Vec<String> = tiles
        .iter()
        .filter(|tile| tile.is_partial())
        .map(Tile::to_string)
        .collect();
    assert_eq!(
        partial,
        ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
    );
    let paths = |tiles: Vec<Tile>| tiles.iter().map(Tile::to_string).collect::<Vec<_>>();
    assert_eq!(paths(new_tiles(0, 256)), ["tile/0/000", "tile/1/000.p/1"]);
    assert_eq!(new_tiles(256, 256), []);
    // Grown to that by 300 leaves: the tile that was partial before, and what came after.
    assert_eq!(
        paths(new_tiles(69_700, 70_000)),
        ["tile/0/272", "tile/0/273.p/112", "tile/1/001.p/17"]
    );
    assert_eq!(
        paths(new_bundles(69_700, 70_000)),
        ["tile/entries/272", "tile/entries/273.p/112"]
    );
}

#[test]
fn bytes_fill_their_tile() {
    let hashes = [Digest::new([1; 32]), Digest::new([2; 32])];
    let bytes = encode_hashes(&hashes);
    assert_eq!(decode_hashes(&bytes, 2), Ok(hashes.to_vec()));
    assert_eq!(decode_hashes(&bytes, 3), Err(TileError::Length));
    assert_eq!(decode_hashes(&bytes[1..], 2), Err(TileError::Length));

    let bundle = encode_bundle(&[b"a".as_slice(), b"", b"bcd"]).unwrap();
    assert_eq!(bundle, b"\0\x01a\0\0\0\x03bcd");
    assert_eq!(
        decode_bundle(&bundle, 3),
        Ok(vec![b"a".as_slice(), b"", b"bcd"])
    );
    for (bytes, width) in [
        (&bundle[..], 2),
        (&bundle[..], 4),
        (&bundle[..7], 3),
        (&bundle[1..], 3),
    ] {
        assert_eq!(decode_bundle(bytes, width), Err(TileError::Length));
    }
    assert!(encode_bundle(&[vec![0; MAX_ENTRY]]).is_ok());
    assert_eq!(
        encode_bundle(&[vec![0; MAX_ENTRY + 1]]),
        Err(TileError::Entry(MAX_ENTRY + 1))
    );
}

proptest! {
    #[test]
    fn layout_agrees_with_the_other_implementation(old in 0_u64..200_000, growth in 0_u64..70_000) {
        let theirs: Vec<String> = tlog_tiles::Tile::new_tiles(8, old, old + growth)
            .iter()
            .map(|tile| tile.path().replacen("tile/8/", "tile/", 1))
            .collect();
        let ours: Vec<String> = new_tiles(old, old + growth).iter().map(Tile::to_string).collect();
        prop_assert_eq!(ours, theirs);
        let bundles = new_bundles(old, old + growth);
        let level_0 = new_tiles(old, old + growth).into_iter().filter(|tile| tile.level() == Some(0));
        prop_assert_eq!(
            bundles.iter().map(|tile| (tile.index(), tile.width())).collect::<Vec<_>>(),
            level_0.map(|tile| (tile.index(), tile.width())).collect::<Vec<_>>()
        );
    }

    #[test]
    fn paths_round_trip(level in 0_u8..8, index in any::<u64>(), shift in 0_u32..64, width in 1_u16..=256) {
        if let Ok(tile) = Tile::hashes(level, index >> shift, width) {
            prop_assert_eq!(tile.to_string().parse(), Ok(tile));
        }
    }

    #[test]
    fn any_path_gets_a_verdict(path in "tile/([0-9]{1,2}|entries)/(x[0-9]{3}/){0,7}[0-9]{2,4}(\\.p/[0-9]{1,4})?") {
        if let Ok(tile) = path.parse::<Tile>() {
            prop_assert_eq!(tile.to_string(), path);
        }
    }
}

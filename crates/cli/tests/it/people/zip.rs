//! A production as one file: written, verified where it is, unpacked by others, and refused when it is not what was handed over.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::World;
use crate::support::{Ran, files, names, verify};

/// What others do with a zip, in a few lines of the standard library of another language.
const OTHERS: &str = r"
import pathlib, sys, zipfile
what, source, target = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
if what == 'unpack':
    with zipfile.ZipFile(source) as packed:
        assert packed.testzip() is None
        assert all(entry.compress_type == zipfile.ZIP_STORED and entry.date_time[0] == 1980 for entry in packed.infolist())
        assert packed.namelist() == sorted(packed.namelist())
        packed.extractall(target)
else:
    kind = zipfile.ZIP_DEFLATED if what == 'compress' else zipfile.ZIP_STORED
    with zipfile.ZipFile(target, 'w', kind) as packed:
        for path in sorted(source.rglob('*')):
            if path.is_file():
                packed.write(path, path.relative_to(source).as_posix())
        if what == 'add':
            packed.writestr('../../evil', b'x')
";

fn others(what: &str, source: &Path, target: &Path) {
    let mut python = Command::new("python3");
    python
        .args(["-B", "-c", OTHERS, what])
        .args([source, target]);
    let ran = Ran::of(python.output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
}

pub(super) fn zipped(world: &World, order: &str, folder: &Path) {
    let root = world.data().join("root.pub");
    let zip = world.path("production.zip");
    let produce = ["produce", order, "--as", "reader", "--out"];
    let made = world.json(&[&produce[..], &[zip.to_str().unwrap()]].concat());
    assert_eq!(made["verified"], true);
    assert_eq!(made["files"].as_u64().unwrap(), files(folder).len() as u64);
    // As a folder is: nobody else on this machine reads it.
    let mode = fs::metadata(&zip).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let verified = verify(&zip, &root);
    assert_eq!(
        (verified.code, verified.stderr.as_str()),
        (0, ""),
        "{verified:?}"
    );
    assert!(
        verified.stdout.contains("verified: 2 records"),
        "{verified:?}"
    );
    // Nothing was unpacked on the way, nothing is left of writing it.
    let beside = names(world.folder.path());
    assert!(
        beside.iter().all(|name| !name.ends_with(".part")),
        "{beside:?}"
    );
    let again = world.run(&[&produce[..], &[zip.to_str().unwrap()]].concat());
    again.refused_at_once(3, "PRODUCTION_EXISTS");
    // Whatever it is called.
    let other = world.path("production.dat");
    world.json(&[&produce[..], &[other.to_str().unwrap(), "--zip"]].concat());
    assert_eq!(verify(&other, &root).code, 0);

    let unpacked = world.path("unpacked");
    others("unpack", &zip, &unpacked);
    assert_eq!(verify(&unpacked, &root).code, 0);
    let there = files(&unpacked);
    let first = files(folder);
    assert_eq!(
        there.keys().collect::<Vec<_>>(),
        first.keys().collect::<Vec<_>>()
    );
    // Each production is signed anew, with the time of its making, paths to the log's newest checkpoint and ranges that the archive
    // signs when it is asked, and the manifest has these files too; all else is the same.
    let own = [
        "production.pb",
        "custody.json",
        "manifest.json",
        "checkpoint.txt",
        "order-path.txt",
        "log-path.txt",
    ];
    let same = |(name, _): &(&String, &Vec<u8>)| {
        !name.starts_with("evidence/ranges/") && !own.iter().any(|own| name.ends_with(own))
    };
    assert!(there.iter().filter(same).count() > own.len());
    let other: Vec<&String> = there
        .iter()
        .filter(same)
        .filter(|(name, bytes)| first.get(*name) != Some(*bytes))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(other, [""; 0]);
    wrong(world, &zip, &unpacked, &root);
}

fn wrong(world: &World, zip: &Path, unpacked: &Path, root: &Path) {
    for (what, says) in [
        ("compress", "it is compressed"),
        ("add", "leads out of the production"),
    ] {
        let packed = world.path(&format!("{what}.zip"));
        others(what, unpacked, &packed);
        let ran = verify(&packed, root);
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(
            ran.stderr.contains("PRODUCTION_INVALID") && ran.stdout.contains(says),
            "{ran:?}"
        );
    }
    // Packed by others without compression it is the same production: dates and modes say nothing.
    let packed = world.path("stored.zip");
    others("store", unpacked, &packed);
    assert_eq!(verify(&packed, root).code, 0);
    let mut changed = fs::read(zip).unwrap();
    let place = changed.len() / 2;
    changed[place] ^= 1;
    let path = world.path("changed.zip");
    fs::write(&path, changed).unwrap();
    assert_eq!(verify(&path, root).code, 4);
    let nothing = world.path("nothing.zip");
    fs::write(&nothing, "no zip").unwrap();
    verify(&nothing, root).refused_at_once(2, "PRODUCTION_NOT_FOUND");
}

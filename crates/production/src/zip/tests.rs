//! Zips as they are written, and zips that somebody has made to mislead whoever reads or unpacks them.

use std::io::Cursor;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;
use crate::manifest::Version;

type Files = BTreeMap<String, Vec<u8>>;

/// Two files, their manifest, and something in the statement's place.
fn files() -> Files {
    let mut files = Files::from([
        ("FORMAT.md".to_owned(), b"what is what\n".to_vec()),
        ("evidence/order.pb".to_owned(), vec![7; 300]),
    ]);
    finish(&mut files);
    files
}

fn finish(files: &mut Files) {
    let manifest = Manifest::of(files, Version::V1).encode();
    files.insert(layout::MANIFEST.to_owned(), manifest);
    files.insert(layout::STATEMENT.to_owned(), b"statement".to_vec());
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Everything that is found in some bytes.
fn findings(bytes: &[u8]) -> (Files, Vec<String>) {
    let place = Place::new();
    let path = place.path("x.zip");
    std::fs::write(&path, bytes).unwrap();
    let mut report = Report::default();
    let files = read(&path, &mut report);
    let lines = report
        .findings
        .iter()
        .map(|f| format!("{}: {}", f.item, f.problem));
    (files, lines.collect())
}

fn written(files: &Files) -> Vec<u8> {
    let place = Place::new();
    let path = place.path("x.zip");
    write(&path, files).unwrap();
    std::fs::read(path).unwrap()
}

/// The good files, and what `more` adds.
fn with(more: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files() {
        zip.start_file(name, stored()).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    more(&mut zip);
    zip.finish().unwrap().into_inner()
}

fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored)
}

/// Every place of some bytes in others.
fn places(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(wanted.len()).enumerate();
    windows
        .filter(|(_, found)| *found == wanted)
        .map(|(place, _)| place)
        .collect()
}

/// Where the heads of a file are: the one before it, the one in the directory.
fn heads(bytes: &[u8], name: &str) -> (usize, usize) {
    let named = places(bytes, name.as_bytes());
    let local = named
        .iter()
        .find(|at| bytes[*at - 30..].starts_with(b"PK\x03\x04"))
        .unwrap();
    let central = named.iter().filter(|at| **at >= 46);
    let central = central
        .clone()
        .find(|at| bytes[*at - 46..].starts_with(b"PK\x01\x02"));
    (local - 30, central.unwrap() - 46)
}

#[track_caller]
fn refused(bytes: &[u8], item: &str, says: &str) {
    let (_, found) = findings(bytes);
    let fits = |line: &String| line.starts_with(&format!("{item}: ")) && line.contains(says);
    assert!(found.iter().any(fits), "{item}: {says}: {found:?}");
}

#[test]
fn a_zip_is_read_as_it_was_written_and_its_bytes_are_the_files_alone() {
    let files = files();
    let bytes = written(&files);
    assert_eq!(findings(&bytes), (files.clone(), vec![]));
    // Another time, another place: the same bytes.
    assert_eq!(written(&files), bytes);
    let place = Place::new();
    let path = place.path("x.zip");
    std::fs::write(&path, &bytes).unwrap();
    assert!(is_zip(&path));
    let fresh = place.path("fresh.zip");
    write(&fresh, &files).unwrap();
    let mode = std::fs::metadata(&fresh).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(&path, b"PK or not").unwrap();
    assert!(!is_zip(&path) && !is_zip(&place.path("nothing")));
    // One that is there is not written over.
    assert_eq!(
        write(&path, &files).unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
}

#[test]
fn large_files_and_many_of_them_are_read_as_they_were_written() {
    let place = Place::new();
    let path = place.path("large.zip");
    let files = files();
    write_from(&path, &files, 100).unwrap();
    let mut report = Report::default();
    assert_eq!(read_from(&path, 100, &mut report), files);
    assert!(report.holds(), "{report:?}");
    // There is one way to write them: sizes in 64 bits where 32 would do are another.
    refused(&std::fs::read(&path).unwrap(), ".", "belong to none");
    // More than 16 bits count, as of an order of ten thousand records.
    let mut many: Files = (0..70_000)
        .map(|n| (format!("evidence/{n:06}"), vec![]))
        .collect();
    finish(&mut many);
    assert_eq!(findings(&written(&many)), (many, vec![]));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in [
        "../evil",
        "/etc/evil",
        "a/../../evil",
        "C:\\evil",
        "a\\b",
        "./a",
        "a//b",
        "a\nb",
    ] {
        let bytes = with(|zip| {
            zip.start_file(name, stored()).unwrap();
        });
        let (files, found) = findings(&bytes);
        let says = "leads out of the production";
        assert!(
            found.iter().any(|line| line.contains(says)),
            "{name:?}: {found:?}"
        );
        assert_eq!(files, self::files(), "{name:?}");
    }
}

#[test]
fn what_is_no_file_or_is_named_by_nobody_is_refused() {
    let bytes = with(|zip| zip.add_directory("evidence", stored()).unwrap());
    refused(&bytes, "evidence/", "it is no file");
    let bytes = with(|zip| zip.add_symlink("link", "/etc/passwd", stored()).unwrap());
    refused(&bytes, "link", "it is no file");
    let bytes = with(|zip| {
        zip.start_file("more.txt", stored()).unwrap();
    });
    refused(&bytes, "more.txt", "the manifest does not name it");
    assert_eq!(findings(&bytes).0, files());
}

#[test]
fn one_name_twice_is_refused() {
    let mut bytes = with(|zip| {
        zip.start_file("FORMAT.mx", stored()).unwrap();
        zip.write_all(b"another").unwrap();
    });
    for place in places(&bytes, b"FORMAT.mx") {
        bytes[place..place + 9].copy_from_slice(b"FORMAT.md");
    }
    refused(&bytes, ".", "contradict one another");
    assert!(findings(&bytes).0.is_empty());
}

#[test]
fn entries_that_lie_over_one_another_are_refused() {
    let good = written(&files());
    let (local, _) = heads(&good, "FORMAT.md");
    let (_, central) = heads(&good, "evidence/order.pb");
    let mut bytes = good;
    bytes[central + 42..central + 46].copy_from_slice(&u32::try_from(local).unwrap().to_le_bytes());
    refused(&bytes, ".", "contradict one another");
}

#[test]
fn attack_60_compressed_and_encrypted_files_are_refused_unread() {
    let good = written(&files());
    let (local, central) = heads(&good, "evidence/order.pb");
    let mut bytes = good.clone();
    (bytes[local + 8], bytes[central + 10]) = (8, 8);
    refused(&bytes, "evidence/order.pb", "it is compressed");
    // It says that it becomes four gigabytes.
    let mut bomb = bytes;
    for at in [local + 22, central + 24] {
        bomb[at..at + 4].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
    }
    refused(&bomb, "evidence/order.pb", "it is compressed");
    let mut bytes = good;
    (bytes[local + 6], bytes[central + 8]) = (bytes[local + 6] | 1, bytes[central + 8] | 1);
    refused(&bytes, "evidence/order.pb", "it is encrypted");
}

#[test]
fn attack_60_no_file_is_larger_than_the_manifest_says() {
    let mut grown = files();
    grown.insert("FORMAT.md".to_owned(), vec![b'x'; 5000]);
    let (files, found) = findings(&written(&grown));
    assert_eq!(found, ["FORMAT.md: it has 5000 bytes, and may have 13"]);
    assert!(!files.contains_key("FORMAT.md"));
    let mut statement = self::files();
    statement.insert(layout::STATEMENT.to_owned(), vec![0; (1 << 20) + 1]);
    refused(&written(&statement), layout::STATEMENT, "may have 1048576");
}

#[test]
fn without_its_manifest_nothing_is_read() {
    for manifest in [None, Some(b"{}".to_vec())] {
        let mut less = files();
        less.remove(layout::MANIFEST);
        less.extend(manifest.map(|bytes| (layout::MANIFEST.to_owned(), bytes)));
        let bytes = written(&less);
        refused(&bytes, ".", "without its manifest");
        assert!(!findings(&bytes).0.contains_key("FORMAT.md"));
    }
}

#[test]
fn bytes_that_belong_to_no_file_are_refused() {
    let good = written(&files());
    let before = [b"hidden", &good[..]].concat();
    let after = [&good[..], b"hidden"].concat();
    let commented = with(|zip| zip.set_comment("hidden").unwrap());
    for (what, bytes) in [("before", before), ("after", after), ("comment", commented)] {
        let (files, found) = findings(&bytes);
        assert!(!found.is_empty() && files.is_empty(), "{what}: {found:?}");
    }
    let behind = good.len() - 22;
    let between = [&good[..behind], b"hidden", &good[behind..]].concat();
    refused(&between, ".", "");
    // Between two of them: what comes after moves, in place and in the directory.
    let (local, central) = heads(&good, "manifest.json");
    let mut bytes = [&good[..local], &[0; 8], &good[local..]].concat();
    let moved = |bytes: &mut Vec<u8>, at: usize| {
        let old = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        bytes[at..at + 4].copy_from_slice(&(old + 8).to_le_bytes());
    };
    moved(&mut bytes, central + 8 + 42);
    let (_, statement) = heads(&good, "production.pb");
    moved(&mut bytes, statement + 8 + 42);
    let end = bytes.len() - 22;
    moved(&mut bytes, end + 16);
    refused(&bytes, ".", "belong to none of its files");
}

#[test]
fn what_is_cut_or_changed_is_refused() {
    let good = written(&files());
    for length in [0, 10, good.len() / 2, good.len() - 1] {
        refused(&good[..length], ".", "");
    }
    let (local, _) = heads(&good, "FORMAT.md");
    let mut bytes = good;
    bytes[local + 30 + 9] ^= 1;
    refused(&bytes, "FORMAT.md", "cannot be read");
}

#[test]
fn no_changed_byte_changes_what_is_read() {
    let (good, bytes) = (files(), written(&files()));
    for place in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[place] ^= change;
            for (name, found) in findings(&changed).0 {
                assert_eq!(good.get(&name), Some(&found), "{name} at {place}");
            }
        }
    }
}

/// The same zip with something put into its directory, whose size at the end says so; what the end counts stays.
fn grown(good: &[u8], at: usize, more: &[u8]) -> Vec<u8> {
    let mut bytes = [&good[..at], more, &good[at..]].concat();
    let size = bytes.len() - 22 + 12;
    let old = u32::from_le_bytes(bytes[size..size + 4].try_into().unwrap());
    let new = old + u32::try_from(more.len()).unwrap();
    bytes[size..size + 4].copy_from_slice(&new.to_le_bytes());
    bytes
}

#[test]
fn a_record_that_is_not_counted_is_refused_with_the_file_in_its_comment() {
    let good = written(&files());
    let (end, name, forged) = (good.len() - 22, b"FORMAT.md", b"what is not\n!");
    let sum = crc32(forged).to_le_bytes();
    let size = u32::try_from(forged.len()).unwrap().to_le_bytes();
    // What both heads have: versions, flags, method, time, sum, sizes, the name's length.
    let common = [
        &[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..],
        &sum,
        &size,
        &size,
        &[name.len() as u8, 0],
    ]
    .concat();
    let local = [&b"PK\x03\x04"[..], &common, &[0, 0], name, forged].concat();
    let place = u32::try_from(end + 46 + name.len()).unwrap().to_le_bytes();
    let length = u16::try_from(local.len()).unwrap().to_le_bytes();
    let central = [
        &b"PK\x01\x02\x14\0"[..],
        &common,
        &[0, 0],
        &length,
        &[0; 8],
        &place,
        name,
        &local,
    ]
    .concat();
    refused(&grown(&good, end, &central), ".", "belong to none");
    // Nor is it when its file is where files are: counted, it is the same name twice.
    let mut counted = grown(&good, end, &central);
    let count = counted.len() - 22;
    (counted[count + 8], counted[count + 10]) = (5, 5);
    refused(&counted, ".", "");
}

/// CRC-32 as zips have it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[test]
fn fields_and_comments_of_the_directory_are_refused() {
    // Each record with 20 kB that only some tools look at.
    let mut bytes = written(&files());
    for name in files().keys() {
        let (_, central) = heads(&bytes, name);
        let length = 20_000_u16;
        let field = [&[0xfe, 0xca][..], &(length - 4).to_le_bytes()].concat();
        let field = [field, vec![b'x'; usize::from(length - 4)]].concat();
        bytes[central + 30..central + 32].copy_from_slice(&length.to_le_bytes());
        bytes = grown(&bytes, central + 46 + name.len(), &field);
    }
    refused(&bytes, ".", "belong to none");
    let good = written(&files());
    let (_, central) = heads(&good, "FORMAT.md");
    let mut bytes = good.clone();
    bytes[central + 32] = 6;
    let bytes = grown(&bytes, central + 46 + "FORMAT.md".len(), b"hidden");
    refused(&bytes, ".", "belong to none");
    // Before the file itself, where the directory does not see it.
    let (local, _) = heads(&good, "production.pb");
    let at = local + 30 + "production.pb".len();
    let mut bytes = [&good[..at], b"\xfe\xca\x04\0hide", &good[at..]].concat();
    bytes[local + 28] = 8;
    let end = bytes.len() - 22 + 16;
    let old = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap());
    bytes[end..end + 4].copy_from_slice(&(old + 8).to_le_bytes());
    refused(&bytes, "production.pb", "fields beside it");
    // More disks than one, and counts that differ.
    for at in [4, 6, 8, 10] {
        let mut bytes = good.clone();
        let end = bytes.len() - 22;
        bytes[end + at] ^= 1;
        refused(&bytes, ".", "");
    }
}

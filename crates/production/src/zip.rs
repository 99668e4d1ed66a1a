//! A production as one zip file: the same files, stored without compression, sorted by path, with one time and one mode.
//!
//! The bytes follow from the files alone, so two zips of one production are equal. Nothing is compressed, so nothing that is
//! read is larger than what was handed over; and reading is bounded by the manifest, which is read first. No path leads out of a
//! folder that somebody unpacks it into, no name is there twice, and no byte belongs to no file, in the directory either: who
//! reads as many records as are counted finds the same files as who reads as many as there are bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zip::read::ZipArchive;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use self::directory::{Directory, WIDE};
use crate::layout;
use crate::manifest::Manifest;
use crate::verify::Report;

/// Most bytes of a manifest: ten thousand records with their files have a tenth of it.
const MOST_MANIFEST: u64 = 64 << 20;
/// Most bytes of the reader's statement.
const MOST_STATEMENT: u64 = 1 << 20;
/// Bytes before a file: its head without its name, and what sizes in 64 bits add to it.
const HEAD: u64 = 30;
const HEAD_64: u64 = 20;

/// Writes the files of a production.
///
/// # Errors
/// As the system reports it.
pub(crate) fn write(path: &Path, files: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    write_from(path, files, WIDE)
}

/// `large` is where sizes begin to be written in 64 bits.
fn write_from(path: &Path, files: &BTreeMap<String, Vec<u8>>, large: u64) -> io::Result<()> {
    // For its owner alone, from the first byte on, as a folder is: it is what the order opened.
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut zip = ZipWriter::new(BufWriter::new(file));
    for (name, bytes) in files {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::DEFAULT)
            .unix_permissions(0o644)
            .large_file(bytes.len() as u64 >= large);
        zip.start_file(name.as_str(), options)?;
        zip.write_all(bytes)?;
    }
    let mut file = zip.finish()?;
    file.flush()?;
    file.get_ref().sync_all()
}

/// Reads a production's zip. What does not hold is reported; what the manifest does not name is not read.
pub(crate) fn read(path: &Path, report: &mut Report) -> BTreeMap<String, Vec<u8>> {
    read_from(path, WIDE, report)
}

fn read_from(path: &Path, large: u64, report: &mut Report) -> BTreeMap<String, Vec<u8>> {
    let opened = File::open(path).and_then(|mut file| {
        let size = file.metadata()?.len();
        let directory = directory::read(&mut file, size, large)?;
        let zip = ZipArchive::new(BufReader::new(file))?;
        let bounds = Bounds {
            size,
            directory,
            large,
        };
        Ok((zip, bounds))
    });
    match opened {
        Ok((mut zip, bounds)) => {
            let mut files = BTreeMap::new();
            if let Err(problem) = read_all(&mut zip, &bounds, &mut files, report) {
                report.add(".", problem);
            }
            files
        }
        Err(error) => {
            report.add(".", format!("it cannot be read as a zip file: {error}"));
            BTreeMap::new()
        }
    }
}

/// How many bytes the zip has, its directory if that is in order, and where sizes begin to be written in 64 bits.
struct Bounds {
    size: u64,
    directory: Option<Directory>,
    large: u64,
}

fn read_all<R: Read + Seek>(
    zip: &mut ZipArchive<R>,
    bounds: &Bounds,
    files: &mut BTreeMap<String, Vec<u8>>,
    report: &mut Report,
) -> Result<(), String> {
    // Twice the same name, entries that lie over one another, headers that say one thing here and another there.
    zip.validate_header_consistency()
        .map_err(|error| format!("its headers contradict one another: {error}"))?;
    let names = names(zip, bounds, report)?;
    let mut take = |files: &mut BTreeMap<_, _>, name: &str, most: u64| {
        let Some(index) = names.get(name) else {
            return;
        };
        match entry(zip, *index, most) {
            Ok(bytes) => {
                files.insert(name.to_owned(), bytes);
            }
            Err(problem) => report.add(name, problem),
        }
    };
    take(files, layout::MANIFEST, MOST_MANIFEST);
    take(files, layout::STATEMENT, MOST_STATEMENT);
    let manifest = files.get(layout::MANIFEST);
    let Some(manifest) = manifest.and_then(|bytes| Manifest::decode(bytes).ok()) else {
        return Err("without its manifest nothing else in it is read".to_owned());
    };
    for (name, file) in &manifest.files {
        if name != layout::MANIFEST && name != layout::STATEMENT {
            take(files, name, file.size);
        }
    }
    let own = [layout::MANIFEST, layout::STATEMENT];
    for name in names.keys() {
        if !manifest.files.contains_key(name) && !own.contains(&name.as_str()) {
            report.add(name, "the manifest does not name it");
        }
    }
    Ok(())
}

/// Indices by name, when the entries are files of a production, one after the other, and nothing else is there.
fn names<R: Read + Seek>(
    zip: &mut ZipArchive<R>,
    bounds: &Bounds,
    report: &mut Report,
) -> Result<BTreeMap<String, usize>, String> {
    let hidden = "it holds bytes that belong to none of its files".to_owned();
    let directory = Directory {
        start: zip.central_directory_start(),
        files: zip.len() as u64,
    };
    if zip.offset() != 0
        || bounds.directory.as_ref() != Some(&directory)
        || !zip.comment().is_empty()
        || zip
            .raw_zip64_extensible_data_sector()
            .is_some_and(|more| !more.is_empty())
    {
        return Err(hidden);
    }
    let (mut names, mut places) = (BTreeMap::new(), Vec::new());
    for index in 0..zip.len() {
        let entry = zip
            .by_index_raw(index)
            .map_err(|error| format!("entry {index} cannot be read: {error}"))?;
        let start = entry.data_start().ok_or("an entry has no place")?;
        // What it says is larger than the file is refused before anything is made room for.
        let end = start
            .checked_add(entry.compressed_size())
            .filter(|end| *end <= bounds.size);
        places.push((
            entry.header_start(),
            end.ok_or("an entry is larger than the file")?,
        ));
        let Ok(name) = core::str::from_utf8(entry.name_raw()) else {
            return Err(format!("the name of entry {index} is not UTF-8"));
        };
        let large = if entry.size() >= bounds.large {
            HEAD_64
        } else {
            0
        };
        let head = HEAD + name.len() as u64 + large;
        let wrong = if entry.is_dir() || entry.is_symlink() {
            Some("it is no file")
        } else if !is_safe(name) {
            Some("its name leads out of the production, or is not written in its one spelling")
        } else if entry.encrypted() {
            Some("it is encrypted")
        } else if entry.compression() != CompressionMethod::Stored
            || entry.compressed_size() != entry.size()
        {
            Some(
                "it is compressed: unpack the zip with other tools and verify the folder, or ask for the zip as it was made",
            )
        } else if !entry.comment_raw().is_empty() || start - entry.header_start() != head {
            Some("it has a comment or fields beside it, which nobody signed")
        } else {
            None
        };
        match wrong {
            Some(problem) => report.add(name, problem),
            None => {
                names.insert(name.to_owned(), index);
            }
        }
    }
    places.sort_unstable();
    let ends = places.iter().map(|(_, end)| *end);
    let starts = places.iter().map(|(start, _)| *start);
    let starts = starts.chain([zip.central_directory_start()]);
    if core::iter::once(0).chain(ends).ne(starts) {
        return Err(hidden);
    }
    Ok(names)
}

/// An entry's bytes, if they are no more than that; their checksum is compared.
fn entry<R: Read + Seek>(
    zip: &mut ZipArchive<R>,
    index: usize,
    most: u64,
) -> Result<Vec<u8>, String> {
    let entry = zip
        .by_index(index)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    if entry.size() > most {
        return Err(format!(
            "it has {} bytes, and may have {most}",
            entry.size()
        ));
    }
    let mut bytes = Vec::new();
    entry
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    Ok(bytes)
}

/// A relative path of plain parts, in the one spelling that a manifest has.
fn is_safe(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.contains(['\\', ':'])
            && !part.contains(char::is_control)
    };
    name.split('/').all(part)
}

/// Whether a file begins as a zip does.
pub fn is_zip(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && (magic == *b"PK\x03\x04" || magic == *b"PK\x05\x06")
}

mod directory;
#[cfg(test)]
mod tests;

//! A production as one zip file: the same files, stored without compression, sorted by path, with one time and one mode.
//!
//! The bytes follow from the files alone, so two zips of one production are equal. Nothing is compressed, so nothing that is
//! read is larger than what was handed over; and reading is bounded by the manifest, which is read first. No path leads out of a
//! folder that somebody unpacks it into, no name is there twice, and no byte belongs to no file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write as _};
use std::path::Path;

use zip::read::ZipArchive;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

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
/// Bytes behind the directory where sizes are written in 64 bits.
const TAIL_64: u64 = 98;
/// From this size on a file's sizes are written in 64 bits.
const LARGE: u64 = u32::MAX as u64;

/// Writes the files of a production.
///
/// # Errors
/// As the system reports it.
pub(crate) fn write(path: &Path, files: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    write_from(path, files, LARGE)
}

/// `large` is where sizes begin to be written in 64 bits.
fn write_from(path: &Path, files: &BTreeMap<String, Vec<u8>>, large: u64) -> io::Result<()> {
    let mut zip = ZipWriter::new(BufWriter::new(File::create_new(path)?));
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
    read_from(path, LARGE, report)
}

fn read_from(path: &Path, large: u64, report: &mut Report) -> BTreeMap<String, Vec<u8>> {
    let opened = File::open(path).and_then(|mut file| {
        let size = file.metadata()?.len();
        let end = directory_end(&mut file, size)?;
        Ok((ZipArchive::new(BufReader::new(file))?, size, end))
    });
    match opened {
        Ok((mut zip, size, end)) => {
            let mut files = BTreeMap::new();
            let bounds = Bounds { size, end, large };
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

/// How many bytes the zip has, where its directory begins if it is the last thing in it, and where sizes begin to be written in
/// 64 bits.
struct Bounds {
    size: u64,
    end: Option<u64>,
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
    if zip.offset() != 0
        || bounds.end != Some(zip.central_directory_start())
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

/// Where the directory begins by what stands at the very end of the file; none when something stands behind or between.
fn directory_end(file: &mut File, size: u64) -> io::Result<Option<u64>> {
    let mut tail = [0; TAIL_64 as usize];
    let length = size.min(TAIL_64);
    let tail = &mut tail[..length as usize];
    file.seek(SeekFrom::Start(size - length))?;
    file.read_exact(tail)?;
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    };
    // Sizes in 64 bits: a record, where it is, and the record of old.
    if let Ok(tail) = <&[u8; TAIL_64 as usize]>::try_from(&*tail)
        && tail.starts_with(b"PK\x06\x06")
        && tail[56..60] == *b"PK\x06\x07"
        && tail[76..80] == *b"PK\x05\x06"
    {
        let (length, start) = (number(&tail[40..48]), number(&tail[48..56]));
        return Ok((start.checked_add(length) == Some(size - TAIL_64)).then_some(start));
    }
    let Some((_, last)) = tail.split_last_chunk::<22>() else {
        return Ok(None);
    };
    let (length, start) = (number(&last[12..16]), number(&last[16..20]));
    Ok((last.starts_with(b"PK\x05\x06") && start + length == size - 22).then_some(start))
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

#[cfg(test)]
mod tests;

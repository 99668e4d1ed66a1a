//! The end of a zip: its directory, where it is the last thing in the file and nothing is in it but what the files need.
//!
//! Some tools read as many records as the end counts, others as many as there are bytes: where these differ, one zip is two.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};

/// From here on a number is written in 64 bits, in a field beside it.
pub(super) const WIDE: u64 = u32::MAX as u64;
/// A record without the name.
const RECORD: usize = 46;
/// The last record of all.
const END: usize = 22;
/// The end where numbers are written in 64 bits: a record, where it is, and the record of old.
const END_64: usize = 98;

/// A directory that leads to all of its files, and to nothing else.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directory {
    /// Where it begins.
    pub(super) start: u64,
    /// How many files it has.
    pub(super) files: u64,
}

/// What the end of the file says, in whatever width.
struct Said {
    start: u64,
    length: u64,
    files: u64,
    end: u64,
}

/// The directory; none when something stands behind it, between it and the end, or in it beside what the files need. `large` is
/// where sizes begin to be written in 64 bits.
pub(super) fn read(file: &mut File, size: u64, large: u64) -> io::Result<Option<Directory>> {
    let Some(said) = said(file, size)? else {
        return Ok(None);
    };
    if said.start.checked_add(said.length) != Some(said.end) {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(said.start))?;
    let mut records = BufReader::new(file).take(said.length);
    let mut files = 0;
    while records.limit() > 0 {
        match record(&mut records, large) {
            Ok(true) => files += 1,
            Ok(false) => return Ok(None),
            // A record goes on where the directory has ended.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok((files == said.files).then_some(Directory {
        start: said.start,
        files,
    }))
}

/// Reads a record; whether it has its name and what its numbers need, and no more.
fn record(records: &mut impl io::Read, large: u64) -> io::Result<bool> {
    let mut head = [0; RECORD];
    records.read_exact(&mut head)?;
    let [name, extra, comment, disk] = [28, 30, 32, 34].map(|at| number(&head[at..at + 2]));
    let mut beside = vec![0; (name + extra) as usize];
    records.read_exact(&mut beside)?;
    let extra = &beside[name as usize..];
    // In the order in which they are beside it: size, size as stored, place.
    let least: Vec<u64> = [(24, large), (20, large), (42, WIDE)]
        .into_iter()
        .filter(|(at, _)| number(&head[*at..*at + 4]) == WIDE)
        .map(|(_, least)| least)
        .collect();
    let fits = match extra.split_first_chunk::<4>() {
        None => extra.is_empty() && least.is_empty(),
        Some((kind, numbers)) => {
            let (numbers, rest) = numbers.as_chunks::<8>();
            *kind == [1, 0, 8 * least.len() as u8, 0]
                && rest.is_empty()
                && numbers.len() == least.len()
                && !least.is_empty()
                && numbers
                    .iter()
                    .zip(least)
                    .all(|(n, least)| number(n) >= least)
        }
    };
    Ok(head.starts_with(b"PK\x01\x02") && comment == 0 && disk == 0 && fits)
}

fn said(file: &mut File, size: u64) -> io::Result<Option<Said>> {
    let mut tail = [0; END_64];
    let length = size.min(END_64 as u64);
    let tail = &mut tail[..length as usize];
    file.seek(SeekFrom::Start(size - length))?;
    file.read_exact(tail)?;
    let Some((_, last)) = tail.split_last_chunk::<END>() else {
        return Ok(None);
    };
    // One disk, all files on it, no comment.
    let here = number(&last[8..10]);
    if !last.starts_with(b"PK\x05\x06\0\0\0\0")
        || number(&last[10..12]) != here
        || last[20..] != [0, 0]
    {
        return Ok(None);
    }
    let old = Said {
        files: here,
        length: number(&last[12..16]),
        start: number(&last[16..20]),
        end: size - END as u64,
    };
    let Some(tail) = <&[u8; END_64]>::try_from(&*tail)
        .ok()
        .filter(|tail| tail.starts_with(b"PK\x06\x06") && tail[56..60] == *b"PK\x06\x07")
    else {
        return Ok(Some(old));
    };
    let said = Said {
        files: number(&tail[32..40]),
        length: number(&tail[40..48]),
        start: number(&tail[48..56]),
        end: size - END_64 as u64,
    };
    // Who goes by the record of old finds the same there, or that it has no room for it.
    let same = [
        (old.files, said.files, u64::from(u16::MAX)),
        (old.length, said.length, WIDE),
        (old.start, said.start, WIDE),
    ]
    .into_iter()
    .all(|(old, said, full)| old == full || old == said);
    let record = number(&tail[4..12]) == 44
        && tail[16..24] == [0; 8]
        && number(&tail[24..32]) == said.files
        && number(&tail[60..64]) == 0
        && number(&tail[64..72]) == said.end
        && number(&tail[72..76]) == 1;
    Ok((same && record).then_some(said))
}

/// Little-endian.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

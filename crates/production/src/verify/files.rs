//! Reads a production's folder: regular files only, every one of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Report;

/// Every file by its path with `/` between the parts.
pub(super) fn read(folder: &Path, report: &mut Report) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    walk(folder, "", &mut files, report);
    files
}

fn walk(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>, report: &mut Report) {
    let shown = if prefix.is_empty() { "." } else { prefix };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return report.add(shown, format!("the folder cannot be read: {error}")),
    };
    let mut empty = true;
    for entry in entries {
        empty = false;
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                report.add(shown, format!("the folder cannot be read: {error}"));
                continue;
            }
        };
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            report.add(entry.path().display().to_string(), "its name is not UTF-8");
            continue;
        };
        let path = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}/{name}")
        };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), &path, files, report),
            Ok(kind) if kind.is_file() => match fs::read(entry.path()) {
                Ok(bytes) => {
                    files.insert(path, bytes);
                }
                Err(error) => report.add(path, format!("it cannot be read: {error}")),
            },
            Ok(_) => report.add(path, "it is neither a file nor a folder"),
            Err(error) => report.add(path, format!("it cannot be read: {error}")),
        }
    }
    if empty {
        report.add(shown, "the folder is empty");
    }
}

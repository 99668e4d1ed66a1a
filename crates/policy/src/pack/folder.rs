//! A pack from its folder, for tenants who write their own: the one place of this crate that reads files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Pack, PackError, PackTexts};

/// Why a folder was refused.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file that has no place in a pack's folder.
    #[error("{0} has no place in a pack's folder")]
    Stray(PathBuf),
    /// The folder is named otherwise than the pack.
    #[error("the folder {folder} holds the pack {id}")]
    Name {
        /// The folder.
        folder: PathBuf,
        /// The pack's id.
        id: String,
    },
    /// The texts are not a pack.
    #[error("the folder does not hold a valid pack")]
    Pack(#[from] PackError),
}

/// Reads `pack.toml` and every `notice.<language>.md` of a folder that bears the pack's id. `cases.toml`, the pack's test
/// cases, is left aside; anything else is refused, since the digest would not cover it.
///
/// # Errors
/// When a file cannot be read, is not expected, or the texts are not a pack.
pub fn load_folder(folder: &Path) -> Result<Pack, FolderError> {
    let mut texts = PackTexts::default();
    let read = |path: &Path| fs::read_to_string(path).map_err(failed(path));
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        match name {
            Some("pack.toml" | "cases.toml") => {}
            Some(name) => match language_of(name) {
                Some(language) => {
                    texts.notices.insert(language.to_owned(), read(&path)?);
                }
                None => return Err(FolderError::Stray(path)),
            },
            None => return Err(FolderError::Stray(path)),
        }
    }
    texts.pack = read(&folder.join("pack.toml"))?;
    let pack = Pack::from_texts(texts)?;
    if folder.file_name().and_then(|name| name.to_str()) != Some(pack.id()) {
        return Err(FolderError::Name {
            folder: folder.to_owned(),
            id: pack.id().to_owned(),
        });
    }
    Ok(pack)
}

fn language_of(name: &str) -> Option<&str> {
    name.strip_prefix("notice.")?.strip_suffix(".md")
}

fn failed(path: &Path) -> impl Fn(io::Error) -> FolderError + '_ {
    |source| FolderError::Read {
        path: path.to_owned(),
        source,
    }
}

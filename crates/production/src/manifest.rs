//! The manifest: path, size and SHA-256 of every other file, sorted by path, in one spelling only.

use std::collections::BTreeMap;

use greffe_types::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What a production can show, by the name of its format in the manifest. A production is of the first that can show all of it,
/// so that verifiers of before go on verifying what they know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Version {
    /// Texts and mails.
    #[serde(rename = "greffe-production-v1")]
    V1,
    /// Edits, retractions, reactions and kinds that are not known, too.
    #[serde(rename = "greffe-production-v2")]
    V2,
}

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// What it can show.
    pub(crate) format: Version,
    /// By path.
    pub(crate) files: BTreeMap<String, File>,
}

/// What the manifest says of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// In bytes.
    pub(crate) size: u64,
    /// SHA-256, hexadecimal.
    pub(crate) sha256: Digest,
}

impl Manifest {
    /// Of files by path.
    pub(crate) fn of(files: &BTreeMap<String, Vec<u8>>, format: Version) -> Self {
        let files = files
            .iter()
            .map(|(path, bytes)| (path.clone(), File::of(bytes)));
        Self {
            format,
            files: files.collect(),
        }
    }

    /// Its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads a manifest; any other spelling of the same manifest is refused.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if manifest.encode() != bytes {
            return Err("it is not written in its one spelling".to_owned());
        }
        Ok(manifest)
    }
}

impl File {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            size: bytes.len() as u64,
            sha256: sha256(bytes),
        }
    }
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_has_one_spelling() {
        let files = BTreeMap::from([("a".to_owned(), b"x".to_vec())]);
        let manifest = Manifest::of(&files, Version::V1);
        let second = Manifest::of(&files, Version::V2);
        assert_eq!(Manifest::decode(&second.encode()).unwrap(), second);
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
        for other in [
            [b" ".as_slice(), &bytes].concat(),
            [bytes.as_slice(), b"\n"].concat(),
            String::from_utf8(bytes.clone())
                .unwrap()
                .replace("\"size\": 1", "\"size\": 1.0")
                .into_bytes(),
            String::from_utf8(bytes.clone())
                .unwrap()
                .replace("v1", "v3")
                .into_bytes(),
        ] {
            assert!(Manifest::decode(&other).is_err());
        }
    }
}

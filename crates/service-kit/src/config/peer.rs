//! Where a peer is.

use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// Where a peer is: exactly one of these. Of several places the first that answers is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerConfig {
    /// `host:port`.
    Address(String),
    /// The peer's ready file, read anew at every connect: the peer may come back on another port.
    Ready(PathBuf),
    /// `host:port` of each replica.
    #[serde(deserialize_with = "some")]
    Addresses(Vec<String>),
    /// The ready file of each replica.
    #[serde(deserialize_with = "some")]
    Readies(Vec<PathBuf>),
}

impl PeerConfig {
    /// Its ready files, for those who have to make their paths absolute.
    pub fn ready_files(&mut self) -> &mut [PathBuf] {
        match self {
            Self::Address(_) | Self::Addresses(_) => &mut [],
            Self::Ready(file) => core::slice::from_mut(file),
            Self::Readies(files) => files,
        }
    }
}

fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(from)?;
    if list.is_empty() {
        return Err(D::Error::custom("a peer needs at least one place"));
    }
    Ok(list)
}

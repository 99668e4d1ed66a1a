//! Shares at rest: sealed at their row, unsealed for one batch.

use greffe_envelope::ceremony::NodeShare;
use greffe_envelope::sealbox::{Place, SealKey};
use greffe_types::Digest;

use crate::error::Refusal;

/// Seals a share for the row it will lie in.
///
/// # Errors
/// When there is no randomness.
pub fn seal(key: &SealKey, share: &NodeShare) -> Result<Vec<u8>, Refusal> {
    let row = row(&share.key_id(), &share.share_epoch());
    key.seal(&place(&row), &share.to_bytes())
        .map_err(Refusal::internal)
}

/// Opens a sealed share and checks that it is the one of its row.
///
/// # Errors
/// When it was moved or altered, or is another.
pub fn unseal(
    key: &SealKey,
    key_id: &Digest,
    share_epoch: &Digest,
    sealed: &[u8],
) -> Result<NodeShare, Refusal> {
    let row = row(key_id, share_epoch);
    let plain = key.open(&place(&row), sealed).map_err(Refusal::internal)?;
    let share = NodeShare::from_bytes(&plain).map_err(Refusal::internal)?;
    if share.key_id() == *key_id && share.share_epoch() == *share_epoch {
        Ok(share)
    } else {
        Err(Refusal::internal("a stored share is of another key"))
    }
}

fn row(key_id: &Digest, share_epoch: &Digest) -> Vec<u8> {
    [key_id.as_bytes().as_slice(), share_epoch.as_bytes()].concat()
}

const fn place(row: &[u8]) -> Place<'_> {
    Place {
        table: "share",
        row,
        column: "sealed",
    }
}

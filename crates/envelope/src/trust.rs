//! The trust chain: what follows from a pinned tenant root, and nothing else.
//!
//! Root → trust bundle (issuer, nodes, roster, receipt keys, witnesses, packs) → device certificates, receipts, people's
//! acts. Root **and** every node of its committee → journaling key record → share epochs. Root → disclosure. Nodes →
//! currency. Device → acknowledgement. Root **and** archive → retirement of a journaling key.
//!
//! Every function here is pure: time is a parameter, and validity of a certificate is judged at archive-receipt time.

mod bundle;
mod device;
mod disclosure;
mod journal;
mod receipt;
mod retirement;
mod root;
mod state;

use greffe_types::{Digest, Millis};

pub use bundle::{Bundle, ROLES};
pub use device::{device_signer, verify_by_device, verify_device_cert};
pub use disclosure::{
    CURRENCY_MAX_AGE, CURRENCY_MAX_AHEAD, Trust, VerifiedDisclosure, verify_acknowledgement,
    verify_currency, verify_disclosure,
};
pub use journal::{VerifiedEpoch, verify_key_record, verify_share_epoch};
pub use receipt::{verify_range, verify_receipt, verify_void};
pub use retirement::{verify_key_retirement, verify_key_unused};
pub use root::{ISSUER, ROOT, RootKey};
pub use state::{Applied, TrustState};

use crate::chain::ChainError;
use crate::statement::StatementError;
use crate::wrap::KeyError;

/// Why something is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Encoding or signature.
    #[error("a statement's encoding or signature is refused")]
    Statement(#[from] StatementError),
    /// The chain of a conversation.
    #[error("a receipt or range contradicts its chain")]
    Chain(#[from] ChainError),
    /// A journaling key.
    #[error("a journaling key is refused")]
    Key(#[from] KeyError),
    /// A field is malformed.
    #[error("the field {0} is malformed")]
    Field(&'static str),
    /// It belongs to another tenant, device, key or conversation than expected.
    #[error("the {0} is another than expected")]
    Mismatch(&'static str),
    /// A lower version than one known, or the same version with other bytes.
    #[error("version {found} does not follow version {known}")]
    Version {
        /// The version known.
        known: u64,
        /// The version found.
        found: u64,
    },
    /// A name that the bundle does not know, or not at that time.
    #[error("{0} {1:?} is not known to the trust bundle")]
    Unknown(&'static str, String),
    /// Outside its period.
    #[error("the {what} is not valid at {at}")]
    Period {
        /// What.
        what: &'static str,
        /// When it was judged.
        at: Millis,
    },
    /// Revoked.
    #[error("the device certificate is revoked")]
    Revoked,
    /// Fewer signatures by nodes than needed.
    #[error("{found} of {needed} nodes have signed")]
    Quorum {
        /// Signatures needed.
        needed: usize,
        /// Valid signatures found.
        found: usize,
    },
    /// The journaling key is retired: nothing new is made of it.
    #[error("the journaling key {0} is retired")]
    Retired(Digest),
    /// A disclosure in force names the journaling key, which cannot be retired before another has taken that one's place.
    #[error("the journaling key {0} is named by a disclosure in force")]
    InUse(Digest),
    /// The verification shares do not lie on one polynomial of the degree and constant term they have to.
    #[error("the share epoch is inconsistent with the journaling key")]
    Shares,
}

/// `Err(Field)` unless a rule holds.
fn require(holds: bool, field: &'static str) -> Result<(), TrustError> {
    if holds {
        Ok(())
    } else {
        Err(TrustError::Field(field))
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

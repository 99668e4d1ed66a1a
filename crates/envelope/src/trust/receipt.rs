//! What the archive signs: receipts, voids, ranges.

use greffe_types::{Digest, Millis};

use super::{Bundle, TrustError};
use crate::chain::{ChainState, check_range, check_receipt, check_void};
use crate::pb;
use crate::statement::{Signed, Statement};

/// Verifies a receipt by a key valid when it was given, and that its head follows from its own fields. Continuity with the
/// receipt before is [`ChainState::accept`].
///
/// # Errors
/// [`TrustError`].
pub fn verify_receipt(
    receipt: &Signed<pb::Receipt>,
    bundle: &Bundle,
) -> Result<ChainState, TrustError> {
    signed_by_archive(
        receipt,
        &receipt.tenant,
        Millis::new(receipt.archived_at),
        bundle,
    )?;
    Ok(check_receipt(receipt)?)
}

/// Verifies a void and gives the digest that takes its number.
///
/// # Errors
/// [`TrustError`].
pub fn verify_void(void: &Signed<pb::Void>, bundle: &Bundle) -> Result<Digest, TrustError> {
    signed_by_archive(void, &void.tenant, Millis::new(void.at), bundle)?;
    Ok(check_void(void)?)
}

/// Verifies a range: nothing between its two heads is missing.
///
/// # Errors
/// [`TrustError`].
pub fn verify_range(
    range: &Signed<pb::RangeStatement>,
    bundle: &Bundle,
) -> Result<ChainState, TrustError> {
    signed_by_archive(range, &range.tenant, Millis::new(range.at), bundle)?;
    Ok(check_range(range)?)
}

/// Signed by exactly one receipt key, valid at the instant that the statement names.
pub(super) fn signed_by_archive<M: Statement>(
    signed: &Signed<M>,
    tenant: &str,
    at: Millis,
    bundle: &Bundle,
) -> Result<(), TrustError> {
    if tenant != bundle.tenant().as_str() {
        return Err(TrustError::Mismatch("tenant"));
    }
    let mut signers = signed.signers();
    let (Some(signer), None) = (signers.next(), signers.next()) else {
        return Err(TrustError::Field("signatures"));
    };
    let key = bundle.receipt_key(signer, at)?;
    Ok(signed.verify(signer, &key.key)?)
}

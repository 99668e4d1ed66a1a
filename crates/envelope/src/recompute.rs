//! The recipient's check that the journal got what it got itself: from the seed, every wrap again, compared byte by byte;
//! and the report of a sender whose wraps differ, which anyone can check.

use greffe_types::Digest;

use crate::derive::Seed;
use crate::envelope::{Envelope, EnvelopeError};
use crate::message::{make_wraps, seed_keys};
use crate::pb;
use crate::statement::Signed;
use crate::trust::{TrustError, verify_by_device};
use crate::wrap::{JournalKey, WrapView};

/// Reason of a report: the seed matches, a wrap is another than it gives. Third-party evidence.
pub const WRAP_MISMATCH: &str = "wrap-mismatch";
/// Reason of a report: the seed matches, the content key's commitment is another. Third-party evidence.
pub const CONTENT_COMMITMENT_MISMATCH: &str = "content-commitment-mismatch";
/// Reason of a report: the seed does not match. Nothing is proved: the reporter may have made the seed up.
pub const SEED_COMMITMENT_MISMATCH: &str = "seed-commitment-mismatch";

/// How an envelope differs from what its seed gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The seed is not the one committed to: fail closed, report without evidence.
    #[error("the seed does not match the seed commitment")]
    SeedCommitment,
    /// The content key is not the one committed to.
    #[error("the content key does not match its commitment")]
    ContentCommitment,
    /// A wrap's digest in the signed body is not that of the wrap the seed gives.
    #[error("the wrap for journaling key {0} is not the one that the seed gives")]
    Wrap(Digest),
    /// The wraps handed over are not those that the signed body names: the carrier's fault, nothing about the sender.
    #[error("the wraps are not those that were signed")]
    Carrier,
    /// The keys given are not those of the header.
    #[error("the journaling keys are not those of the header")]
    Keys,
}

impl Mismatch {
    /// The reason a report gives; none when there is nothing to report about the sender.
    pub const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::SeedCommitment => Some(SEED_COMMITMENT_MISMATCH),
            Self::ContentCommitment => Some(CONTENT_COMMITMENT_MISMATCH),
            Self::Wrap(_) => Some(WRAP_MISMATCH),
            Self::Carrier | Self::Keys => None,
        }
    }
}

/// Why a report proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The reported envelope is malformed.
    #[error("the reported envelope is refused")]
    Envelope(#[from] EnvelopeError),
    /// A signature does not verify.
    #[error("a signature or certificate of the report is refused")]
    Trust(#[from] TrustError),
    /// Malformed, or about another certificate.
    #[error("the field {0} of the report is refused")]
    Field(&'static str),
    /// The reported seed is not the one that the sender committed to.
    #[error("the reported seed does not match the sender's commitment")]
    NoEvidence,
    /// The envelope is exactly what the seed gives: the report is false.
    #[error("the reported envelope is what its seed gives")]
    Unfounded,
}

/// Checks seed commitment, content commitment and every wrap, in this order. `tenant` is the sender's certificate's; `keys`
/// are those of the header. `wraps` are compared as received too when given; a service that no longer carries them leaves
/// them empty: the body's digests decide.
///
/// # Errors
/// [`Mismatch`].
pub fn recompute(
    seed: &Seed,
    tenant: &str,
    envelope: &Envelope,
    keys: &[&JournalKey],
    wraps: &[pb::Wrap],
) -> Result<(), Mismatch> {
    let derived = seed_keys(seed, tenant, envelope);
    if derived.commitment() != envelope.seed_commitment() {
        return Err(Mismatch::SeedCommitment);
    }
    let header = envelope.header();
    if derived.cek().content(&header.digest()).1 != envelope.commitment() {
        return Err(Mismatch::ContentCommitment);
    }
    let rd = envelope.record_digest();
    let expected = make_wraps(&derived, &rd, header, keys).map_err(|_| Mismatch::Keys)?;
    for (wrap, named) in expected.iter().zip(&envelope.body().wraps) {
        let digest = WrapView::parse(&wrap.sealed).map(|view| view.digest());
        let same = (&wrap.tenant, &wrap.key_id) == (&named.tenant, &named.key_id)
            && digest.is_ok_and(|digest| digest.as_bytes().as_slice() == named.digest);
        if !same {
            let key_id = Digest::try_from(wrap.key_id.as_slice()).unwrap_or_default();
            return Err(Mismatch::Wrap(key_id));
        }
    }
    if !wraps.is_empty() && wraps != expected {
        return Err(Mismatch::Carrier);
    }
    Ok(())
}

/// Verifies a report: signed by its device, about an envelope that the sender's device signed, and founded. Gives what is
/// proved against the sender. Certificates are verified by the caller.
///
/// # Errors
/// [`ReportError::NoEvidence`] when the seed does not match: nothing is proved against anyone;
/// [`ReportError::Unfounded`] when the envelope is faultless.
pub fn verify_report(
    report: &Signed<pb::Report>,
    reporter: &pb::DeviceCert,
    sender: &Signed<pb::DeviceCert>,
    keys: &[&JournalKey],
) -> Result<Mismatch, ReportError> {
    verify_by_device(report, reporter)?;
    if (&report.tenant, &report.user, &report.device)
        != (&reporter.tenant, &reporter.user, &reporter.device)
    {
        return Err(ReportError::Field("device"));
    }
    let raw = report
        .envelope
        .clone()
        .ok_or(ReportError::Field("envelope"))?;
    let envelope = Envelope::decode(raw)?;
    if envelope.header().device_cert() != sender.digest() {
        return Err(ReportError::Field("envelope.device_cert"));
    }
    envelope
        .verify_signature(&sender.envelope_key)
        .map_err(TrustError::from)?;
    let seed: [u8; 32] = report
        .seed
        .as_slice()
        .try_into()
        .map_err(|_| ReportError::NoEvidence)?;
    match recompute(
        &Seed::from_bytes(seed),
        &sender.tenant,
        &envelope,
        keys,
        &[],
    ) {
        Ok(()) => Err(ReportError::Unfounded),
        Err(Mismatch::SeedCommitment) => Err(ReportError::NoEvidence),
        Err(Mismatch::Carrier | Mismatch::Keys) => Err(ReportError::Field("keys")),
        Err(found) if found.reason() == Some(report.reason.as_str()) => Ok(found),
        Err(_) => Err(ReportError::Field("reason")),
    }
}

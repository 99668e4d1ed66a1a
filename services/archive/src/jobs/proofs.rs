//! Proofs of knowledge of archived wraps, checked many at once before their batch goes to the log.

use greffe_envelope::envelope::Envelope;
use greffe_envelope::pb;
use greffe_envelope::trust::{TrustState, device_signer};
use greffe_envelope::wrap::{JournalKey, ProofJob, WrapView, verify_proofs};
use greffe_types::Digest;

use crate::store::records::Proof;

/// An envelope whose proofs are to be checked, with its wraps.
#[derive(Debug)]
pub struct Unchecked {
    /// The record.
    pub record: u64,
    /// The envelope, as stored.
    pub envelope: pb::SealedEnvelope,
    /// Its wraps, as stored; none when they have been destroyed since.
    pub wraps: Vec<pb::Wrap>,
}

/// What the check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The record.
    pub record: u64,
    /// [`Proof::Verified`] or [`Proof::Failed`].
    pub proof: Proof,
    /// The envelope digest.
    pub envelope: Digest,
    /// The sending device, for the incident.
    pub device: String,
}

/// A parsed wrap and what it is checked against.
struct Parsed<'a> {
    owner: usize,
    key: &'a JournalKey,
    rd: Digest,
    view: WrapView,
}

/// Checks all proofs of all envelopes. Blocks for as long as the arithmetic takes. What cannot be parsed, or has no wrap or
/// no key any more, has not been shown to hold.
pub fn check(trust: &TrustState, unchecked: &[Unchecked]) -> Vec<Checked> {
    let mut checked = Vec::with_capacity(unchecked.len());
    let mut parsed = Vec::new();
    for (owner, item) in unchecked.iter().enumerate() {
        let (envelope, device, complete) = match Envelope::decode(item.envelope.clone()) {
            Ok(envelope) => {
                let complete = parse(trust, owner, &envelope, item, &mut parsed);
                let device = device_signer(&envelope.header().device());
                (envelope.digest(), device, complete)
            }
            Err(_) => (Digest::ZERO, String::new(), false),
        };
        checked.push(Checked {
            record: item.record,
            proof: if complete {
                Proof::Verified
            } else {
                Proof::Failed
            },
            envelope,
            device,
        });
    }
    let jobs: Vec<ProofJob<'_>> = parsed
        .iter()
        .map(|p| ProofJob {
            key: p.key,
            rd: p.rd,
            wrap: &p.view,
        })
        .collect();
    for (p, held) in parsed.iter().zip(verify_proofs(&jobs)) {
        if held.is_err()
            && let Some(checked) = checked.get_mut(p.owner)
        {
            checked.proof = Proof::Failed;
        }
    }
    checked
}

/// Whether every wrap that the envelope names is there.
fn parse<'a>(
    trust: &'a TrustState,
    owner: usize,
    envelope: &Envelope,
    item: &Unchecked,
    parsed: &mut Vec<Parsed<'a>>,
) -> bool {
    for wrap in &item.wraps {
        let key = Digest::try_from(wrap.key_id.as_slice())
            .ok()
            .and_then(|id| trust.key(&id));
        let (Some(key), Ok(view)) = (key, WrapView::parse(&wrap.sealed)) else {
            return false;
        };
        parsed.push(Parsed {
            owner,
            key,
            rd: envelope.record_digest(),
            view,
        });
    }
    item.wraps.len() == envelope.body().wraps.len()
}

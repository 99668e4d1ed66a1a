//! Proof of knowledge of a wrap's exponent: TDH2 (Shoup and Gennaro, "Securing Threshold Cryptosystems against Chosen
//! Ciphertext Attack", 1998, section 4), the label being the whole record.
//!
//! ```text
//! L     = H("tdh2" || rd || LP tenant || key_id || H(pk) || enc || ct)
//! k     = Expand(prk, "tdh2-k" || L, 48) mod q
//! c     = H("tdh2-c" || L || G || G2 || E || U2 || W || W2) mod q                          compressed SEC1
//! proof = U2 (33) || W (33) || W2 (33) || z (32)       U2 = rG2, W = kG, W2 = kG2, z = k + cr
//! check   zG = W + cE, zG2 = W2 + cU2
//! ```
//!
//! Without it the escrow would be a decryption oracle: a victim's point times a factor, in an attacker's own envelope, is
//! opened under the attacker's order and divided again.

use greffe_types::Digest;
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use zeroize::Zeroizing;

use super::{JournalKey, WrapView};
use crate::curve::{COMPRESSED, CurveError, FixedBase, Point, Scalar};
use crate::derive::SeedKeys;
use crate::label::{hash, label, lp};
use crate::limits::PROOF;

/// Why a proof was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// A point or the scalar is malformed.
    #[error("the proof of knowledge is malformed")]
    Malformed(#[source] CurveError),
    /// Well formed, but not a proof for this record and key.
    #[error("the proof of knowledge does not verify")]
    Invalid,
}

/// One proof of a batch.
#[derive(Debug, Clone, Copy)]
pub struct ProofJob<'a> {
    /// The journaling key.
    pub key: &'a JournalKey,
    /// The record digest.
    pub rd: Digest,
    /// The wrap.
    pub wrap: &'a WrapView,
}

/// A proof in its parts with its challenge.
struct Parsed {
    e: Point,
    u2: Point,
    w: Point,
    w2: Point,
    z: Scalar,
    c: Scalar,
}

/// `L`.
pub(super) fn statement(rd: &Digest, key: &JournalKey, enc: &[u8], ct: &[u8]) -> Digest {
    hash(
        "tdh2",
        &[
            rd.as_bytes(),
            &lp(key.tenant().as_bytes()),
            key.key_id().as_bytes(),
            key.public_key_digest().as_bytes(),
            enc,
            ct,
        ],
    )
}

/// Proves knowledge of `r` with `e = rG`.
pub(super) fn prove(
    seed: &SeedKeys,
    statement: &Digest,
    r: &Scalar,
    e: Point,
) -> Result<[u8; PROOF], CurveError> {
    let k = Zeroizing::new(Scalar::reduce48(&seed.proof_nonce(statement))?);
    let (g, g2) = (FixedBase::generator(), FixedBase::generator2());
    let [e, u2, w, w2] = Point::batch_compressed(&[e, g2.mul(r), g.mul(&k), g2.mul(&k)])?;
    let c = challenge(statement, &e, &u2, &w, &w2)?;
    let z = Zeroizing::new(*k + c * *r);
    let mut proof = [0_u8; PROOF];
    for (slot, point) in proof.chunks_mut(COMPRESSED).zip([&u2, &w, &w2]) {
        slot.copy_from_slice(point);
    }
    proof[3 * COMPRESSED..].copy_from_slice(z.to_bytes().as_slice());
    Ok(proof)
}

/// Checks one proof.
///
/// # Errors
/// [`ProofError`].
pub fn verify_proof(key: &JournalKey, rd: &Digest, wrap: &WrapView) -> Result<(), ProofError> {
    let p = Parsed::new(key, rd, wrap).map_err(ProofError::Malformed)?;
    let c = -p.c;
    let first = FixedBase::generator().mul(&p.z) + p.e.mul_vartime(&c);
    let second = FixedBase::generator2().mul(&p.z) + p.u2.mul_vartime(&c);
    if first == p.w && second == p.w2 {
        Ok(())
    } else {
        Err(ProofError::Invalid)
    }
}

/// Checks many proofs at once, about three times as fast as one by one: all of their equations, each times its own 128-bit
/// weight, have to add up to the identity. The weights are a hash of everything in the batch, so a batch with a false
/// proof passes with probability below 2^-120 per attempt at hashing. When the sum is off, each is checked by itself.
///
/// The result has one entry a job, in order.
pub fn verify_proofs(jobs: &[ProofJob<'_>]) -> Vec<Result<(), ProofError>> {
    let parsed: Vec<_> = jobs
        .iter()
        .map(|job| Parsed::new(job.key, &job.rd, job.wrap).map_err(ProofError::Malformed))
        .collect();
    if batch_holds(parsed.iter().flatten()) {
        return parsed.into_iter().map(|p| p.map(drop)).collect();
    }
    jobs.iter()
        .map(|job| verify_proof(job.key, &job.rd, job.wrap))
        .collect()
}

/// `sum a_i (z_i G - c_i E_i - W_i) + b_i (z_i G2 - c_i U2_i - W2_i)` is the identity.
fn batch_holds<'a>(proofs: impl Iterator<Item = &'a Parsed> + Clone) -> bool {
    let mut weights = Weights::new(proofs.clone());
    let (mut g, mut g2) = (Scalar::ZERO, Scalar::ZERO);
    let mut terms = Vec::new();
    for p in proofs {
        let (a, b) = (weights.next(), weights.next());
        g = g + a * p.z;
        g2 = g2 + b * p.z;
        terms.extend([(p.e, -(a * p.c)), (p.u2, -(b * p.c)), (-p.w, a), (-p.w2, b)]);
    }
    let sum = FixedBase::generator().mul(&g)
        + FixedBase::generator2().mul(&g2)
        + Point::lincomb_vartime(&terms);
    sum.is_identity()
}

/// Weights of a batch. A challenge covers statement, E, U2, W and W2; with z it covers all that is in a proof.
struct Weights(shake::Shake256Reader);

impl Weights {
    fn new<'a>(proofs: impl Iterator<Item = &'a Parsed>) -> Self {
        let mut xof = Shake256::default();
        xof.update(&label("tdh2-batch"));
        for p in proofs {
            xof.update(p.c.to_bytes().as_slice());
            xof.update(p.z.to_bytes().as_slice());
        }
        Self(xof.finalize_xof())
    }

    fn next(&mut self) -> Scalar {
        let mut bytes = [0_u8; 32];
        self.0.read(&mut bytes[16..]);
        Scalar::from_canonical(&bytes).expect("16 bytes are below the group order")
    }
}

impl Parsed {
    fn new(key: &JournalKey, rd: &Digest, wrap: &WrapView) -> Result<Self, CurveError> {
        let (points, z) = wrap.proof().split_at(3 * COMPRESSED);
        let z = Scalar::from_canonical(z)?;
        let mut bytes = [[0_u8; COMPRESSED]; 3];
        for (slot, point) in bytes.iter_mut().zip(points.chunks(COMPRESSED)) {
            slot.copy_from_slice(point);
        }
        let [u2, w, w2] = bytes;
        let e = wrap.point();
        let statement = statement(rd, key, wrap.enc(), wrap.ct());
        Ok(Self {
            c: challenge(&statement, &e.to_compressed()?, &u2, &w, &w2)?,
            e,
            u2: Point::from_compressed(&u2)?,
            w: Point::from_compressed(&w)?,
            w2: Point::from_compressed(&w2)?,
            z,
        })
    }
}

/// `c`.
fn challenge(
    statement: &Digest,
    e: &[u8; COMPRESSED],
    u2: &[u8; COMPRESSED],
    w: &[u8; COMPRESSED],
    w2: &[u8; COMPRESSED],
) -> Result<Scalar, CurveError> {
    let g = Point::GENERATOR.to_compressed()?;
    let g2 = Point::generator2().to_compressed()?;
    let digest = hash("tdh2-c", &[statement.as_bytes(), &g, &g2, e, u2, w, w2]);
    Scalar::reduce32(digest.as_bytes())
}

//! A node's proof that it still holds its share: Schnorr's proof of knowledge of s_i behind Y_i, made for one question.
//!
//! ```text
//! c = H("share-proof" || LP tenant || key_id || share epoch || be16 i || LP node || nonce || be64 at || Y_i || A) mod q
//! A = kG, z = k + c s_i;   checked: A = zG - c Y_i
//! k = HKDF(IKM s_i, salt 32 fresh bytes, "share-proof-k" || H(all of it but A), 48) mod q
//! ```
//!
//! It opens nothing: the node multiplies no point that it is given.

use greffe_types::Millis;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::epoch::ShareHolders;
use super::poly::PointBytes;
use super::share::NodeShare;
use crate::curve::{CurveError, Point, Scalar};
use crate::label::{Prk, hash, lp};
use crate::pb;

/// Why a proof was not made or is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareProofError {
    /// It answers another question, or is of another share: what differs.
    #[error("the proof is of another {0}")]
    Other(&'static str),
    /// A point or scalar is malformed.
    #[error("a point or scalar of the proof is malformed")]
    Malformed(#[source] CurveError),
    /// The node does not know the share behind its verification share.
    #[error("the proof does not verify: the node does not hold the share")]
    Proof,
}

/// Proves that a share is held. The nonce is whoever asks's.
///
/// # Errors
/// When a scalar comes out as zero, which does not happen.
pub fn prove_share(
    share: &NodeShare,
    node: &str,
    nonce: &[u8; 32],
    at: Millis,
    rng: &mut impl CryptoRng,
) -> Result<pb::ShareProof, ShareProofError> {
    let mut salt = Zeroizing::new([0; 32]);
    rng.fill_bytes(salt.as_mut());
    prove_with_salt(share, node, nonce, at, &salt)
}

/// As [`prove_share`] with the 32 bytes of salt given: what vectors are made with.
///
/// # Errors
/// As [`prove_share`].
pub fn prove_with_salt(
    share: &NodeShare,
    node: &str,
    nonce: &[u8; 32],
    at: Millis,
    salt: &[u8; 32],
) -> Result<pb::ShareProof, ShareProofError> {
    let malformed = ShareProofError::Malformed;
    let mut proof = pb::ShareProof {
        tenant: share.tenant().to_owned(),
        key_id: share.key_id().to_vec(),
        share_epoch: share.share_epoch().to_vec(),
        index: u32::from(share.index()),
        node: node.to_owned(),
        nonce: nonce.to_vec(),
        at: at.get(),
        commitment: Vec::new(),
        response: Vec::new(),
    };
    let public = share.verification_share();
    let all = parts(&proof, share.index(), &public);
    let digest = hash("share-proof", &[&all]);
    let prk = Prk::extract(salt, share.scalar().to_bytes().as_ref());
    let wide = prk.expand::<48>("share-proof-k", &[digest.as_bytes()]);
    let k = Scalar::reduce48(&wide)
        .map(Zeroizing::new)
        .map_err(malformed)?;
    let commitment = Point::mul_base(&k).to_compressed().map_err(malformed)?;
    let c = challenge(&all, &commitment)?;
    let z = Zeroizing::new(*k + c * *share.scalar());
    proof.commitment = commitment.to_vec();
    proof.response = z.to_bytes().to_vec();
    Ok(proof)
}

/// Verifies that a node answered this question with a share of this epoch. The node's signature is checked apart.
///
/// # Errors
/// [`ShareProofError`].
pub fn verify_share_proof(
    proof: &pb::ShareProof,
    epoch: &ShareHolders,
    node: &str,
    nonce: &[u8; 32],
) -> Result<(), ShareProofError> {
    let malformed = ShareProofError::Malformed;
    let other = ShareProofError::Other;
    let holder = epoch.by_node(node).ok_or(ShareProofError::Other("node"))?;
    if proof.node != node || proof.index != u32::from(holder.index) {
        return Err(other("node"));
    }
    if proof.nonce != nonce {
        return Err(other("question"));
    }
    if proof.tenant != epoch.tenant()
        || proof.key_id != epoch.key_id().as_bytes()
        || proof.share_epoch != epoch.digest().as_bytes()
    {
        return Err(other("share epoch"));
    }
    let public = Point::from_compressed(&holder.verification_share).map_err(malformed)?;
    let commitment: PointBytes = proof
        .commitment
        .as_slice()
        .try_into()
        .map_err(|_| malformed(CurveError::Point))?;
    let z = Scalar::from_canonical(&proof.response).map_err(malformed)?;
    let all = parts(proof, holder.index, &holder.verification_share);
    let c = challenge(&all, &commitment)?;
    let back = Point::lincomb_vartime(&[(Point::GENERATOR, z), (public, -c)]);
    if back.to_compressed().as_ref() == Ok(&commitment) {
        Ok(())
    } else {
        Err(ShareProofError::Proof)
    }
}

/// Everything that the challenge hashes before A.
fn parts(proof: &pb::ShareProof, index: u16, public: &PointBytes) -> Vec<u8> {
    [
        &lp(proof.tenant.as_bytes())[..],
        &proof.key_id,
        &proof.share_epoch,
        &index.to_be_bytes(),
        &lp(proof.node.as_bytes()),
        &proof.nonce,
        &proof.at.to_be_bytes(),
        public,
    ]
    .concat()
}

fn challenge(parts: &[u8], commitment: &PointBytes) -> Result<Scalar, ShareProofError> {
    Scalar::reduce32(hash("share-proof", &[parts, commitment]).as_bytes())
        .map_err(ShareProofError::Malformed)
}

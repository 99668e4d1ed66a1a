//! One node's partial opening D_i = s_i·E and the Chaum-Pedersen proof that it used the share behind Y_i.

use greffe_types::Digest;
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use crate::ceremony::PointBytes;
use crate::curve::{COMPRESSED, CurveError, FewTimes, Point, Scalar};
use crate::label::{Prk, hash};

/// What a partial opening is about: all of it enters the proof's challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialStatement {
    /// The order it answers.
    pub order: Digest,
    /// The record it opens.
    pub envelope: Digest,
    /// The journaling key.
    pub key_id: Digest,
    /// The share epoch the share belongs to.
    pub share_epoch: Digest,
    /// Share index, from 1.
    pub index: u16,
    /// Y_i = s_i·G, compressed SEC1.
    pub verification_share: PointBytes,
    /// E, the P-256 half of the wrap's encapsulation, compressed SEC1.
    pub encapsulation: PointBytes,
}

/// A partial opening with its proof: D_i ‖ c ‖ z, 97 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Partial {
    point: PointBytes,
    challenge: [u8; 32],
    response: [u8; 32],
}

/// Why a partial opening was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartialError {
    /// E is the identity, not canonical or not on the curve.
    #[error("the encapsulation is not a point of P-256")]
    Encapsulation(#[source] CurveError),
    /// Y_i is the identity, not canonical or not on the curve.
    #[error("the verification share is not a point of P-256")]
    VerificationShare(#[source] CurveError),
    /// The secret share does not belong to Y_i.
    #[error("the share does not match its verification share")]
    Share,
    /// D_i is the identity, not canonical or not on the curve.
    #[error("the partial opening is not a point of P-256")]
    Point(#[source] CurveError),
    /// c or z is q or more, or c is zero.
    #[error("the proof's scalars are not canonical")]
    Scalars(#[source] CurveError),
    /// The proof does not verify: the node answered wrongly.
    #[error("the proof of the partial opening does not verify")]
    Proof,
}

impl Partial {
    /// Bytes on the wire.
    pub const SIZE: usize = COMPRESSED + 64;

    /// D_i ‖ c ‖ z.
    pub fn to_bytes(&self) -> Zeroizing<[u8; Self::SIZE]> {
        let mut out = Zeroizing::new([0; Self::SIZE]);
        out[..COMPRESSED].copy_from_slice(&self.point);
        out[COMPRESSED..COMPRESSED + 32].copy_from_slice(&self.challenge);
        out[COMPRESSED + 32..].copy_from_slice(&self.response);
        out
    }

    /// Takes the bytes apart; nothing is verified.
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let mut out = Self {
            point: [0; COMPRESSED],
            challenge: [0; 32],
            response: [0; 32],
        };
        out.point.copy_from_slice(&bytes[..COMPRESSED]);
        out.challenge
            .copy_from_slice(&bytes[COMPRESSED..COMPRESSED + 32]);
        out.response.copy_from_slice(&bytes[COMPRESSED + 32..]);
        out
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.point.zeroize();
    }
}

impl core::fmt::Debug for Partial {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Partial(..)")
    }
}

/// Answers with a share: D_i = s_i·E and its proof.
///
/// The nonce is derived from the share, fresh salt and the statement, so that neither a weak random generator nor a
/// repeated salt can make two challenges meet one nonce.
///
/// # Errors
/// When E is not a point, or the share does not belong to the statement's Y_i.
pub fn answer_partial(
    statement: &PartialStatement,
    share: &Scalar,
    rng: &mut impl CryptoRng,
) -> Result<Partial, PartialError> {
    let mut salt = Zeroizing::new([0; 32]);
    rng.fill_bytes(salt.as_mut());
    answer_with_salt(statement, share, &salt)
}

/// As [`answer_partial`] with the 32 bytes of salt given: what vectors are made with.
///
/// # Errors
/// As [`answer_partial`].
pub fn answer_with_salt(
    statement: &PartialStatement,
    share: &Scalar,
    salt: &[u8; 32],
) -> Result<Partial, PartialError> {
    let encapsulation =
        Point::from_compressed(&statement.encapsulation).map_err(PartialError::Encapsulation)?;
    let encapsulation = FewTimes::new(encapsulation);
    let points = [Point::mul_base(share), encapsulation.mul(share)];
    // E is no identity, so only a share of zero gives one.
    let [public, point] = Point::batch_compressed(&points).map_err(|_| PartialError::Share)?;
    if public != statement.verification_share {
        return Err(PartialError::Share);
    }
    let nonce = statement.nonce(&point, share, salt)?;
    let commitments = (Point::mul_base(&nonce), encapsulation.mul(&nonce));
    let challenge = statement.challenge(&point, &commitments.0, &commitments.1)?;
    let response = Zeroizing::new(*nonce + challenge * *share);
    Ok(Partial {
        point,
        challenge: *challenge.to_bytes(),
        response: *response.to_bytes(),
    })
}

/// Verifies a partial opening and gives D_i.
///
/// # Errors
/// Any error blames the node that answered, except those about E and Y_i, which the caller brought.
pub fn verify_partial(
    statement: &PartialStatement,
    partial: &Partial,
) -> Result<Point, PartialError> {
    let encapsulation =
        Point::from_compressed(&statement.encapsulation).map_err(PartialError::Encapsulation)?;
    let verification_share = Point::from_compressed(&statement.verification_share)
        .map_err(PartialError::VerificationShare)?;
    let point = Point::from_compressed(&partial.point).map_err(PartialError::Point)?;
    let c = Scalar::from_canonical_nonzero(&partial.challenge).map_err(PartialError::Scalars)?;
    let z = Scalar::from_canonical(&partial.response).map_err(PartialError::Scalars)?;
    let a = Point::lincomb_vartime(&[(Point::GENERATOR, z), (verification_share, -c)]);
    let b = Point::lincomb_vartime(&[(encapsulation, z), (point, -c)]);
    if statement.challenge(&partial.point, &a, &b)? == c {
        Ok(point)
    } else {
        Err(PartialError::Proof)
    }
}

impl PartialStatement {
    /// Everything the challenge hashes before A and B.
    fn parts<'a>(&'a self, index: &'a [u8; 2], point: &'a PointBytes) -> [&'a [u8]; 8] {
        [
            self.order.as_bytes(),
            self.envelope.as_bytes(),
            self.key_id.as_bytes(),
            self.share_epoch.as_bytes(),
            index,
            &self.verification_share,
            &self.encapsulation,
            point,
        ]
    }

    fn nonce(
        &self,
        point: &PointBytes,
        share: &Scalar,
        salt: &[u8; 32],
    ) -> Result<Zeroizing<Scalar>, PartialError> {
        let index = self.index.to_be_bytes();
        let digest = hash("partial", &self.parts(&index, point));
        let prk = Prk::extract(salt, share.to_bytes().as_ref());
        let wide = prk.expand::<48>("partial-k", &[digest.as_bytes()]);
        Scalar::reduce48(&wide)
            .map(Zeroizing::new)
            .map_err(PartialError::Scalars)
    }

    fn challenge(&self, point: &PointBytes, a: &Point, b: &Point) -> Result<Scalar, PartialError> {
        let index = self.index.to_be_bytes();
        let commitments = Point::batch_compressed(&[*a, *b]).map_err(|_| PartialError::Proof)?;
        let mut parts = self.parts(&index, point).to_vec();
        parts.extend(commitments.iter().map(|bytes| &bytes[..]));
        Scalar::reduce32(hash("partial", &parts).as_bytes()).map_err(PartialError::Scalars)
    }
}

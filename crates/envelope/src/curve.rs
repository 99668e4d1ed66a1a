//! P-256 behind one interface: scalars, points, strict SEC1 encodings, the second generator, fixed-base tables.
//!
//! Nothing else in the workspace names a P-256 library, so the backend can change here. What multiplies by a secret is
//! constant-time (`*`, [`FixedBase::mul`]); what ends in `_vartime` is for public values only.
//!
//! A [`Point`] may be the identity while it is being computed with; it can neither be parsed nor encoded as one.

mod scalar;
mod table;

use core::ops::{Add, AddAssign, Mul, Neg, Sub};
use std::sync::OnceLock;

use p256::elliptic_curve::group::Group;
use p256::elliptic_curve::ops::{LinearCombination, MulVartime};
use p256::elliptic_curve::sec1::{FromSec1Point, ToSec1Point};
use p256::elliptic_curve::{BatchNormalize, point::AffineCoordinates};
use p256::hash2curve::GroupDigest;
use p256::{AffinePoint, NistP256, ProjectivePoint, Sec1Point};

pub use scalar::Scalar;
pub use table::FixedBase;

/// Bytes of a compressed point (SEC1 2.3.3).
pub const COMPRESSED: usize = 33;
/// Bytes of an uncompressed point (SEC1 2.3.3).
pub const UNCOMPRESSED: usize = 65;
/// Bytes of a scalar, big-endian.
pub const SCALAR: usize = 32;
/// Domain separation tag of the second generator: raw ASCII.
pub const G2_DST: &[u8] = b"greffe/v1/tdh2-g2";

/// Why bytes are no point or scalar, or a point has no encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CurveError {
    /// Wrong length, wrong form, not on the curve, or a coordinate not below the field's modulus.
    #[error("not a point of P-256 in the encoding expected here")]
    Point,
    /// The identity, which is refused wherever a point is read or written.
    #[error("the identity of P-256 where a point was expected")]
    Identity,
    /// Not 32 bytes below the group order, or zero where zero is refused.
    #[error("not a scalar of P-256 in canonical form")]
    Scalar,
}

/// A point of P-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Point(ProjectivePoint);

impl Point {
    /// The identity: a start for sums; never parsed, never encoded.
    pub const IDENTITY: Self = Self(ProjectivePoint::IDENTITY);

    /// The base point `G`.
    pub const GENERATOR: Self = Self(ProjectivePoint::GENERATOR);

    /// The second generator `G2`: RFC 9380 `P256_XMD:SHA-256_SSWU_RO_` of the empty message under [`G2_DST`].
    pub fn generator2() -> Self {
        static G2: OnceLock<Point> = OnceLock::new();
        *G2.get_or_init(|| hash_to_curve(G2_DST, b""))
    }

    /// `k * G` in constant time through a table.
    pub fn mul_base(k: &Scalar) -> Self {
        FixedBase::generator().mul(k)
    }

    /// Reads 33 bytes of compressed SEC1.
    ///
    /// # Errors
    /// [`CurveError::Point`] for any other form, a non-canonical coordinate or a point off the curve (the identity has
    /// no 33-byte form).
    pub fn from_compressed(bytes: &[u8]) -> Result<Self, CurveError> {
        if bytes.len() != COMPRESSED || !matches!(bytes[0], 2 | 3) {
            return Err(CurveError::Point);
        }
        parse(bytes)
    }

    /// Reads 65 bytes of uncompressed SEC1.
    ///
    /// # Errors
    /// As [`Point::from_compressed`].
    pub fn from_uncompressed(bytes: &[u8]) -> Result<Self, CurveError> {
        if bytes.len() != UNCOMPRESSED || bytes[0] != 4 {
            return Err(CurveError::Point);
        }
        parse(bytes)
    }

    /// Compressed SEC1, 33 bytes.
    ///
    /// # Errors
    /// [`CurveError::Identity`].
    pub fn to_compressed(&self) -> Result<[u8; COMPRESSED], CurveError> {
        compress(&self.0.to_affine())
    }

    /// Compressed SEC1 of several points, for the price of one inversion.
    ///
    /// # Errors
    /// [`CurveError::Identity`] when any of them is the identity.
    pub fn batch_compressed<const N: usize>(
        points: &[Self; N],
    ) -> Result<[[u8; COMPRESSED]; N], CurveError> {
        let affine = ProjectivePoint::batch_normalize(&points.map(|point| point.0));
        let mut out = [[0_u8; COMPRESSED]; N];
        for (bytes, point) in out.iter_mut().zip(&affine) {
            *bytes = compress(point)?;
        }
        Ok(out)
    }

    /// Uncompressed SEC1, 65 bytes.
    ///
    /// # Errors
    /// [`CurveError::Identity`].
    pub fn to_uncompressed(&self) -> Result<[u8; UNCOMPRESSED], CurveError> {
        let encoded = self.0.to_affine().to_sec1_point(false);
        encoded
            .as_bytes()
            .try_into()
            .map_err(|_| CurveError::Identity)
    }

    /// The x coordinate, 32 bytes big-endian: what P-256 Diffie-Hellman gives (RFC 9180 4.1).
    ///
    /// # Errors
    /// [`CurveError::Identity`].
    pub fn x(&self) -> Result<[u8; 32], CurveError> {
        if self.is_identity() {
            return Err(CurveError::Identity);
        }
        Ok(self.0.to_affine().x().into())
    }

    /// Whether it is the identity.
    pub fn is_identity(&self) -> bool {
        self.0.is_identity().into()
    }

    /// `k * self`, not constant-time: for public values only.
    pub fn mul_vartime(&self, k: &Scalar) -> Self {
        Self(self.0.mul_vartime(k.inner()))
    }

    /// The sum of `k_i * P_i`, not constant-time: for public values only. The identity for no terms.
    pub fn lincomb_vartime(terms: &[(Self, Scalar)]) -> Self {
        if terms.is_empty() {
            return Self::IDENTITY;
        }
        let terms: Vec<_> = terms.iter().map(|(p, k)| (p.0, *k.inner())).collect();
        Self(ProjectivePoint::lincomb_vartime(terms.as_slice()))
    }
}

/// RFC 9380 `P256_XMD:SHA-256_SSWU_RO_`.
///
/// # Panics
/// When `dst` is empty.
pub fn hash_to_curve(dst: &[u8], message: &[u8]) -> Point {
    Point(
        NistP256::hash_from_bytes(&[message], &[dst])
            .expect("a tag that is not empty and an output of two field elements are accepted"),
    )
}

fn parse(bytes: &[u8]) -> Result<Point, CurveError> {
    let encoded = Sec1Point::from_bytes(bytes).map_err(|_| CurveError::Point)?;
    let affine = AffinePoint::from_sec1_point(&encoded)
        .into_option()
        .ok_or(CurveError::Point)?;
    let point = Point(affine.into());
    if point.is_identity() {
        return Err(CurveError::Identity);
    }
    Ok(point)
}

fn compress(affine: &AffinePoint) -> Result<[u8; COMPRESSED], CurveError> {
    affine
        .to_sec1_point(true)
        .as_bytes()
        .try_into()
        .map_err(|_| CurveError::Identity)
}

impl core::fmt::Debug for Point {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Point(..)")
    }
}

impl Add for Point {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Point {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for Point {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Neg for Point {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

/// Constant-time.
impl Mul<&Scalar> for Point {
    type Output = Self;
    fn mul(self, k: &Scalar) -> Self {
        Self(self.0 * k.inner())
    }
}

impl core::iter::Sum for Point {
    fn sum<I: Iterator<Item = Self>>(points: I) -> Self {
        points.fold(Self::IDENTITY, Add::add)
    }
}

#[cfg(test)]
mod tests;

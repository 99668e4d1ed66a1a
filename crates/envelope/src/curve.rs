//! P-256 behind one interface: scalars, points, strict SEC1 encodings, the second generator, fixed-base tables.
//!
//! Nothing else in the workspace names a P-256 library, so the backend can change here. What multiplies by a secret is
//! constant-time (`*`, [`FixedBase::mul`], [`FewTimes::mul`]); what ends in `_vartime` is for public values only.
//!
//! Points are computed with fiat-crypto's field, whose functions come with a machine-checked proof and are several times as fast
//! as those of the `p256` crate; the formulas above it are published ones. Scalars and hash to curve are the `p256` crate's,
//! and tests hold every operation on points against that crate's own.
//!
//! A [`Point`] may be the identity while it is being computed with; it can neither be parsed nor encoded as one.

mod digits;
mod field;
mod jacobian;
mod mul;
mod scalar;
mod table;

use core::ops::{Add, AddAssign, Mul, Neg, Sub};
use std::sync::OnceLock;

use p256::NistP256;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::hash2curve::GroupDigest;

use field::Field;
use jacobian::{Affine, Jacobian};
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
pub struct Point(Jacobian);

impl Point {
    /// The identity: a start for sums; never parsed, never encoded.
    pub const IDENTITY: Self = Self(Jacobian::IDENTITY);

    /// The base point `G`.
    pub const GENERATOR: Self = Self(Jacobian::from_affine(&Affine::GENERATOR));

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
        let (tag, x) = bytes.split_first().ok_or(CurveError::Point)?;
        if !matches!(tag, 2 | 3) {
            return Err(CurveError::Point);
        }
        let point = Affine::from_x(coordinate(x)?, *tag == 3).ok_or(CurveError::Point)?;
        Ok(Self(Jacobian::from_affine(&point)))
    }

    /// Reads 65 bytes of uncompressed SEC1.
    ///
    /// # Errors
    /// As [`Point::from_compressed`].
    pub fn from_uncompressed(bytes: &[u8]) -> Result<Self, CurveError> {
        if bytes.len() != UNCOMPRESSED || bytes[0] != 4 {
            return Err(CurveError::Point);
        }
        let (x, y) = bytes[1..].split_at(SCALAR);
        let point = Affine::from_coordinates(coordinate(x)?, coordinate(y)?);
        Ok(Self(Jacobian::from_affine(
            &point.ok_or(CurveError::Point)?,
        )))
    }

    /// Compressed SEC1, 33 bytes.
    ///
    /// # Errors
    /// [`CurveError::Identity`].
    pub fn to_compressed(&self) -> Result<[u8; COMPRESSED], CurveError> {
        Ok(compress(&self.affine()?))
    }

    /// Compressed SEC1 of several points, for the price of one inversion.
    ///
    /// # Errors
    /// [`CurveError::Identity`] when any of them is the identity.
    pub fn batch_compressed<const N: usize>(
        points: &[Self; N],
    ) -> Result<[[u8; COMPRESSED]; N], CurveError> {
        let affine = Jacobian::normalize(&points.map(|point| point.0));
        let mut out = [[0_u8; COMPRESSED]; N];
        for (bytes, point) in out.iter_mut().zip(affine) {
            *bytes = compress(&point.ok_or(CurveError::Identity)?);
        }
        Ok(out)
    }

    /// Uncompressed SEC1, 65 bytes.
    ///
    /// # Errors
    /// [`CurveError::Identity`].
    pub fn to_uncompressed(&self) -> Result<[u8; UNCOMPRESSED], CurveError> {
        Ok(uncompressed(&self.affine()?))
    }

    /// Uncompressed SEC1 of several points, for the price of one inversion.
    ///
    /// # Errors
    /// [`CurveError::Identity`] when any of them is the identity.
    pub fn batch_uncompressed<const N: usize>(
        points: &[Self; N],
    ) -> Result<[[u8; UNCOMPRESSED]; N], CurveError> {
        let affine = Jacobian::normalize(&points.map(|point| point.0));
        let mut out = [[0_u8; UNCOMPRESSED]; N];
        for (bytes, point) in out.iter_mut().zip(affine) {
            *bytes = uncompressed(&point.ok_or(CurveError::Identity)?);
        }
        Ok(out)
    }

    /// The x coordinate, 32 bytes big-endian: what P-256 Diffie-Hellman gives (RFC 9180 4.1).
    ///
    /// # Errors
    /// [`CurveError::Identity`].
    pub fn x(&self) -> Result<[u8; 32], CurveError> {
        Ok(self.affine()?.x.to_bytes())
    }

    /// Whether it is the identity.
    pub fn is_identity(&self) -> bool {
        self.0.is_identity() != 0
    }

    /// `k * self`, not constant-time: for public values only.
    pub fn mul_vartime(&self, k: &Scalar) -> Self {
        Self::lincomb_vartime(&[(*self, *k)])
    }

    /// The sum of `k_i * P_i`, not constant-time: for public values only. The identity for no terms.
    pub fn lincomb_vartime(terms: &[(Self, Scalar)]) -> Self {
        let terms: Vec<_> = terms.iter().map(|(point, k)| (point.0, *k)).collect();
        Self(mul::sum(&terms))
    }

    fn affine(&self) -> Result<Affine, CurveError> {
        self.0.to_affine().ok_or(CurveError::Identity)
    }
}

/// A point that a few secrets multiply, one after the other: two cost a quarter less than with `*`. For more of them there is
/// [`FixedBase`].
#[derive(Clone)]
pub struct FewTimes(mul::Rows);

impl FewTimes {
    /// Precomputes what the multiplications share.
    pub fn new(point: Point) -> Self {
        Self(mul::Rows::new(&point.0))
    }

    /// `k * point` in constant time.
    pub fn mul(&self, k: &Scalar) -> Point {
        Point(self.0.mul(k))
    }
}

impl core::fmt::Debug for FewTimes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("FewTimes(..)")
    }
}

/// RFC 9380 `P256_XMD:SHA-256_SSWU_RO_`.
///
/// # Panics
/// When `dst` is empty.
pub fn hash_to_curve(dst: &[u8], message: &[u8]) -> Point {
    let point = NistP256::hash_from_bytes(&[message], &[dst])
        .expect("a tag that is not empty and an output of two field elements are accepted");
    let encoded = point.to_affine().to_sec1_point(false);
    Point::from_uncompressed(encoded.as_bytes())
        .expect("no message is known whose hash is the identity")
}

fn coordinate(bytes: &[u8]) -> Result<Field, CurveError> {
    let bytes = bytes.try_into().map_err(|_| CurveError::Point)?;
    Field::from_bytes(bytes).ok_or(CurveError::Point)
}

fn compress(point: &Affine) -> [u8; COMPRESSED] {
    let mut bytes = [0; COMPRESSED];
    bytes[0] = 2 + u8::from(point.y.is_odd());
    bytes[1..].copy_from_slice(&point.x.to_bytes());
    bytes
}

fn uncompressed(point: &Affine) -> [u8; UNCOMPRESSED] {
    let mut bytes = [4; UNCOMPRESSED];
    bytes[1..33].copy_from_slice(&point.x.to_bytes());
    bytes[33..].copy_from_slice(&point.y.to_bytes());
    bytes
}

impl core::fmt::Debug for Point {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Point(..)")
    }
}

impl Add for Point {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.add(&other.0))
    }
}

impl AddAssign for Point {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.add(&other.0);
    }
}

impl Sub for Point {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.add(&other.0.neg()))
    }
}

impl Neg for Point {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.neg())
    }
}

/// Constant-time.
impl Mul<&Scalar> for Point {
    type Output = Self;
    fn mul(self, k: &Scalar) -> Self {
        Self(mul::constant(&self.0, k))
    }
}

impl core::iter::Sum for Point {
    fn sum<I: Iterator<Item = Self>>(points: I) -> Self {
        points.fold(Self::IDENTITY, Add::add)
    }
}

#[cfg(test)]
mod tests;

//! Scalars modulo the order of P-256.

use core::ops::{Add, Mul, Neg, Sub};

use p256::elliptic_curve::array::Array;
use p256::elliptic_curve::consts::U48;
use p256::elliptic_curve::ff::{Field, PrimeField};
use p256::elliptic_curve::ops::Reduce;
use subtle::ConstantTimeEq;
use zeroize::{DefaultIsZeroes, Zeroizing};

use super::{CurveError, SCALAR};

/// An integer modulo the group order `q`. It may be a secret: keep secrets in [`Zeroizing`].
#[derive(Clone, Copy, Default)]
pub struct Scalar(p256::Scalar);

impl DefaultIsZeroes for Scalar {}

impl Scalar {
    /// Zero.
    pub const ZERO: Self = Self(p256::Scalar::ZERO);
    /// One.
    pub const ONE: Self = Self(p256::Scalar::ONE);

    /// Reads 32 bytes big-endian below `q`; zero is allowed.
    ///
    /// # Errors
    /// [`CurveError::Scalar`].
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, CurveError> {
        let bytes: [u8; SCALAR] = bytes.try_into().map_err(|_| CurveError::Scalar)?;
        p256::Scalar::from_repr(bytes.into())
            .into_option()
            .map(Self)
            .ok_or(CurveError::Scalar)
    }

    /// Reads 32 bytes big-endian above zero and below `q`.
    ///
    /// # Errors
    /// [`CurveError::Scalar`].
    pub fn from_canonical_nonzero(bytes: &[u8]) -> Result<Self, CurveError> {
        Self::from_canonical(bytes).and_then(Self::nonzero)
    }

    /// 48 bytes, big-endian, modulo `q` (RFC 9380 5.2 gives the bias: below 2^-128).
    ///
    /// # Errors
    /// [`CurveError::Scalar`] when the result is zero.
    pub fn reduce48(bytes: &[u8; 48]) -> Result<Self, CurveError> {
        Self(<p256::Scalar as Reduce<Array<u8, U48>>>::reduce(&Array(
            *bytes,
        )))
        .nonzero()
    }

    /// 32 bytes of a hash, big-endian, modulo `q`: for challenges.
    ///
    /// # Errors
    /// [`CurveError::Scalar`] when the result is zero.
    pub fn reduce32(bytes: &[u8; 32]) -> Result<Self, CurveError> {
        Self(<p256::Scalar as Reduce<p256::FieldBytes>>::reduce(&Array(
            *bytes,
        )))
        .nonzero()
    }

    /// From a small number.
    pub fn from_u64(value: u64) -> Self {
        Self(value.into())
    }

    /// Uniform from 48 bytes of the operating system's randomness, never zero.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn random() -> Result<Zeroizing<Self>, getrandom::Error> {
        loop {
            let mut bytes = Zeroizing::new([0_u8; 48]);
            getrandom::fill(bytes.as_mut())?;
            if let Ok(scalar) = Self::reduce48(&bytes) {
                return Ok(Zeroizing::new(scalar));
            }
        }
    }

    /// 32 bytes, big-endian.
    pub fn to_bytes(&self) -> Zeroizing<[u8; SCALAR]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    /// The inverse; none for zero.
    pub fn invert(&self) -> Option<Self> {
        self.0.invert().into_option().map(Self)
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.0.is_zero().into()
    }

    fn nonzero(self) -> Result<Self, CurveError> {
        if self.is_zero() {
            Err(CurveError::Scalar)
        } else {
            Ok(self)
        }
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Scalar {}

impl core::fmt::Debug for Scalar {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Scalar(..)")
    }
}

impl Add for Scalar {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Scalar {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Mul for Scalar {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }
}

impl Neg for Scalar {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

//! The field of P-256 over fiat-crypto's arithmetic: generated together with a machine-checked proof that it computes this.
//!
//! fiat-crypto's functions are straight lines without branches, tables or divisions, so all here is constant-time except what
//! says otherwise. Elements are kept in Montgomery form below the modulus, which makes equality that of their limbs.

use fiat_crypto::p256_64::{
    fiat_p256_add, fiat_p256_from_bytes, fiat_p256_from_montgomery,
    fiat_p256_montgomery_domain_field_element as Montgomery, fiat_p256_mul,
    fiat_p256_non_montgomery_domain_field_element as Plain, fiat_p256_opp, fiat_p256_set_one,
    fiat_p256_square, fiat_p256_sub, fiat_p256_to_bytes, fiat_p256_to_montgomery,
};

/// 2^256 - 2^224 + 2^192 + 2^96 - 1, big-endian (FIPS 186-5, SP 800-186 3.2.1.3).
const MODULUS: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
];

/// An integer modulo the prime of P-256.
#[derive(Clone, Copy)]
pub(super) struct Field(pub(super) [u64; 4]);

/// All ones for zero, else zero: what limbs are selected with. The compiler is not told that there are but two values, so that it
/// makes no branch of a selection.
#[inline]
pub(super) fn if_zero(value: u64) -> u64 {
    core::hint::black_box(equal(value, 0))
}

/// As [`if_zero`] of two values that differ, or not; for loops over a table, whose caller hides the value asked for.
#[inline]
pub(super) const fn equal(a: u64, b: u64) -> u64 {
    let differ = a ^ b;
    ((differ | differ.wrapping_neg()) >> 63).wrapping_sub(1)
}

impl Field {
    pub(super) const ZERO: Self = Self([0; 4]);
    pub(super) const ONE: Self = {
        let mut one = Montgomery([0; 4]);
        fiat_p256_set_one(&mut one);
        Self(one.0)
    };

    /// From its limbs, least significant first, below the modulus.
    pub(super) const fn from_limbs(limbs: [u64; 4]) -> Self {
        let mut out = Montgomery([0; 4]);
        fiat_p256_to_montgomery(&mut out, &Plain(limbs));
        Self(out.0)
    }

    /// Reads 32 bytes, big-endian; none unless below the modulus. Not constant-time for those above.
    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        if *bytes >= MODULUS {
            return None;
        }
        let mut little = *bytes;
        little.reverse();
        let mut limbs = [0; 4];
        fiat_p256_from_bytes(&mut limbs, &little);
        Some(Self::from_limbs(limbs))
    }

    /// 32 bytes, big-endian.
    pub(super) fn to_bytes(self) -> [u8; 32] {
        let mut plain = Plain([0; 4]);
        fiat_p256_from_montgomery(&mut plain, &Montgomery(self.0));
        let mut bytes = [0; 32];
        fiat_p256_to_bytes(&mut bytes, &plain.0);
        bytes.reverse();
        bytes
    }

    #[inline]
    pub(super) fn mul(&self, other: &Self) -> Self {
        let mut out = Montgomery([0; 4]);
        fiat_p256_mul(&mut out, &Montgomery(self.0), &Montgomery(other.0));
        Self(out.0)
    }

    #[inline]
    pub(super) fn square(&self) -> Self {
        let mut out = Montgomery([0; 4]);
        fiat_p256_square(&mut out, &Montgomery(self.0));
        Self(out.0)
    }

    #[inline]
    pub(super) fn add(&self, other: &Self) -> Self {
        let mut out = Montgomery([0; 4]);
        fiat_p256_add(&mut out, &Montgomery(self.0), &Montgomery(other.0));
        Self(out.0)
    }

    #[inline]
    pub(super) fn sub(&self, other: &Self) -> Self {
        let mut out = Montgomery([0; 4]);
        fiat_p256_sub(&mut out, &Montgomery(self.0), &Montgomery(other.0));
        Self(out.0)
    }

    #[inline]
    pub(super) fn double(&self) -> Self {
        self.add(self)
    }

    #[inline]
    pub(super) fn neg(&self) -> Self {
        let mut out = Montgomery([0; 4]);
        fiat_p256_opp(&mut out, &Montgomery(self.0));
        Self(out.0)
    }

    /// All ones for zero.
    #[inline]
    pub(super) fn is_zero(&self) -> u64 {
        if_zero(self.0[0] | self.0[1] | self.0[2] | self.0[3])
    }

    pub(super) fn is_odd(&self) -> bool {
        self.to_bytes()[31] & 1 == 1
    }

    /// `other` where the mask is all ones, else itself.
    #[inline]
    pub(super) fn select(&self, other: &Self, mask: u64) -> Self {
        let (a, b) = (&self.0, &other.0);
        Self([
            a[0] ^ (mask & (a[0] ^ b[0])),
            a[1] ^ (mask & (a[1] ^ b[1])),
            a[2] ^ (mask & (a[2] ^ b[2])),
            a[3] ^ (mask & (a[3] ^ b[3])),
        ])
    }

    /// Its inverse, by Fermat; zero for zero.
    pub(super) fn invert(&self) -> Self {
        let (x2, x4, x8, x16, x32) = self.ones();
        let e = x32.square_times(32).mul(self);
        let e = e.square_times(128).mul(&x32);
        let e = e.square_times(32).mul(&x32);
        let e = e.square_times(16).mul(&x16);
        let e = e.square_times(8).mul(&x8);
        let e = e.square_times(4).mul(&x4);
        let e = e.square_times(2).mul(&x2);
        // p - 2 ends in the bits 01.
        e.square_times(2).mul(self)
    }

    /// A square root, when there is one: `x^((p+1)/4)`. Not constant-time in whether there is one.
    pub(super) fn sqrt(&self) -> Option<Self> {
        let (.., x32) = self.ones();
        let e = x32.square_times(32).mul(self);
        let root = e.square_times(96).mul(self).square_times(94);
        (root.square() == *self).then_some(root)
    }

    /// To the powers `2^n - 1` for n = 2, 4, 8, 16, 32.
    fn ones(&self) -> (Self, Self, Self, Self, Self) {
        let x2 = self.square().mul(self);
        let x4 = x2.square_times(2).mul(&x2);
        let x8 = x4.square_times(4).mul(&x4);
        let x16 = x8.square_times(8).mul(&x8);
        let x32 = x16.square_times(16).mul(&x16);
        (x2, x4, x8, x16, x32)
    }

    fn square_times(&self, times: usize) -> Self {
        (0..times).fold(*self, |power, _| power.square())
    }
}

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.sub(other).is_zero() != 0
    }
}

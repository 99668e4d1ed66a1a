//! Fixed-base multiplication: a table for each point that is multiplied again and again (`G`, `G2`, a journaling key).

use std::sync::OnceLock;

use p256::elliptic_curve::BatchNormalize;
use p256::elliptic_curve::group::Group;
use p256::{AffinePoint, ProjectivePoint};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use super::{Point, Scalar};

/// Bits of a signed digit.
const WINDOW: usize = 5;
/// Digits of a scalar: 256 bits and a carry.
const DIGITS: usize = 257_usize.div_ceil(WINDOW);
/// Multiples kept for a digit: 1 to 2^(WINDOW-1).
const ROW: usize = 1 << (WINDOW - 1);

/// Multiples of one point: about 65 KiB, made in about 2 ms. Multiplying is constant-time.
#[derive(Clone)]
pub struct FixedBase {
    point: Point,
    rows: Vec<[AffinePoint; ROW]>,
}

impl FixedBase {
    /// Precomputes the multiples of a point.
    pub fn new(point: Point) -> Self {
        let mut base = point.0;
        let rows = (0..DIGITS)
            .map(|_| {
                let mut row = [base; ROW];
                for j in 1..ROW {
                    row[j] = row[j - 1] + base;
                }
                for _ in 0..WINDOW {
                    base = base.double();
                }
                ProjectivePoint::batch_normalize(&row)
            })
            .collect();
        Self { point, rows }
    }

    /// The table of `G`, shared.
    pub fn generator() -> &'static Self {
        static TABLE: OnceLock<FixedBase> = OnceLock::new();
        TABLE.get_or_init(|| Self::new(Point::GENERATOR))
    }

    /// The table of `G2`, shared.
    pub fn generator2() -> &'static Self {
        static TABLE: OnceLock<FixedBase> = OnceLock::new();
        TABLE.get_or_init(|| Self::new(Point::generator2()))
    }

    /// The point.
    pub const fn point(&self) -> Point {
        self.point
    }

    /// `k * point` in constant time.
    pub fn mul(&self, k: &Scalar) -> Point {
        let digits = signed_digits(k);
        let mut sum = ProjectivePoint::IDENTITY;
        for (row, digit) in self.rows.iter().zip(digits.iter()) {
            sum += select(row, *digit);
        }
        Point(sum)
    }
}

impl core::fmt::Debug for FixedBase {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("FixedBase(..)")
    }
}

/// `digit * base` out of a row, touching every entry.
fn select(row: &[AffinePoint; ROW], digit: i8) -> AffinePoint {
    let sign = digit >> 7;
    let magnitude = ((digit + sign) ^ sign) as u8;
    let mut found = AffinePoint::IDENTITY;
    for (entry, value) in row.iter().zip(1_u8..) {
        found.conditional_assign(entry, value.ct_eq(&magnitude));
    }
    let negated = -found;
    found.conditional_assign(&negated, ((sign & 1) as u8).into());
    found
}

/// The scalar in base 2^WINDOW with digits from -2^(WINDOW-1) to 2^(WINDOW-1), least significant first.
fn signed_digits(k: &Scalar) -> Zeroizing<[i8; DIGITS]> {
    let bytes = k.to_bytes();
    let mut digits = Zeroizing::new([0_i8; DIGITS]);
    let mut carry = 0_i8;
    for (i, digit) in digits.iter_mut().enumerate() {
        let bit = i * WINDOW;
        let low = byte_at(&bytes, bit / 8) as u16 | (byte_at(&bytes, bit / 8 + 1) as u16) << 8;
        let value = ((low >> (bit % 8)) & ((1 << WINDOW) - 1)) as i8 + carry;
        // 1 when the value is above 2^(WINDOW-1): then it is lent from the next digit.
        carry = ((1 << (WINDOW - 1)) - value) >> 7 & 1;
        *digit = value - (carry << WINDOW);
    }
    digits
}

/// Byte `i` from the least significant; zero beyond the end.
fn byte_at(bytes: &[u8; 32], i: usize) -> u8 {
    if i < 32 { bytes[31 - i] } else { 0 }
}

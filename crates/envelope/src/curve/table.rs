//! Fixed-base multiplication: a table for each point that is multiplied again and again (`G`, `G2`, a journaling key).

use std::sync::OnceLock;

use super::digits::{signed, split};
use super::field::{Field, equal};
use super::jacobian::{Affine, Jacobian};
use super::{Point, Scalar};

/// Bits of a signed digit.
const WINDOW: usize = 7;
/// Digits of a scalar: 256 bits and a carry.
const DIGITS: usize = 257_usize.div_ceil(WINDOW);
/// Multiples kept for a digit: 1 to 2^(WINDOW-1).
const ROW: usize = 1 << (WINDOW - 1);

/// Multiples of one point: about 150 KiB, made in about 2 ms. Multiplying is constant-time.
#[derive(Clone)]
pub struct FixedBase {
    point: Point,
    /// `DIGITS` rows of `ROW` points, each its limbs of x and y; all zeros for the identity.
    entries: Vec<[u64; 8]>,
}

impl FixedBase {
    /// Precomputes the multiples of a point.
    pub fn new(point: Point) -> Self {
        let mut base = point.0;
        let mut multiples = Vec::with_capacity(DIGITS * ROW);
        for _ in 0..DIGITS {
            let mut multiple = base;
            for _ in 0..ROW {
                multiples.push(multiple);
                multiple = multiple.add(&base);
            }
            for _ in 0..WINDOW {
                base = base.double();
            }
        }
        let mut affine = vec![None; multiples.len()];
        Jacobian::normalize_into(&multiples, &mut affine);
        let entries = affine.into_iter().map(limbs).collect();
        Self { point, entries }
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
        let digits = signed::<DIGITS>(k, WINDOW);
        let mut sum = Jacobian::IDENTITY;
        for (row, digit) in self.entries.chunks_exact(ROW).zip(digits.iter()) {
            let (entry, skip) = select(row, *digit);
            sum = sum.add_affine(&entry, skip);
        }
        Point(sum)
    }
}

impl core::fmt::Debug for FixedBase {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("FixedBase(..)")
    }
}

fn limbs(point: Option<Affine>) -> [u64; 8] {
    let mut limbs = [0; 8];
    if let Some(point) = point {
        limbs[..4].copy_from_slice(&point.x.0);
        limbs[4..].copy_from_slice(&point.y.0);
    }
    limbs
}

/// `digit * base` out of a row, touching every entry, and all ones when it is to be left out.
#[allow(
    clippy::needless_range_loop,
    clippy::explicit_counter_loop,
    reason = "as iterators this is not vectorised, and takes longer than the additions"
)]
fn select(row: &[[u64; 8]], digit: i8) -> (Affine, u64) {
    let (sign, magnitude) = split(digit);
    let mut found = [0_u64; 8];
    let mut value = 0;
    for entry in row {
        value += 1;
        let mask = equal(value, magnitude);
        for i in 0..found.len() {
            found[i] |= mask & entry[i];
        }
    }
    let [x0, x1, x2, x3, y0, y1, y2, y3] = found;
    let (x, y) = (Field([x0, x1, x2, x3]), Field([y0, y1, y2, y3]));
    let point = Affine {
        x,
        y: y.select(&y.neg(), sign),
    };
    // Nothing for the digit zero, and nothing in the table of the identity.
    (point, x.is_zero() & y.is_zero())
}

//! Multiplication of points that have no table: one in constant time, and sums of many for public values.

use super::Scalar;
use super::digits::{MOST, signed, sparse, split};
use super::field::equal;
use super::jacobian::{Affine, Jacobian};

/// Bits of a signed digit.
const WINDOW: usize = 5;
/// Multiples kept: 1 to 2^(WINDOW-1).
const ROW: usize = 1 << (WINDOW - 1);
/// Odd multiples kept of each term of a sum.
const ODD: usize = ROW / 2;

/// `k * point` in constant time: signed windows, every entry of the table touched for every digit.
pub(super) fn constant(point: &Jacobian, k: &Scalar) -> Jacobian {
    let row = multiples(point);
    let mut sum = Jacobian::IDENTITY;
    for digit in signed::<MOST>(k, WINDOW).iter().rev() {
        for _ in 0..WINDOW {
            sum = sum.double();
        }
        sum = sum.add(&entry(&row, *digit));
    }
    sum
}

/// Rows of the multiples of a point that two or three secrets multiply: most doublings are done once for all of them.
#[derive(Clone)]
pub(super) struct Rows([[Jacobian; ROW]; GROUPS]);

/// Groups of digits that are summed up side by side.
const GROUPS: usize = 4;
/// Digits of a group.
const GROUP: usize = MOST / GROUPS;

impl Rows {
    pub(super) fn new(point: &Jacobian) -> Self {
        let mut base = *point;
        Self(core::array::from_fn(|group| {
            if group > 0 {
                for _ in 0..GROUP * WINDOW {
                    base = base.double();
                }
            }
            multiples(&base)
        }))
    }

    /// `k` times the point in constant time.
    pub(super) fn mul(&self, k: &Scalar) -> Jacobian {
        let digits = signed::<MOST>(k, WINDOW);
        let mut sum = Jacobian::IDENTITY;
        for place in (0..GROUP).rev() {
            for _ in 0..WINDOW {
                sum = sum.double();
            }
            for (row, digits) in self.0.iter().zip(digits.chunks_exact(GROUP)) {
                sum = sum.add(&entry(row, digits[place]));
            }
        }
        sum
    }
}

/// 1 to `ROW` times the point.
fn multiples(point: &Jacobian) -> [Jacobian; ROW] {
    let mut row = [*point; ROW];
    for i in 1..ROW {
        row[i] = if i % 2 == 1 {
            row[i / 2].double()
        } else {
            row[i - 1].add(point)
        };
    }
    row
}

/// `digit` times the first of the row.
fn entry(row: &[Jacobian; ROW], digit: i8) -> Jacobian {
    let (sign, magnitude) = split(digit);
    let mut found = Jacobian::IDENTITY;
    for (entry, value) in row.iter().zip(1_u64..) {
        found = found.select(entry, equal(value, magnitude));
    }
    found.select(&found.neg(), sign)
}

/// The sum of `k_i * P_i`, doublings shared by all. For public values.
pub(super) fn sum(terms: &[(Jacobian, Scalar)]) -> Jacobian {
    let mut multiples = Vec::with_capacity(terms.len() * ODD);
    let mut digits = Vec::with_capacity(terms.len());
    for (point, k) in terms {
        let twice = point.double();
        let mut odd = *point;
        for _ in 0..ODD {
            multiples.push(odd);
            odd = odd.add(&twice);
        }
        digits.push(sparse(k, WINDOW));
    }
    let mut rows: Vec<Option<Affine>> = vec![None; multiples.len()];
    Jacobian::normalize_into(&multiples, &mut rows);
    let longest = digits.iter().map(Vec::len).max().unwrap_or(0);
    let mut sum = Jacobian::IDENTITY;
    for bit in (0..longest).rev() {
        sum = sum.double();
        for (row, digits) in rows.chunks(ODD).zip(&digits) {
            let digit = digits.get(bit).copied().unwrap_or(0);
            if digit == 0 {
                continue;
            }
            // None is a multiple of the identity.
            if let Some(entry) = &row[usize::from(digit.unsigned_abs()) / 2] {
                let entry = if digit < 0 { entry.neg() } else { *entry };
                sum = sum.add_affine(&entry, 0);
            }
        }
    }
    sum
}

//! Fixed-base multiplication: a table for each point that is multiplied again and again (`G`, `G2`, a journaling key).

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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
/// Tables of journaling keys kept for the next who reads the same record: a tenant has one period in use and one that follows.
const SHARED: usize = 4;

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

    /// The table of a public key, made once for all who use it; the ones used last are kept. A point is looked up by what it
    /// is, and so only public ones may be.
    pub(crate) fn shared(point: Point) -> Arc<Self> {
        static TABLES: Mutex<Vec<Arc<FixedBase>>> = Mutex::new(Vec::new());
        // Whoever wants the same one meanwhile waits for it rather than making it too.
        let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tables.iter().position(|table| table.point == point);
        let table = known.map_or_else(|| Arc::new(Self::new(point)), |place| tables.remove(place));
        tables.truncate(SHARED - 1);
        tables.insert(0, table.clone());
        table
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_keys_table_is_made_once_and_gives_way_to_later_ones() {
        let points: Vec<Point> = (1000..1006)
            .map(|k| Point::mul_base(&Scalar::from_u64(k)))
            .collect();
        let first = FixedBase::shared(points[0]);
        // Other tests may take its place meanwhile, but not every time.
        let again = |_| Arc::ptr_eq(&FixedBase::shared(points[0]), &FixedBase::shared(points[0]));
        assert!((0..100).any(again));
        for point in &points[1..] {
            let k = Scalar::from_u64(77);
            let table = FixedBase::shared(*point);
            assert!(table.mul(&k) == *point * &k);
        }
        // Nobody but this test has it any more.
        assert_eq!(Arc::strong_count(&first), 1);
        assert!(!Arc::ptr_eq(&first, &FixedBase::shared(points[0])));
    }
}

//! Polynomials over P-256's scalars as shares need them: evaluation, Lagrange, and both in the exponent.

use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use crate::curve::{COMPRESSED, Point, Scalar};

/// A point as 33 bytes of compressed SEC1.
pub type PointBytes = [u8; COMPRESSED];

/// A uniform scalar that is not zero, from 48 bytes of the generator.
pub(crate) fn random_scalar(rng: &mut impl CryptoRng) -> Zeroizing<Scalar> {
    let mut bytes = Zeroizing::new([0; 48]);
    loop {
        rng.fill_bytes(bytes.as_mut());
        if let Ok(scalar) = Scalar::reduce48(&bytes) {
            return Zeroizing::new(scalar);
        }
    }
}

/// A polynomial, constant term first; wiped when dropped.
pub(crate) struct Polynomial(Vec<Scalar>);

impl Polynomial {
    /// A random polynomial of degree exactly `threshold - 1` with the given constant term.
    pub(crate) fn random(constant: &Scalar, threshold: u16, rng: &mut impl CryptoRng) -> Self {
        let mut coefficients = Vec::with_capacity(usize::from(threshold));
        coefficients.push(*constant);
        coefficients.extend((1..threshold).map(|_| *random_scalar(rng)));
        Self(coefficients)
    }

    /// Value at a share index.
    pub(crate) fn at(&self, index: u16) -> Zeroizing<Scalar> {
        let x = position(index);
        let value = self
            .0
            .iter()
            .rev()
            .fold(Scalar::ZERO, |value, coefficient| value * x + *coefficient);
        Zeroizing::new(value)
    }

    /// The coefficients times the generator; the identity where one is zero.
    pub(crate) fn commitments(&self) -> Vec<Point> {
        self.0.iter().map(Point::mul_base).collect()
    }
}

impl Drop for Polynomial {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Value of a committed polynomial at a share index, in the exponent.
pub(crate) fn evaluate_commitments(commitments: &[Point], index: u16) -> Point {
    let x = position(index);
    commitments
        .iter()
        .rev()
        .fold(Point::IDENTITY, |value, commitment| {
            value.mul_vartime(&x) + *commitment
        })
}

/// Lagrange coefficients that take the values at `indices` to the value at `target`; none when an index repeats, is zero,
/// or there is none at all.
pub(crate) fn lagrange(indices: &[u16], target: u16) -> Option<Vec<Scalar>> {
    if indices.is_empty() || indices.contains(&0) {
        return None;
    }
    let target = position(target);
    indices
        .iter()
        .enumerate()
        .map(|(i, own)| {
            let own = position(*own);
            let mut numerator = Scalar::ONE;
            let mut denominator = Scalar::ONE;
            for (_, other) in indices.iter().enumerate().filter(|(j, _)| *j != i) {
                let other = position(*other);
                numerator = numerator * (target - other);
                denominator = denominator * (own - other);
            }
            denominator.invert().map(|inverse| numerator * inverse)
        })
        .collect()
}

/// The value at `target` of the polynomial of lowest degree through these points, in the exponent.
pub(crate) fn interpolate(points: &[(u16, Point)], target: u16) -> Option<Point> {
    let indices: Vec<u16> = points.iter().map(|(index, _)| *index).collect();
    let coefficients = lagrange(&indices, target)?;
    let terms: Vec<(Point, Scalar)> = points
        .iter()
        .map(|(_, point)| *point)
        .zip(coefficients)
        .collect();
    Some(Point::lincomb_vartime(&terms))
}

/// Whether the points lie on one polynomial of degree exactly `threshold - 1`, in the exponent.
pub(crate) fn degree_is_exactly(points: &[(u16, Point)], threshold: u16) -> bool {
    let Some((base, rest)) = points.split_at_checked(usize::from(threshold)) else {
        return false;
    };
    rest.iter()
        .all(|(index, point)| interpolate(base, *index).as_ref() == Some(point))
        && leading_coefficient(base).is_some_and(|leading| !leading.is_identity())
}

/// The coefficient of the highest power of the polynomial through these points: the sum of y_i over the products of
/// (x_i - x_j). When it is zero, fewer shares than said would do.
fn leading_coefficient(points: &[(u16, Point)]) -> Option<Point> {
    let mut sum = Point::IDENTITY;
    for (i, (own, point)) in points.iter().enumerate() {
        let mut denominator = Scalar::ONE;
        for (_, (other, _)) in points.iter().enumerate().filter(|(j, _)| *j != i) {
            denominator = denominator * (position(*own) - position(*other));
        }
        sum += point.mul_vartime(&denominator.invert()?);
    }
    Some(sum)
}

fn position(index: u16) -> Scalar {
    Scalar::from_u64(u64::from(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_interpolate_and_degree_is_seen() {
        let secret = Scalar::from_u64(77);
        let polynomial = Polynomial(vec![secret, Scalar::from_u64(5), -Scalar::from_u64(3)]);
        assert_eq!(*polynomial.at(2), Scalar::from_u64(75));
        let commitments = polynomial.commitments();
        let points: Vec<(u16, Point)> = (1..=5)
            .map(|i| (i, Point::mul_base(&polynomial.at(i))))
            .collect();
        for (index, point) in &points {
            assert_eq!(evaluate_commitments(&commitments, *index), *point);
        }
        let secret = Point::mul_base(&secret);
        assert_eq!(interpolate(&points[1..4], 0), Some(secret));
        assert!(degree_is_exactly(&points, 3));
        assert!(degree_is_exactly(&points[..3], 3));
        assert!(!degree_is_exactly(&points, 2));
        assert!(!degree_is_exactly(&points, 4));
        assert!(!degree_is_exactly(&points, 0));
        assert!(!degree_is_exactly(&points, 6));
    }

    #[test]
    fn attack_28_bad_indices_do_not_interpolate() {
        assert!(lagrange(&[1, 1], 0).is_none());
        assert!(lagrange(&[0, 1], 0).is_none());
        assert!(lagrange(&[], 0).is_none());
    }
}

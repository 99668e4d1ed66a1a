//! Points of P-256 in Jacobian coordinates: `x = X/Z²`, `y = Y/Z³`, the identity where `Z = 0`.
//!
//! The formulas are those of the Explicit-Formulas Database for `a = -3` (Bernstein and Lange): `add-1998-cmo-2` with what it
//! shares, its mixed form, and `dbl-2001-b`. Addition has one case that its formula does not cover, the sum of a point and
//! itself: a branch leads to doubling there. Everything else, the identity included, is selected by masks. In a multiplication
//! by a scalar below the group order that branch is never taken but for a handful of scalars next to zero and to the order, so
//! it tells nothing of a random secret.

use super::field::Field;

/// A point, or the identity.
#[derive(Clone, Copy)]
pub(super) struct Jacobian {
    pub(super) x: Field,
    pub(super) y: Field,
    pub(super) z: Field,
}

/// A point that is not the identity; all zeros where a table is asked for nothing.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub(super) x: Field,
    pub(super) y: Field,
}

/// `b` of the curve `y² = x³ - 3x + b`.
const B: Field = Field::from_limbs([
    0x3bce_3c3e_27d2_604b,
    0x651d_06b0_cc53_b0f6,
    0xb3eb_bd55_7698_86bc,
    0x5ac6_35d8_aa3a_93e7,
]);

impl Affine {
    /// The base point.
    pub(super) const GENERATOR: Self = Self {
        x: Field::from_limbs([
            0xf4a1_3945_d898_c296,
            0x7703_7d81_2deb_33a0,
            0xf8bc_e6e5_63a4_40f2,
            0x6b17_d1f2_e12c_4247,
        ]),
        y: Field::from_limbs([
            0xcbb6_4068_37bf_51f5,
            0x2bce_3357_6b31_5ece,
            0x8ee7_eb4a_7c0f_9e16,
            0x4fe3_42e2_fe1a_7f9b,
        ]),
    };

    /// The point of these coordinates, when it is on the curve.
    pub(super) fn from_coordinates(x: Field, y: Field) -> Option<Self> {
        (y.square() == right_side(&x)).then_some(Self { x, y })
    }

    /// The point of this x whose y is odd or even, when there is one.
    pub(super) fn from_x(x: Field, odd: bool) -> Option<Self> {
        let y = right_side(&x).sqrt()?;
        // No point has y = 0: the group's order is odd.
        let y = if y.is_odd() == odd { y } else { y.neg() };
        Some(Self { x, y })
    }

    pub(super) fn neg(&self) -> Self {
        Self {
            x: self.x,
            y: self.y.neg(),
        }
    }
}

fn right_side(x: &Field) -> Field {
    let three_x = x.double().add(x);
    x.square().mul(x).sub(&three_x).add(&B)
}

impl Jacobian {
    pub(super) const IDENTITY: Self = Self {
        x: Field::ONE,
        y: Field::ONE,
        z: Field::ZERO,
    };

    pub(super) const fn from_affine(point: &Affine) -> Self {
        Self {
            x: point.x,
            y: point.y,
            z: Field::ONE,
        }
    }

    /// All ones for the identity.
    pub(super) fn is_identity(&self) -> u64 {
        self.z.is_zero()
    }

    pub(super) fn neg(&self) -> Self {
        Self {
            y: self.y.neg(),
            ..*self
        }
    }

    /// `dbl-2001-b`. The identity stays the identity: its Z is zero.
    pub(super) fn double(&self) -> Self {
        let delta = self.z.square();
        let gamma = self.y.square();
        let beta = self.x.mul(&gamma);
        let alpha = self.x.sub(&delta).mul(&self.x.add(&delta));
        let alpha = alpha.double().add(&alpha);
        let beta4 = beta.double().double();
        let x = alpha.square().sub(&beta4.double());
        let z = self.y.add(&self.z).square().sub(&gamma).sub(&delta);
        let gamma8 = gamma.square().double().double().double();
        let y = alpha.mul(&beta4.sub(&x)).sub(&gamma8);
        Self { x, y, z }
    }

    /// Any two points.
    pub(super) fn add(&self, other: &Self) -> Self {
        let (zz1, zz2) = (self.z.square(), other.z.square());
        let (u1, u2) = (self.x.mul(&zz2), other.x.mul(&zz1));
        let s1 = self.y.mul(&other.z.mul(&zz2));
        let s2 = other.y.mul(&self.z.mul(&zz1));
        let (h, r) = (u2.sub(&u1), s2.sub(&s1));
        let (none, other_none) = (self.is_identity(), other.is_identity());
        if h.is_zero() & r.is_zero() & !none & !other_none != 0 {
            return self.double();
        }
        let z = self.z.mul(&other.z).mul(&h);
        Self::chord(&u1, &s1, &h, &r, z)
            .select(other, none)
            .select(self, other_none)
    }

    /// A point and one whose Z is 1; `other` is left out where `skip` is all ones.
    #[inline]
    pub(super) fn add_affine(&self, other: &Affine, skip: u64) -> Self {
        let zz = self.z.square();
        let (h, r) = (
            other.x.mul(&zz).sub(&self.x),
            other.y.mul(&self.z.mul(&zz)).sub(&self.y),
        );
        let none = self.is_identity();
        if h.is_zero() & r.is_zero() & !none & !skip != 0 {
            return self.double();
        }
        let z = self.z.mul(&h);
        Self::chord(&self.x, &self.y, &h, &r, z)
            .select(&Self::from_affine(other), none)
            .select(self, skip)
    }

    /// The third point of the chord, from what both additions have in common.
    #[inline]
    fn chord(u1: &Field, s1: &Field, h: &Field, r: &Field, z: Field) -> Self {
        let hh = h.square();
        let hhh = hh.mul(h);
        let v = u1.mul(&hh);
        let x = r.square().sub(&hhh).sub(&v.double());
        let y = r.mul(&v.sub(&x)).sub(&s1.mul(&hhh));
        Self { x, y, z }
    }

    /// `other` where the mask is all ones, else itself.
    #[inline]
    pub(super) fn select(&self, other: &Self, mask: u64) -> Self {
        Self {
            x: self.x.select(&other.x, mask),
            y: self.y.select(&other.y, mask),
            z: self.z.select(&other.z, mask),
        }
    }

    /// Affine form; none for the identity. What was read from bytes has it already, and costs no inversion.
    pub(super) fn to_affine(self) -> Option<Affine> {
        if self.z == Field::ONE {
            let Self { x, y, .. } = self;
            return Some(Affine { x, y });
        }
        let [affine] = Self::normalize(&[self]);
        affine
    }

    /// Affine forms for the price of one inversion; none for the identity.
    pub(super) fn normalize<const N: usize>(points: &[Self; N]) -> [Option<Affine>; N] {
        let mut out = [None; N];
        // The few points of a secret multiplication come here: what is made of their Z does not lie about on the heap.
        normalize(points, &mut [Field::ONE; N], &mut out);
        out
    }

    /// As [`Jacobian::normalize`] for any number of points, public ones: tables and sums.
    pub(super) fn normalize_into(points: &[Self], out: &mut [Option<Affine>]) {
        normalize(points, &mut vec![Field::ONE; points.len()], out);
    }
}

/// With as much room for products as there are points. Not constant-time in which of them are the identity.
fn normalize(points: &[Jacobian], products: &mut [Field], out: &mut [Option<Affine>]) {
    let mut product = Field::ONE;
    for (point, before) in points.iter().zip(&mut *products) {
        *before = product;
        if point.is_identity() == 0 {
            product = product.mul(&point.z);
        }
    }
    let mut inverse = product.invert();
    for ((point, before), slot) in points.iter().zip(&*products).zip(out).rev() {
        if point.is_identity() != 0 {
            *slot = None;
            continue;
        }
        let z = inverse.mul(before);
        inverse = inverse.mul(&point.z);
        let zz = z.square();
        *slot = Some(Affine {
            x: point.x.mul(&zz),
            y: point.y.mul(&zz.mul(&z)),
        });
    }
}

impl PartialEq for Jacobian {
    fn eq(&self, other: &Self) -> bool {
        let (none, other_none) = (self.is_identity(), other.is_identity());
        let (zz1, zz2) = (self.z.square(), other.z.square());
        let x = self.x.mul(&zz2).sub(&other.x.mul(&zz1));
        let y = self.y.mul(&zz2.mul(&other.z));
        let y = y.sub(&other.y.mul(&zz1.mul(&self.z)));
        let same = x.is_zero() & y.is_zero() & !none & !other_none;
        same | (none & other_none) != 0
    }
}

impl Eq for Jacobian {}

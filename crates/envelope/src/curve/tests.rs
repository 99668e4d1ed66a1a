//! Tests of the P-256 interface against the `p256` crate and published vectors.

use super::*;
use hex_literal::hex;
use p256::elliptic_curve::ff::PrimeField;
use p256::elliptic_curve::sec1::FromSec1Point;
use p256::{AffinePoint, ProjectivePoint, Sec1Point};
use proptest::prelude::*;

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(|b| Scalar::reduce32(&b).unwrap_or(Scalar::ONE)),
        (1..40_u64).prop_map(Scalar::from_u64),
        (1..40_u64).prop_map(|k| -Scalar::from_u64(k)),
        (0..256_u32).prop_map(|bit| { (0..bit).fold(Scalar::ONE, |k, _| k + k) }),
    ]
}

/// A point as the `p256` crate has it, which shares nothing but hash to curve with what is tested.
fn theirs(point: &Point) -> ProjectivePoint {
    let Ok(bytes) = point.to_uncompressed() else {
        return ProjectivePoint::IDENTITY;
    };
    let encoded = Sec1Point::from_bytes(bytes).unwrap();
    let affine = AffinePoint::from_sec1_point(&encoded).into_option();
    affine.unwrap().into()
}

fn their_scalar(k: &Scalar) -> p256::Scalar {
    p256::Scalar::from_repr((*k.to_bytes()).into()).unwrap()
}

/// Points, the identity and neighbours among them, so that sums meet every special case.
fn point() -> impl Strategy<Value = Point> {
    prop_oneof![
        scalar().prop_map(|k| Point::generator2() * &k),
        (0..4_u64).prop_map(|k| Point::GENERATOR * &Scalar::from_u64(k)),
        (1..4_u64).prop_map(|k| -(Point::GENERATOR * &Scalar::from_u64(k))),
    ]
}

fn their_decoding(bytes: &[u8]) -> Option<ProjectivePoint> {
    let encoded = Sec1Point::from_bytes(bytes).ok()?;
    let affine = AffinePoint::from_sec1_point(&encoded).into_option()?;
    Some(affine.into())
}

proptest! {
    #[test]
    fn multiplications_agree_with_the_p256_crate(k in scalar(), p in point()) {
        let (g, g2) = (theirs(&Point::GENERATOR), theirs(&Point::generator2()));
        prop_assert_eq!(theirs(&Point::mul_base(&k)), g * their_scalar(&k));
        prop_assert_eq!(theirs(&FixedBase::generator2().mul(&k)), g2 * their_scalar(&k));
        prop_assert_eq!(theirs(&(p * &k)), theirs(&p) * their_scalar(&k));
        prop_assert_eq!(theirs(&FewTimes::new(p).mul(&k)), theirs(&p) * their_scalar(&k));
        prop_assert_eq!(theirs(&p.mul_vartime(&k)), theirs(&p) * their_scalar(&k));
    }

    #[test]
    fn sums_agree_with_the_p256_crate(p in point(), q in point()) {
        prop_assert_eq!(theirs(&(p + q)), theirs(&p) + theirs(&q));
        prop_assert_eq!(theirs(&(p - q)), theirs(&p) - theirs(&q));
        prop_assert_eq!(theirs(&(p + p)), theirs(&p) + theirs(&p));
        prop_assert!((p - p).is_identity());
        prop_assert_eq!(p == q, theirs(&p) == theirs(&q));
        // The same points with another Z.
        prop_assert_eq!((p + q) - q, p);
        prop_assert_eq!((p + q) + (p + q), (p + p) + (q + q));
    }

    #[test]
    fn sums_of_products_agree_with_the_p256_crate(
        terms in prop::collection::vec((point(), scalar()), 0..12)
    ) {
        let sum: ProjectivePoint = terms.iter().map(|(p, k)| theirs(p) * their_scalar(k)).sum();
        prop_assert_eq!(theirs(&Point::lincomb_vartime(&terms)), sum);
    }

    #[test]
    fn encodings_agree_with_the_p256_crate(k in scalar()) {
        let point = Point::mul_base(&k);
        let affine = theirs(&point).to_affine();
        let (short, long) = (affine.to_sec1_point(true), affine.to_sec1_point(false));
        let compressed = point.to_compressed().unwrap();
        prop_assert_eq!(&compressed[..], short.as_bytes());
        prop_assert_eq!(Point::from_compressed(&compressed), Ok(point));
        let uncompressed = point.to_uncompressed().unwrap();
        prop_assert_eq!(&uncompressed[..], long.as_bytes());
        prop_assert_eq!(Point::from_uncompressed(&uncompressed), Ok(point));
        prop_assert_eq!(&uncompressed[1..33], &point.x().unwrap()[..]);
        prop_assert_eq!(Point::batch_compressed(&[point, Point::GENERATOR]).unwrap()[0], compressed);
        prop_assert_eq!(Point::batch_uncompressed(&[point, Point::GENERATOR]).unwrap()[0], uncompressed);
        prop_assert_eq!(Scalar::from_canonical(k.to_bytes().as_ref()), Ok(k));
    }

    #[test]
    fn what_is_no_encoding_is_none_for_the_p256_crate_either(
        k in scalar(), at in 0..65_usize, with in 1..=255_u8, mut x in any::<[u8; 33]>(), tag in 2..=3_u8
    ) {
        // Half of all x have a point.
        x[0] = tag;
        prop_assert_eq!(Point::from_compressed(&x).ok().map(|p| theirs(&p)), their_decoding(&x));
        let mut bytes = Point::mul_base(&k).to_uncompressed().unwrap();
        bytes[at] ^= with;
        let ours = Point::from_uncompressed(&bytes).ok();
        // What begins otherwise is another form, refused here.
        prop_assert_eq!(ours.map(|p| theirs(&p)), if at == 0 { None } else { their_decoding(&bytes) });
    }
}

#[test]
fn every_scalar_next_to_an_edge_agrees_with_the_p256_crate() {
    let table = FixedBase::generator2();
    let few = FewTimes::new(Point::generator2());
    let (point, reference) = (Point::generator2(), theirs(&Point::generator2()));
    let mut power = Scalar::ONE;
    for _ in 0..257 {
        for near in 0..3 {
            let near = Scalar::from_u64(near);
            for k in [power + near, power - near, -power + near, -power - near] {
                let expected = reference * their_scalar(&k);
                assert_eq!(
                    theirs(&table.mul(&k)),
                    expected,
                    "table {:?}",
                    *k.to_bytes()
                );
                assert_eq!(theirs(&few.mul(&k)), expected, "rows {:?}", *k.to_bytes());
                assert_eq!(
                    theirs(&(point * &k)),
                    expected,
                    "windows {:?}",
                    *k.to_bytes()
                );
                assert_eq!(
                    theirs(&point.mul_vartime(&k)),
                    expected,
                    "sparse {:?}",
                    *k.to_bytes()
                );
            }
        }
        power = power + power;
    }
}

#[test]
fn encodings_of_the_identity_are_refused_in_batches_too() {
    let points = [Point::GENERATOR, Point::IDENTITY];
    assert_eq!(Point::batch_compressed(&points), Err(CurveError::Identity));
    assert_eq!(
        Point::batch_uncompressed(&points),
        Err(CurveError::Identity)
    );
    assert!(
        FixedBase::new(Point::IDENTITY)
            .mul(&Scalar::ONE)
            .is_identity()
    );
}

#[test]
fn multiplying_by_zero_gives_the_identity() {
    assert!(Point::mul_base(&Scalar::ZERO).is_identity());
    assert_eq!(Point::IDENTITY.to_compressed(), Err(CurveError::Identity));
    assert_eq!(Point::IDENTITY.to_uncompressed(), Err(CurveError::Identity));
    assert_eq!(Point::IDENTITY.x(), Err(CurveError::Identity));
    assert_eq!(Point::lincomb_vartime(&[]), Point::IDENTITY);
}

#[test]
fn x_may_be_zero_and_has_two_points() {
    for tag in [2, 3] {
        let mut bytes = [0_u8; 33];
        bytes[0] = tag;
        let point = Point::from_compressed(&bytes).unwrap();
        assert_eq!(Some(theirs(&point)), their_decoding(&bytes));
        assert_eq!(point.to_compressed(), Ok(bytes));
        assert_eq!(point.x(), Ok([0; 32]));
    }
}

#[test]
fn terms_of_one_point_meet_in_a_sum() {
    let p = Point::generator2();
    for k in [1, 2, 7, 31, 12_345] {
        let k = Scalar::from_u64(k);
        let twice = theirs(&p) * their_scalar(&(k + k));
        assert_eq!(theirs(&Point::lincomb_vartime(&[(p, k), (p, k)])), twice);
        assert!(Point::lincomb_vartime(&[(p, k), (-p, k)]).is_identity());
        assert!(Point::lincomb_vartime(&[(p, k), (p, -k)]).is_identity());
    }
}

/// However it came about: the formulas leave other coordinates in it than the constant has.
#[test]
fn the_identity_is_equal_to_itself_alone() {
    let p = Point::generator2();
    assert_eq!(Point::IDENTITY, p - p);
    assert_eq!(p - p, Point::IDENTITY);
    assert_eq!(Point::GENERATOR - Point::GENERATOR, p - p);
    assert_ne!(p - p, p);
    assert_ne!(p, p - p);
}

#[test]
fn hash_to_curve_agrees_with_rfc_9380_j_1_1() {
    let dst = b"QUUX-V01-CS02-with-P256_XMD:SHA-256_SSWU_RO_";
    assert_eq!(
        hash_to_curve(dst, b"").to_uncompressed().unwrap()[1..],
        hex!(
            "2c15230b26dbc6fc9a37051158c95b79656e17a1a920b11394ca91c44247d3e4"
            "8a7a74985cc5c776cdfe4b1f19884970453912e9d31528c060be9ab5c43e8415"
        )
    );
    assert_eq!(
        hash_to_curve(dst, b"abc").to_uncompressed().unwrap()[1..],
        hex!(
            "0bb8b87485551aa43ed54f009230450b492fead5f1cc91658775dac4a3388a0f"
            "5c41b3d0731a27a7b14bc0bf0ccded2d8751f83493404c84a88e71ffd424212e"
        )
    );
}

#[test]
fn attack_07_odd_points_and_scalars_are_refused() {
    let good = Point::GENERATOR.to_compressed().unwrap();
    let full = Point::GENERATOR.to_uncompressed().unwrap();
    // The identity in every form somebody might write it.
    for bytes in [&[0_u8][..], &[0; 33], &[0; 65], &[]] {
        assert!(Point::from_compressed(bytes).is_err());
        assert!(Point::from_uncompressed(bytes).is_err());
    }
    // The right point in the wrong form, the compact tag and hybrid tags.
    assert!(Point::from_compressed(&full).is_err());
    assert!(Point::from_uncompressed(&good).is_err());
    for tag in [0, 1, 4, 5, 6, 7, 255] {
        let mut bytes = good;
        bytes[0] = tag;
        assert!(Point::from_compressed(&bytes).is_err(), "tag {tag}");
    }
    for tag in [0, 1, 2, 3, 5, 6, 7] {
        let mut bytes = full;
        bytes[0] = tag;
        assert!(Point::from_uncompressed(&bytes).is_err(), "tag {tag}");
    }
    // x = p and x = p + 5: not below the field's modulus (x = 5 is on the curve).
    let mut p = hex!("02ffffffff00000001000000000000000000000000ffffffffffffffffffffffff");
    assert!(Point::from_compressed(&p).is_err());
    let mut five = [0_u8; 33];
    (five[0], five[32]) = (2, 5);
    assert!(Point::from_compressed(&five).is_ok());
    p[29..].copy_from_slice(&[0, 0, 0, 4]);
    p[17..29].copy_from_slice(&hex!("000000010000000000000000"));
    assert!(Point::from_compressed(&p).is_err());
    // The same x, and a y of p + 1 (the point with y = 1), uncompressed: each would be a point if it were reduced.
    let five = Point::from_compressed(&five).unwrap();
    let mut long = five.to_uncompressed().unwrap();
    long[1..33].copy_from_slice(&p[1..]);
    assert_eq!(Point::from_uncompressed(&long), Err(CurveError::Point));
    let mut long = [0_u8; 65];
    (long[0], long[64]) = (4, 1);
    long[1..33].copy_from_slice(&hex!(
        "8d0177ebab9c6e9e10db6dd095dbac0d6375e8a97b70f611875d877f0069d2c7"
    ));
    assert!(Point::from_uncompressed(&long).is_ok());
    long[33..].copy_from_slice(&hex!(
        "ffffffff00000001000000000000000000000001000000000000000000000000"
    ));
    assert_eq!(Point::from_uncompressed(&long), Err(CurveError::Point));
    // Off the curve.
    let mut off = full;
    off[64] ^= 1;
    assert_eq!(Point::from_uncompressed(&off), Err(CurveError::Point));
    // Scalars: q, q + 1, 2^256 - 1, zero where it is refused, wrong lengths.
    let mut q = hex!("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    assert_eq!(Scalar::from_canonical(&q), Err(CurveError::Scalar));
    q[31] += 1;
    assert!(Scalar::from_canonical(&q).is_err());
    q[31] -= 2;
    assert_eq!(Scalar::from_canonical(&q), Ok(-Scalar::ONE));
    assert!(Scalar::from_canonical(&[0xff; 32]).is_err());
    assert!(Scalar::from_canonical_nonzero(&[0; 32]).is_err());
    assert!(Scalar::from_canonical(&[0; 31]).is_err());
}

#[test]
fn reduction_is_big_endian() {
    let mut bytes = [0_u8; 48];
    bytes[47] = 7;
    assert_eq!(Scalar::reduce48(&bytes), Ok(Scalar::from_u64(7)));
    assert_eq!(Scalar::reduce48(&[0; 48]), Err(CurveError::Scalar));
    let mut q = [0_u8; 48];
    q[16..].copy_from_slice(&hex!(
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"
    ));
    assert!(Scalar::reduce48(&q).is_err());
    q[47] += 9;
    assert_eq!(Scalar::reduce48(&q), Ok(Scalar::from_u64(9)));
}

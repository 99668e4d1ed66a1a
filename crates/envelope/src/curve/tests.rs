//! Tests of the P-256 interface against its backend and published vectors.

use super::*;
use hex_literal::hex;
use proptest::prelude::*;

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(|b| Scalar::reduce32(&b).unwrap_or(Scalar::ONE)),
        (1..40_u64).prop_map(Scalar::from_u64),
        (1..40_u64).prop_map(|k| -Scalar::from_u64(k)),
        (0..256_u32).prop_map(|bit| { (0..bit).fold(Scalar::ONE, |k, _| k + k) }),
    ]
}

proptest! {
    #[test]
    fn tables_agree_with_the_backend(k in scalar()) {
        prop_assert_eq!(Point::mul_base(&k), Point::GENERATOR * &k);
        let g2 = Point::generator2();
        prop_assert_eq!(FixedBase::generator2().mul(&k), g2 * &k);
        prop_assert_eq!(g2.mul_vartime(&k), g2 * &k);
    }

    #[test]
    fn encodings_round_trip(k in scalar()) {
        let point = Point::mul_base(&k);
        let compressed = point.to_compressed().unwrap();
        prop_assert_eq!(Point::from_compressed(&compressed), Ok(point));
        let uncompressed = point.to_uncompressed().unwrap();
        prop_assert_eq!(Point::from_uncompressed(&uncompressed), Ok(point));
        prop_assert_eq!(&uncompressed[1..33], &point.x().unwrap()[..]);
        prop_assert_eq!(Point::batch_compressed(&[point, Point::GENERATOR]).unwrap()[0], compressed);
        prop_assert_eq!(Scalar::from_canonical(k.to_bytes().as_ref()), Ok(k));
    }

    #[test]
    fn sums_of_products_agree(a in scalar(), b in scalar()) {
        let (p, q) = (Point::GENERATOR, Point::generator2());
        let sum = Point::lincomb_vartime(&[(p, a), (q, b)]);
        prop_assert_eq!(sum, p * &a + q * &b);
        prop_assert_eq!(sum - q * &b, p * &a);
    }
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

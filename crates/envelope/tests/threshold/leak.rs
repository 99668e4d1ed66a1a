//! What one node less than a quorum knows when it tells everything: nothing about the secret.

use std::sync::LazyLock;

use greffe_envelope::ceremony::{NodeShare, ShareError, ShareInfo};
use greffe_envelope::curve::{Point, Scalar};
use proptest::prelude::*;
use zeroize::Zeroizing;

use crate::opening::scalar_of;
use crate::support::{Generated, World};

static KEYS: LazyLock<Vec<(usize, Generated)>> = LazyLock::new(|| {
    [(2, 3), (3, 5)]
        .map(|(threshold, count)| {
            let mut world = World::new("leak", count as u32);
            (threshold, world.key(threshold as u32, count))
        })
        .into()
});

/// The value at `target` of the polynomial of lowest degree through the points.
fn interpolate(points: &[(u64, Scalar)], target: u64) -> Scalar {
    let target = Scalar::from_u64(target);
    points.iter().fold(Scalar::ZERO, |sum, (own, value)| {
        let others = points.iter().filter(|(other, _)| other != own);
        let weight = others.fold(Scalar::ONE, |weight, (other, _)| {
            let (own, other) = (Scalar::from_u64(*own), Scalar::from_u64(*other));
            weight * (target - other) * (own - other).invert().unwrap()
        });
        sum + weight * *value
    })
}

fn public_point(key: &Generated) -> Point {
    Point::from_uncompressed(&key.record.public_key[1184..]).unwrap()
}

/// The ML-KEM half's seed, which every node has.
fn kem_seed(share: &NodeShare) -> Zeroizing<[u8; 64]> {
    let at = 1 + 4 + share.tenant().len() + 32 + 2 + 2 + 32;
    Zeroizing::new(share.to_bytes()[at..at + 64].try_into().unwrap())
}

#[test]
fn a_quorum_of_shares_is_the_key_and_no_secret_was_dealt_twice() {
    for (threshold, key) in KEYS.iter() {
        let shares: Vec<(u64, Scalar)> = (1..).zip(key.shares.iter().map(scalar_of)).collect();
        for quorum in shares.windows(*threshold) {
            assert_eq!(Point::mul_base(&interpolate(quorum, 0)), public_point(key));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever t-1 nodes leak, every secret is as good as every other: some shares of the rest go with it. That those are
    /// not the real ones shows only against the verification shares, which hide them behind a discrete logarithm.
    #[test]
    fn attack_27_any_secret_fits_the_shares_of_one_node_less(
        which in 0_usize..2,
        first in 0_usize..5,
        secret in any::<[u8; 32]>(),
    ) {
        let (threshold, key) = &KEYS[which];
        let secret = Scalar::reduce32(&secret).unwrap();
        prop_assume!(Point::mul_base(&secret) != public_point(key));
        let count = key.shares.len();
        let leaked: Vec<usize> = (0..threshold - 1).map(|i| (first + i) % count).collect();
        let mut known: Vec<(u64, Scalar)> = leaked
            .iter()
            .map(|at| (*at as u64 + 1, scalar_of(&key.shares[*at])))
            .collect();
        known.push((0, secret));
        // A whole committee around the leaked shares and the guess.
        let committee: Vec<(u64, Scalar)> = (1..=count as u64)
            .map(|index| (index, interpolate(&known, index)))
            .collect();
        for at in &leaked {
            prop_assert_eq!(committee[*at].1, scalar_of(&key.shares[*at]));
        }
        for quorum in committee.windows(*threshold) {
            prop_assert_eq!(interpolate(quorum, 0), secret);
        }
        // Nobody can answer with the invented shares.
        for (index, scalar) in committee.iter().filter(|(index, _)| !leaked.contains(&(*index as usize - 1))) {
            let real = &key.shares[*index as usize - 1];
            let info = ShareInfo {
                tenant: real.tenant().to_owned(),
                share_epoch: real.share_epoch(),
                index: real.index(),
                threshold: real.threshold(),
                public_key: *real.public_key(),
                verification_shares: real.verification_shares().to_vec(),
            };
            let invented = NodeShare::new(info, Zeroizing::new(*scalar), kem_seed(real));
            prop_assert_eq!(invented.err(), Some(ShareError::Scalar));
        }
    }
}

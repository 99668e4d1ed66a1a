//! Wraps against the unmodified HPKE library, and proofs against forgeries.

use super::*;
use crate::derive::Seed;
use crate::label::sha256;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::MlKem768P256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use proptest::prelude::*;

type PrivateKey = <MlKem768P256 as Kem>::PrivateKey;

fn pair(ikm: u8) -> (PrivateKey, JournalKey) {
    let (sk, pk) = MlKem768P256::derive_keypair(&[ikm; 32]);
    (
        sk,
        JournalKey::from_public_key("acme", &pk.to_bytes()).unwrap(),
    )
}

fn keys(seed: u8) -> SeedKeys {
    SeedKeys::new(&Seed::from_bytes([seed; 32]), &sha256(b"core"))
}

/// The generator that the specification hands to an HPKE library.
struct ShakeRng(shake::Shake256Reader);

impl TryRng for ShakeRng {
    type Error = core::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.0.read(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.0.read(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(out);
        Ok(())
    }
}

impl TryCryptoRng for ShakeRng {}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn an_unmodified_hpke_library_makes_and_opens_the_same_bytes(seed: u8, rd: [u8; 32], ikm: u8) {
        let (sk, key) = pair(ikm);
        let (keys, rd) = (keys(seed), Digest::new(rd));
        let wrap = WrapView::parse(&make_wrap(&keys, &rd, &key).unwrap().sealed).unwrap();
        let info = hybrid::wrap_info("acme", key.key_id());
        let mut rng = ShakeRng(Randomness::new(&keys, &rd, &key).0);
        let pk = <MlKem768P256 as Kem>::PublicKey::from_bytes(key.public_key()).unwrap();
        let (enc, ct) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, MlKem768P256>(
            &OpModeS::Base, &pk, &info, keys.cek().as_bytes(), rd.as_bytes(), &mut rng,
        ).unwrap();
        prop_assert_eq!(&enc.to_bytes()[..], wrap.enc());
        prop_assert_eq!(&ct[..], wrap.ct());
        let enc = <MlKem768P256 as Kem>::EncappedKey::from_bytes(wrap.enc()).unwrap();
        let cek = hpke::single_shot_open::<AesGcm256, HkdfSha256, MlKem768P256>(
            &OpModeR::Base, &sk, &enc, &info, wrap.ct(), rd.as_bytes(),
        ).unwrap();
        prop_assert_eq!(&cek, &keys.cek().as_bytes().to_vec());
        let secret = MlKem768P256::decap(&sk, None, &enc).unwrap();
        let secret = SharedSecret::new(secret.0.into());
        prop_assert_eq!(wrap.open(&secret, "acme", key.key_id(), &rd), Ok(keys.cek()));
        prop_assert!(wrap.open(&secret, "acme", key.key_id(), &sha256(b"other")).is_err());
        prop_assert!(wrap.open(&secret, "other", key.key_id(), &rd).is_err());
    }

    #[test]
    fn a_proof_holds_for_its_record_and_key_only(seed: u8, at in 0..WRAP) {
        let (_, key) = pair(1);
        let (_, other) = pair(2);
        let rd = sha256(b"record");
        let sealed = make_wrap(&keys(seed), &rd, &key).unwrap().sealed;
        let wrap = WrapView::parse(&sealed).unwrap();
        prop_assert_eq!(verify_proof(&key, &rd, &wrap), Ok(()));
        prop_assert_eq!(verify_proof(&key, &sha256(b"else"), &wrap), Err(ProofError::Invalid));
        prop_assert_eq!(verify_proof(&other, &rd, &wrap), Err(ProofError::Invalid));
        let mut altered = sealed;
        altered[at] ^= 1;
        if let Ok(wrap) = WrapView::parse(&altered) {
            prop_assert!(verify_proof(&key, &rd, &wrap).is_err(), "byte {}", at);
        }
    }
}

#[test]
fn attack_06_a_rerandomised_encapsulation_is_refused() {
    // The attacker takes a victim's E and offers rE, unblinding the escrow's answer later. It knows r but not E's
    // exponent, so the best it can do is to transform the victim's proof or to prove with the wrong exponent.
    let (_, key) = pair(1);
    let rd = sha256(b"the attacker's record");
    let victim = WrapView::parse(
        &make_wrap(&keys(1), &sha256(b"victim"), &key)
            .unwrap()
            .sealed,
    )
    .unwrap();
    let own = make_wrap(&keys(2), &rd, &key).unwrap().sealed;
    for r in [1_u64, 2, 12345] {
        let r = Scalar::from_u64(r);
        let blinded = victim.point() * &r;
        let mut forged = own.clone();
        forged[MLKEM_CIPHERTEXT..ENC].copy_from_slice(&blinded.to_uncompressed().unwrap());
        let parsed = WrapView::parse(&forged).unwrap();
        assert_eq!(verify_proof(&key, &rd, &parsed), Err(ProofError::Invalid));
        // With the victim's proof.
        forged[ENC + WRAP_CT..].copy_from_slice(victim.proof());
        let parsed = WrapView::parse(&forged).unwrap();
        assert_eq!(verify_proof(&key, &rd, &parsed), Err(ProofError::Invalid));
        // With an honest-looking proof over the exponent the attacker knows.
        let statement = proof::statement(&rd, &key, &forged[..ENC], &forged[ENC..ENC + WRAP_CT]);
        let proof = proof::prove(&keys(2), &statement, &r, blinded).unwrap();
        forged[ENC + WRAP_CT..].copy_from_slice(&proof);
        let parsed = WrapView::parse(&forged).unwrap();
        assert_eq!(verify_proof(&key, &rd, &parsed), Err(ProofError::Invalid));
    }
    // The untouched victim's wrap in another record.
    assert_eq!(verify_proof(&key, &rd, &victim), Err(ProofError::Invalid));
}

#[test]
fn attack_07_malformed_wraps_are_typed_errors() {
    let (_, key) = pair(1);
    let rd = sha256(b"record");
    let good = make_wrap(&keys(1), &rd, &key).unwrap().sealed;
    assert_eq!(WrapView::parse(&good[1..]).unwrap_err(), WrapError::Length);
    let mut compressed = good.clone();
    compressed[MLKEM_CIPHERTEXT] = 2;
    assert!(matches!(
        WrapView::parse(&compressed),
        Err(WrapError::Point(_))
    ));
    let mut identity = good.clone();
    identity[MLKEM_CIPHERTEXT..ENC].fill(0);
    assert!(matches!(
        WrapView::parse(&identity),
        Err(WrapError::Point(_))
    ));
    for point in 0..3 {
        let mut proof = good.clone();
        proof[ENC + WRAP_CT + 33 * point..][..33].fill(0);
        let wrap = WrapView::parse(&proof).unwrap();
        assert!(matches!(
            verify_proof(&key, &rd, &wrap),
            Err(ProofError::Malformed(_))
        ));
    }
    let mut z = good;
    z[WRAP - 32..].fill(0xff);
    let wrap = WrapView::parse(&z).unwrap();
    assert!(matches!(
        verify_proof(&key, &rd, &wrap),
        Err(ProofError::Malformed(_))
    ));
    // Keys: a coefficient not below 3329 (FIPS 203 7.2), the point, the length.
    let mut pk = key.public_key().to_vec();
    pk[..3].fill(0xff);
    assert_eq!(
        JournalKey::from_public_key("acme", &pk).unwrap_err(),
        KeyError::MlKem
    );
    let mut pk = key.public_key().to_vec();
    pk[1184] = 2;
    assert!(matches!(
        JournalKey::from_public_key("acme", &pk),
        Err(KeyError::Point(_))
    ));
    assert_eq!(
        JournalKey::from_public_key("acme", &pk[1..]).unwrap_err(),
        KeyError::Length
    );
}

#[test]
fn attack_64_one_seed_for_two_records_repeats_nothing() {
    let (_, key) = pair(1);
    let keys = keys(1);
    let a = make_wrap(&keys, &sha256(b"a"), &key).unwrap();
    let b = make_wrap(&keys, &sha256(b"b"), &key).unwrap();
    let (va, vb) = (
        WrapView::parse(&a.sealed).unwrap(),
        WrapView::parse(&b.sealed).unwrap(),
    );
    assert_ne!(va.mlkem_digest(), vb.mlkem_digest());
    assert_ne!(va.point(), vb.point());
    assert_ne!(va.ct(), vb.ct());
    // W and W2 are the nonce's images: equal ones would give the exponent away.
    assert_ne!(va.proof()[33..66], vb.proof()[33..66]);
    assert_ne!(va.proof()[66..99], vb.proof()[66..99]);
    // A resend repeats bytes.
    assert_eq!(a, make_wrap(&keys, &sha256(b"a"), &key).unwrap());
}

#[test]
fn a_batch_finds_the_false_proofs() {
    let (_, key) = pair(1);
    let rd = sha256(b"record");
    let mut wraps: Vec<WrapView> = (0..9)
        .map(|i| WrapView::parse(&make_wrap(&keys(i), &rd, &key).unwrap().sealed).unwrap())
        .collect();
    let run = |wraps: &[WrapView]| {
        let jobs: Vec<_> = wraps
            .iter()
            .map(|wrap| ProofJob {
                key: &key,
                rd,
                wrap,
            })
            .collect();
        verify_proofs(&jobs)
    };
    assert!(run(&wraps).iter().all(Result::is_ok));
    assert!(run(&[]).is_empty());
    // One with another z, one malformed; the others stay good.
    let mut bad = wraps[3].bytes().to_vec();
    bad[WRAP - 1] ^= 1;
    wraps[3] = WrapView::parse(&bad).unwrap();
    let mut bad = wraps[5].bytes().to_vec();
    bad[ENC + WRAP_CT] = 9;
    wraps[5] = WrapView::parse(&bad).unwrap();
    let results = run(&wraps);
    for (i, result) in results.iter().enumerate() {
        assert_eq!(result.is_ok(), i != 3 && i != 5, "{i}");
    }
}

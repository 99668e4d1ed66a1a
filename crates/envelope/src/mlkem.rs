//! ML-KEM-768 (FIPS 203), the one place that names its library.
//!
//! The library is `libcrux-ml-kem`: much of its portable and AVX2 code is proved in F*, and it is several times as fast as others
//! where the processor has AVX2. Tests hold it against `ml-kem`, which shares no code with it, and through the `hpke` crate, which
//! uses that one; `vectors/` is checked with the other one.

use libcrux_ml_kem::mlkem768::{
    self, MlKem768Ciphertext, MlKem768PrivateKey, MlKem768PublicKey, validate_public_key,
};
use zeroize::Zeroize as _;

use crate::hybrid::{SharedSecret, take_secret};
use crate::limits::{MLKEM_CIPHERTEXT, MLKEM_KEY};

/// The modulus check of FIPS 203 7.2 fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ML-KEM key is malformed")]
pub(crate) struct Malformed;

/// An encapsulation key that was checked.
#[derive(Clone)]
pub(crate) struct Encapsulation(Box<MlKem768PublicKey>);

impl Encapsulation {
    /// From its bytes, with the modulus check of FIPS 203 7.2.
    pub(crate) fn parse(bytes: &[u8; MLKEM_KEY]) -> Result<Self, Malformed> {
        let key = Box::new(MlKem768PublicKey::from(bytes));
        if validate_public_key(&key) {
            Ok(Self(key))
        } else {
            Err(Malformed)
        }
    }

    /// Ciphertext and secret from 32 bytes of randomness (FIPS 203 algorithm 17).
    pub(crate) fn encapsulate(&self, message: &[u8; 32]) -> ([u8; MLKEM_CIPHERTEXT], SharedSecret) {
        let (ciphertext, mut secret) = mlkem768::encapsulate(&self.0, *message);
        (ciphertext.into(), take_secret(&mut secret))
    }
}

/// A decapsulation key; wiped when dropped. What making and using it leaves on the stack is for the caller to wipe.
#[derive(Clone)]
pub(crate) struct Decapsulation(Box<MlKem768PrivateKey>);

impl Decapsulation {
    /// The keys of a 64-byte seed (FIPS 203, `d ‖ z`): this one, and the encapsulation key encoded.
    pub(crate) fn from_seed(seed: &[u8; 64]) -> (Self, [u8; MLKEM_KEY]) {
        let (mut private, public) = mlkem768::generate_key_pair(*seed).into_parts();
        let key = Self(Box::new(private.clone()));
        private[0..].zeroize();
        (key, public.into())
    }

    /// The secret (implicit rejection: a wrong ciphertext gives an unrelated one).
    pub(crate) fn decapsulate(&self, ciphertext: &[u8; MLKEM_CIPHERTEXT]) -> SharedSecret {
        let mut secret = mlkem768::decapsulate(&self.0, &MlKem768Ciphertext::from(ciphertext));
        take_secret(&mut secret)
    }
}

impl Drop for Decapsulation {
    fn drop(&mut self) {
        self.0[0..].zeroize();
    }
}

#[cfg(test)]
mod tests {
    use ml_kem::array::Array;
    use ml_kem::kem::Decapsulate as _;
    use ml_kem::{EncapsulationKey, FromSeed as _, KeyExport as _, MlKem768};
    use proptest::prelude::*;

    use super::*;

    fn seed() -> impl Strategy<Value = [u8; 64]> {
        proptest::array::uniform32(any::<[u8; 2]>()).prop_map(|pairs| {
            let mut seed = [0; 64];
            seed.copy_from_slice(pairs.as_flattened());
            seed
        })
    }

    proptest! {
        #[test]
        fn both_libraries_make_the_same_of_everything(
            seed in seed(), message: [u8; 32], bit in 0..MLKEM_CIPHERTEXT * 8,
        ) {
            let (ours, key) = Decapsulation::from_seed(&seed);
            let (theirs, their_key) = MlKem768::from_seed(&Array::from(seed));
            prop_assert_eq!(&key[..], &their_key.to_bytes()[..]);
            let (ciphertext, secret) = Encapsulation::parse(&key).unwrap().encapsulate(&message);
            let (their_ciphertext, their_secret) = their_key.encapsulate_deterministic(&message.into());
            prop_assert_eq!(&ciphertext[..], &their_ciphertext[..]);
            prop_assert_eq!(&secret[..], &their_secret[..]);
            prop_assert_eq!(&ours.decapsulate(&ciphertext), &secret);
            // Implicit rejection is the same too.
            let mut altered = ciphertext;
            altered[bit / 8] ^= 1 << (bit % 8);
            let rejected = ours.decapsulate(&altered);
            prop_assert_eq!(&rejected[..], &theirs.decapsulate(&altered.into())[..]);
            prop_assert_ne!(rejected, secret);
        }

        #[test]
        fn both_libraries_refuse_the_same_keys(seed in seed(), place in 0..768_usize, value in 0..4096_u16) {
            let (_, mut key) = Decapsulation::from_seed(&seed);
            // Coefficients come in pairs, 12 bits each in three bytes.
            let at = place / 2 * 3;
            if place % 2 == 0 {
                key[at] = value as u8;
                key[at + 1] = key[at + 1] & 0xf0 | (value >> 8) as u8;
            } else {
                key[at + 1] = key[at + 1] & 0x0f | (value << 4) as u8;
                key[at + 2] = (value >> 4) as u8;
            }
            let ours = Encapsulation::parse(&key).is_ok();
            prop_assert_eq!(ours, EncapsulationKey::<MlKem768>::new(&key.into()).is_ok());
            prop_assert_eq!(ours, value < 3329);
        }
    }
}

//! Attack 4, the invisible salamander: one AES-GCM ciphertext, tag included, that opens under two keys.
//!
//! GCM's tag is linear in the ciphertext's blocks, so one block can be solved for such that two keys agree on the tag
//! (Grubbs, Lu, Ristenpart, "Message Franking via Committing Authenticated Encryption", 2017, section 6; Dodis, Grubbs,
//! Ristenpart, Woodage, "Fast Message Franking", 2018, section 3: what let abuse in Facebook's attachments go unreported).
//! Here the free block lies in a message's text, so the ciphertext is a perfectly good message under the first key.

use aes_gcm::aead::Aead as _;
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::BlockCipherEncrypt as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use greffe_envelope::derive::{Cek, Seed, StreamKey};
use greffe_envelope::envelope::{Envelope, Header};
use greffe_envelope::label::sha256;
use greffe_envelope::message::{OpenError, Sealed, open_with_cek, open_with_seed};
use greffe_envelope::padding::pad;
use greffe_envelope::recompute::{Mismatch, recompute};
use greffe_envelope::stream::{TAG, open_all, seal_all};
use proptest::prelude::*;
use prost::Message as _;

use crate::world::{Device, TENANT, content, keys};

/// The nonce of a stream's only chunk.
const NONCE: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Multiplication in GCM's field (NIST SP 800-38D 6.3): bit 0 is the highest.
fn times(x: u128, y: u128) -> u128 {
    let (mut product, mut v) = (0, y);
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            product ^= v;
        }
        let reduce = v & 1 == 1;
        v >>= 1;
        if reduce {
            v ^= 0xe1 << 120;
        }
    }
    product
}

/// The inverse: the power 2^128 - 2.
fn invert(x: u128) -> u128 {
    let mut square = times(x, x);
    let mut inverse = square;
    for _ in 2..128 {
        square = times(square, square);
        inverse = times(inverse, square);
    }
    inverse
}

/// One key's half of GCM.
struct Gcm {
    h: u128,
    mask: u128,
}

impl Gcm {
    fn new(key: &StreamKey) -> Self {
        let aes = Aes256::new(key.as_bytes().into());
        let encrypt = |block: u128| {
            let mut block = block.to_be_bytes().into();
            aes.encrypt_block(&mut block);
            u128::from_be_bytes(block.into())
        };
        let mut counter = [0; 16];
        counter[..12].copy_from_slice(&NONCE);
        counter[15] = 1;
        Self {
            h: encrypt(0),
            mask: encrypt(u128::from_be_bytes(counter)),
        }
    }

    /// The tag of a ciphertext without associated data.
    fn tag(&self, ciphertext: &[u8]) -> u128 {
        let mut sum = 0;
        for block in ciphertext.chunks(16) {
            let mut bytes = [0; 16];
            bytes[..block.len()].copy_from_slice(block);
            sum = times(sum ^ u128::from_be_bytes(bytes), self.h);
        }
        times(sum ^ (ciphertext.len() as u128 * 8), self.h) ^ self.mask
    }

    /// What block `at` of so many is multiplied by in the tag.
    fn weight(&self, at: usize, blocks: usize) -> u128 {
        (0..blocks - at).fold(self.h, |power, _| times(power, self.h))
    }
}

/// Changes block `at` of what `first` encrypts so that both keys give one tag.
fn collide(first: &StreamKey, second: &StreamKey, plain: &[u8], at: usize) -> Vec<u8> {
    let mut ciphertext = seal_all(first, plain).unwrap();
    ciphertext.truncate(plain.len());
    ciphertext[16 * at..16 * (at + 1)].fill(0);
    let (one, two) = (Gcm::new(first), Gcm::new(second));
    let blocks = ciphertext.len().div_ceil(16);
    let difference = one.tag(&ciphertext) ^ two.tag(&ciphertext);
    let weight = one.weight(at, blocks) ^ two.weight(at, blocks);
    let block = times(difference, invert(weight));
    ciphertext[16 * at..16 * (at + 1)].copy_from_slice(&block.to_be_bytes());
    let tag = one.tag(&ciphertext);
    assert_eq!(tag, two.tag(&ciphertext));
    ciphertext.extend_from_slice(&tag.to_be_bytes());
    ciphertext
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn attack_04_one_ciphertext_under_two_keys_opens_under_the_committed_one_only(
        seeds: ([u8; 32], [u8; 32]), length in 64_usize..3000, place: prop::sample::Index,
    ) {
        prop_assume!(seeds.0 != seeds.1);
        let sender = Device::new("alice", 20);
        let (seed, other) = (Seed::from_bytes(seeds.0), Seed::from_bytes(seeds.1));
        let (cek, other_cek) = (sender.draft(&seed).cek().clone(), sender.draft(&other).cek().clone());
        let honest = sender.seal(&seed, &vec![b'x'; length]);
        let hd = honest.envelope.header().digest();
        let ((first, commitment), (second, other_commitment)) = (cek.content(&hd), other_cek.content(&hd));

        // The text starts in the first block and ends after the last one counted here.
        let padded = pad(&content(&vec![b'x'; length]).encode_to_vec());
        let at = 1 + place.index(length / 16 - 1);
        let ciphertext = collide(&first, &second, &padded, at);

        // Plain AES-256-GCM, and STREAM on it, open under both keys, to different plaintexts.
        let opened = [&first, &second].map(|key| {
            let plain = Aes256Gcm::new(key.as_bytes().into()).decrypt(&NONCE.into(), &*ciphertext);
            let plain = plain.expect("the tag is right under either key");
            assert_eq!(open_all(key, &ciphertext).unwrap(), plain);
            plain
        });
        prop_assert_ne!(&opened[0], &opened[1]);
        prop_assert_eq!(opened[0].len() + TAG, ciphertext.len());

        // With the first key's commitment it is a message to the first key and nothing to the second.
        let envelope = signed(&sender, &honest, &ciphertext, commitment.as_bytes());
        let read = open_with_cek(&cek, TENANT, &envelope, &ciphertext).unwrap();
        prop_assert_eq!(read.content.text.len(), length);
        prop_assert!(open_with_seed(&seed, TENANT, &envelope, &ciphertext).is_ok());
        prop_assert!(matches!(
            open_with_cek(&other_cek, TENANT, &envelope, &ciphertext),
            Err(OpenError::ContentCommitment)
        ));
        prop_assert!(matches!(
            open_with_seed(&other, TENANT, &envelope, &ciphertext),
            Err(OpenError::SeedCommitment)
        ));

        // With the second key's, the recipients' key is refused, and what they hold is evidence.
        let envelope = signed(&sender, &honest, &ciphertext, other_commitment.as_bytes());
        prop_assert!(matches!(
            open_with_seed(&seed, TENANT, &envelope, &ciphertext),
            Err(OpenError::ContentCommitment)
        ));
        prop_assert_eq!(
            recompute(&seed, TENANT, &envelope, &keys(), &[]),
            Err(Mismatch::ContentCommitment)
        );
    }
}

/// The honest message's envelope around another ciphertext and commitment.
fn signed(sender: &Device, honest: &Sealed, ciphertext: &[u8], commitment: &[u8]) -> Envelope {
    let mut body = honest.envelope.body().clone();
    body.ciphertext_digest = sha256(ciphertext).to_vec();
    body.ciphertext_size = ciphertext.len() as u64;
    body.commitment = commitment.to_vec();
    Envelope::sign(&body, &sender.key).unwrap()
}

#[test]
fn attack_04_commitments_of_different_keys_or_headers_differ() {
    let header = |counter| {
        let sender = Device::new("alice", 20);
        let mut header = sender.header();
        header.mls_epoch = counter;
        Header::build(&header).unwrap().digest()
    };
    let commit = |cek: u8, header| Cek::from_bytes([cek; 32]).content(&header).1;
    assert_ne!(commit(1, header(1)), commit(2, header(1)));
    assert_ne!(commit(1, header(1)), commit(1, header(2)));
}

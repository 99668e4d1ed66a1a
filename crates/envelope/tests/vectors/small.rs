//! Padding, STREAM, curve, chain, record lists, secrets at rest, strict signatures.

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use ed25519_dalek::{Signer as _, SigningKey};
use greffe_envelope::chain::{ChainState, handshake_digest, void_digest};
use greffe_envelope::curve::{G2_DST, Point, hash_to_curve};
use greffe_envelope::derive::StreamKey;
use greffe_envelope::label::{Prk, label, lp, sha256};
use greffe_envelope::opening::{RecordList, check_path};
use greffe_envelope::padding::{pad, padded_len, unpad};
use greffe_envelope::sealbox::{Place, SealKey};
use greffe_envelope::statement::verify_strict;
use greffe_envelope::stream::{CHUNK, open_all, seal_all};
use greffe_types::{ConversationId, Digest};
use serde_json::{Value, json};

use super::json::{Json as _, hex, point};
use super::keys::Seeded;

pub fn padding() -> Vec<Value> {
    let lengths = [
        0_u64,
        1,
        2,
        92,
        93,
        1000,
        65_528,
        1 << 20,
        (1 << 32) - 1,
        1 << 32,
    ];
    let mut cases: Vec<Value> = lengths
        .iter()
        .map(|length| json!({ "length": length, "padded_length": padded_len(*length) }))
        .collect();
    let mut rng = Seeded::new("padding");
    for length in [0, 1, 9, 100] {
        let data = rng.bytes(length);
        let padded = pad(&data);
        assert_eq!(unpad(&padded), Ok(data.as_slice()));
        cases.push(json!({ "data": hex(&data), "padded": hex(&padded) }));
    }
    cases
}

pub fn stream() -> Vec<Value> {
    let mut rng = Seeded::new("stream");
    let lengths = [0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK];
    let case = |length: usize| {
        let key: [u8; 32] = rng.array();
        let plain: Vec<u8> = (0..length).map(|i| (7 * i + 3) as u8).collect();
        let ciphertext = seal_all(&StreamKey::from_bytes(key), &plain).unwrap();
        assert_eq!(
            open_all(&StreamKey::from_bytes(key), &ciphertext).unwrap(),
            plain
        );
        let mut case = json!({
            "key": hex(key),
            "length": length,
            "ciphertext_length": ciphertext.len(),
            "ciphertext_digest": sha256(&ciphertext).json(),
            "last_tag": hex(&ciphertext[ciphertext.len() - 16..]),
        });
        if length <= 1000 {
            case["ciphertext"] = hex(&ciphertext);
        }
        case
    };
    lengths.map(case).into()
}

pub fn curve() -> Vec<Value> {
    let hashed = |dst: &[u8], message: &[u8]| {
        json!({
            "dst": String::from_utf8_lossy(dst),
            "message": String::from_utf8_lossy(message),
            "point": point(&hash_to_curve(dst, message)),
        })
    };
    assert!(hash_to_curve(G2_DST, b"") == Point::generator2());
    // The others are RFC 9380, appendix J.1.1.
    let dst = b"QUUX-V01-CS02-with-P256_XMD:SHA-256_SSWU_RO_";
    vec![
        hashed(G2_DST, b""),
        hashed(dst, b""),
        hashed(dst, b"abc"),
        hashed(dst, b"abcdef0123456789"),
    ]
}

pub fn chain() -> Vec<Value> {
    let mut rng = Seeded::new("chain");
    let conversation = ConversationId::new(rng.array());
    let mut state = ChainState::start(conversation);
    let mut entries = Vec::new();
    for round in 0..5 {
        let (mut entry, digest) = match round {
            0 | 3 => {
                let message = rng.bytes(40 + round);
                let digest = handshake_digest(&message);
                (
                    json!({ "kind": "handshake", "public_message": hex(&message) }),
                    digest,
                )
            }
            2 => {
                let refused = Digest::new(rng.array());
                let digest = void_digest(&refused, "CERTIFICATE_REVOKED");
                let void = json!({
                    "kind": "void",
                    "refused": refused.json(),
                    "reason": "CERTIFICATE_REVOKED",
                });
                (void, digest)
            }
            _ => (json!({ "kind": "message" }), Digest::new(rng.array())),
        };
        state = state.next(&digest);
        entry["digest"] = digest.json();
        entry["sequence"] = state.sequence.into();
        entry["head"] = state.head.json();
        entries.push(entry);
    }
    vec![json!({ "conversation": hex(conversation.as_bytes()), "entries": entries })]
}

pub fn records() -> Vec<Value> {
    let mut rng = Seeded::new("records");
    let case = |count: usize| {
        let mut digests: Vec<Digest> = (0..count).map(|_| Digest::new(rng.array())).collect();
        digests.sort();
        let list = RecordList::new(digests).unwrap();
        let paths: Vec<Value> = list
            .digests()
            .iter()
            .map(|digest| {
                let (index, path) = list.path(digest).unwrap();
                check_path(&list.root(), list.count(), index, digest, &path).unwrap();
                path.json()
            })
            .collect();
        json!({ "digests": list.digests().to_vec().json(), "root": list.root().json(), "paths": paths })
    };
    [1, 2, 3, 5, 8, 13].map(case).into()
}

pub fn sealbox() -> Vec<Value> {
    let mut rng = Seeded::new("sealbox");
    let master: [u8; 32] = rng.array();
    let nonce: [u8; 12] = rng.array();
    let (row, plain) = (rng.bytes(16), rng.bytes(40));
    let (table, column) = ("shares", "scalar");
    let key = Prk::from_key(&master).expand::<32>("sealbox", &[&lp(table.as_bytes())]);
    let place = [lp(table.as_bytes()), lp(&row), lp(column.as_bytes())].concat();
    let aad = [label("sealbox-ad"), place].concat();
    let payload = Payload {
        msg: &plain,
        aad: &aad,
    };
    let sealed = Aes256Gcm::new((&*key).into())
        .encrypt(&nonce.into(), payload)
        .unwrap();
    let sealed = [&[1], nonce.as_slice(), &sealed].concat();
    let place = Place {
        table,
        row: &row,
        column,
    };
    let opened = SealKey::from_bytes(master).open(&place, &sealed).unwrap();
    assert_eq!(*opened, plain);
    vec![json!({
        "master": hex(master),
        "table": table,
        "row": hex(&row),
        "column": column,
        "plain": hex(&plain),
        "sealed": hex(&sealed),
    })]
}

/// Keys and signatures at the edges of what Ed25519 verifiers agree on.
pub fn ed25519() -> Vec<Value> {
    let key = SigningKey::from_bytes(&Seeded::new("ed25519").array());
    let public = key.verifying_key().to_bytes();
    let message = b"greffe";
    let good = key.sign(message).to_bytes();
    // s + L: the same residue, refused by RFC 8032 5.1.7.
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10_u8,
    ];
    let mut malleable = good;
    let mut carry = 0_u16;
    for (byte, add) in malleable[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = carry as u8;
        carry >>= 8;
    }
    let mut identity = [0_u8; 32];
    identity[0] = 1;
    // R = B and s = 1: under the identity as key it verifies for every message where strictness is missing.
    let mut weak = [0x66; 64];
    weak[0] = 0x58;
    weak[32..].fill(0);
    weak[32] = 1;
    let small_r = [identity.as_slice(), &good[32..]].concat();
    let second = [0xf0, 0xff, 0xff, 0xff]
        .into_iter()
        .chain([0xff; 27])
        .chain([0x7f]);
    let cases: [(&str, Vec<u8>, Vec<u8>); 6] = [
        ("a signature", public.to_vec(), good.to_vec()),
        (
            "s not below the group's order",
            public.to_vec(),
            malleable.to_vec(),
        ),
        ("the identity as key", identity.to_vec(), weak.to_vec()),
        ("a key of order 4", vec![0; 32], weak.to_vec()),
        ("R of small order", public.to_vec(), small_r),
        (
            "a key in a second form: y = 3 as 3 + p",
            second.collect(),
            good.to_vec(),
        ),
    ];
    let case = |(name, key, signature): (&str, Vec<u8>, Vec<u8>)| {
        json!({
            "about": name,
            "key": hex(&key),
            "message": hex(message),
            "signature": hex(&signature),
            "accepted": verify_strict(name, &key, message, &signature).is_ok(),
        })
    };
    cases.map(case).into()
}

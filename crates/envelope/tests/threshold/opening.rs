//! Opening: what an unmodified HPKE library sealed opens with a quorum's answers, and with nothing less.

use greffe_envelope::label::{label, push_lp};
use greffe_envelope::opening::{
    AnswerContext, AnswerError, HybridSecretKey, OpenError, Opener, PartialError, answer_with_salt,
    seal, verify_partial,
};
use greffe_types::Digest;

use crate::support::{Generated, Seeded, World};

/// A content key sealed to the journaling key, as the envelope does it.
pub struct Sealed {
    pub context: AnswerContext,
    pub record_digest: Digest,
    pub ciphertext: [u8; 48],
    pub key: [u8; 32],
}

pub fn sealed(key: &Generated, rng: &mut Seeded) -> Sealed {
    let content_key: [u8; 32] = rng.array();
    let record_digest = Digest::new(rng.array());
    let mut info = label("wrap");
    push_lp(&mut info, b"acme");
    info.extend_from_slice(&key.record.key_id);
    let wrap = seal(
        &key.record.public_key,
        &info,
        record_digest.as_bytes(),
        &content_key,
        rng,
    )
    .unwrap();
    Sealed {
        context: AnswerContext {
            tenant: "acme".into(),
            order: Digest::new(rng.array()),
            envelope: Digest::new(rng.array()),
            key_id: key.holders.key_id(),
            encapsulation: wrap[..1153].try_into().unwrap(),
        },
        record_digest,
        ciphertext: wrap[1153..].try_into().unwrap(),
        key: content_key,
    }
}

pub fn opener<'a>(sealed: &Sealed, key: &'a Generated) -> Opener<'a> {
    Opener::new(
        sealed.context.clone(),
        &key.holders,
        key.record.public_key.as_slice().try_into().unwrap(),
        sealed.record_digest,
        sealed.ciphertext,
    )
}

/// The answer of the node at a position.
pub fn answer(
    world: &mut World,
    key: &Generated,
    context: &AnswerContext,
    at: usize,
    reader: &[u8],
) -> Vec<u8> {
    let node = &world.nodes[at];
    context
        .answer(
            &key.shares[at],
            &node.name,
            &node.signing_key,
            reader,
            &mut world.rng,
        )
        .unwrap()
}

#[test]
fn every_quorum_opens_and_one_less_does_not() {
    for (threshold, count) in [(2_usize, 2_usize), (2, 3), (3, 5)] {
        let mut world = World::new("quorums", count as u32);
        let key = world.key(threshold as u32, count);
        let sealed = sealed(&key, &mut world.rng);
        let reader = HybridSecretKey::generate(&mut world.rng);
        let public = reader.public_key();
        let answers: Vec<Vec<u8>> = (0..count)
            .map(|at| answer(&mut world, &key, &sealed.context, at, &public))
            .collect();
        for mask in 1_u32..1 << count {
            let mut opener = opener(&sealed, &key);
            for at in (0..count).filter(|at| mask >> at & 1 == 1) {
                let name = &world.nodes[at].name;
                let node_key = world.node_key(name).unwrap();
                opener.add(&reader, name, node_key, &answers[at]).unwrap();
            }
            let chosen = mask.count_ones() as usize;
            match opener.open() {
                Ok(opened) => {
                    assert!(chosen >= threshold);
                    assert_eq!(*opened.key, sealed.key);
                    assert!(opened.wrong_secrets.is_empty());
                }
                Err(error) => {
                    assert!(chosen < threshold);
                    let needed = threshold as u16;
                    assert_eq!(
                        error,
                        OpenError::NotEnough {
                            found: chosen,
                            needed
                        }
                    );
                }
            }
        }
    }
}

#[test]
fn attack_26_a_wrong_partial_is_blamed_and_the_honest_quorum_opens() {
    let mut world = World::new("wrong", 3);
    let key = world.key(2, 3);
    let other = world.key(2, 3);
    let sealed = sealed(&key, &mut world.rng);
    let reader = HybridSecretKey::generate(&mut world.rng);
    let public = reader.public_key();
    let mut opener = opener(&sealed, &key);
    // Node 1 answers with a share of another key, hence another epoch; then as if it were node 2; then for another record.
    let foreign = answer(&mut world, &other, &sealed.context, 0, &public);
    let mut elsewhere = sealed.context.clone();
    elsewhere.envelope = Digest::new([9; 32]);
    let elsewhere = answer(&mut world, &key, &elsewhere, 0, &public);
    let node_key = |name: &str| world.node_key(name).unwrap();
    let (one, two) = ("escrow-1", "escrow-2");
    assert!(matches!(
        opener.add(&reader, one, node_key(one), &foreign),
        Err(AnswerError::Epoch)
    ));
    assert!(matches!(
        opener.add(&reader, two, node_key(two), &foreign),
        Err(AnswerError::Hybrid(_))
    ));
    assert!(matches!(
        opener.add(&reader, one, node_key(one), &elsewhere),
        Err(AnswerError::Hybrid(_))
    ));
    assert!(matches!(
        opener.add(&reader, "escrow-9", node_key(one), &foreign),
        Err(AnswerError::NotAHolder(_))
    ));
    for at in [1, 2] {
        let bytes = answer(&mut world, &key, &sealed.context, at, &public);
        let name = world.nodes[at].name.clone();
        let node_key = world.node_key(&name).unwrap();
        opener.add(&reader, &name, node_key, &bytes).unwrap();
    }
    assert_eq!(*opener.open().unwrap().key, sealed.key);
}

#[test]
fn attack_26_every_bit_of_a_partial_and_of_its_statement_counts() {
    let mut world = World::new("flip", 2);
    let key = world.key(2, 2);
    let sealed = sealed(&key, &mut world.rng);
    let share = &key.shares[0];
    let scalar = scalar_of(share);
    let own = share.verification_share();
    let statement = sealed
        .context
        .statement(share.share_epoch(), share.index(), own)
        .unwrap();
    let partial = answer_with_salt(&statement, &scalar, &[7; 32]).unwrap();
    verify_partial(&statement, &partial).unwrap();
    let bytes = *partial.to_bytes();
    for at in 0..bytes.len() {
        let mut bad = bytes;
        bad[at] ^= 1;
        let bad = greffe_envelope::opening::Partial::from_bytes(&bad);
        assert!(verify_partial(&statement, &bad).is_err(), "byte {at}");
    }
    let mut other = statement.clone();
    other.order = Digest::new([1; 32]);
    assert_eq!(verify_partial(&other, &partial), Err(PartialError::Proof));
    other = statement.clone();
    other.envelope = Digest::new([1; 32]);
    assert_eq!(verify_partial(&other, &partial), Err(PartialError::Proof));
    other = statement.clone();
    other.key_id = Digest::new([1; 32]);
    assert_eq!(verify_partial(&other, &partial), Err(PartialError::Proof));
    other = statement.clone();
    other.share_epoch = Digest::new([1; 32]);
    assert_eq!(verify_partial(&other, &partial), Err(PartialError::Proof));
    other = statement.clone();
    other.index = 2;
    assert_eq!(verify_partial(&other, &partial), Err(PartialError::Proof));
    other = statement.clone();
    other.verification_share = key.shares[1].verification_share();
    assert_eq!(verify_partial(&other, &partial), Err(PartialError::Proof));
    assert_eq!(
        answer_with_salt(&other, &scalar, &[7; 32]),
        Err(PartialError::Share)
    );
    other = statement;
    other.encapsulation = own;
    assert_eq!(verify_partial(&other, &partial), Err(PartialError::Proof));
}

/// The scalar of a stored share: tests may look where nothing else can.
pub fn scalar_of(share: &greffe_envelope::ceremony::NodeShare) -> greffe_envelope::curve::Scalar {
    let at = 1 + 4 + share.tenant().len() + 32 + 2 + 2;
    greffe_envelope::curve::Scalar::from_canonical(&share.to_bytes()[at..at + 32]).unwrap()
}

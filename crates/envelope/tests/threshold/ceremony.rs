//! Key generation: honest runs, stored shares, and nodes that cheat.

use greffe_envelope::ceremony::{CeremonyError, Fault, KeyGeneration, NodeShare, ShareHolders};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use prost::Message;

use crate::support::World;

/// Signs a changed ceremony message anew with its sender's own key: what a cheating node can do.
fn resign(
    world: &World,
    raw: &pb::SignedStatement,
    change: impl FnOnce(&mut pb::CeremonyMessage),
) -> pb::SignedStatement {
    let mut message = pb::CeremonyMessage::decode(raw.statement.as_slice()).unwrap();
    let sender = message.sender.clone();
    let node = world.nodes.iter().find(|node| node.name == sender).unwrap();
    change(&mut message);
    Signed::sign(message, &[(&node.name, &node.signing_key)]).into_raw()
}

fn round(raw: &pb::SignedStatement) -> (u32, String) {
    let message = pb::CeremonyMessage::decode(raw.statement.as_slice()).unwrap();
    (message.round, message.sender)
}

fn identities(seed: &str, count: u32) -> World {
    // The same seed gives the same keys: a second world that can sign while the first is borrowed.
    World::new(seed, count)
}

#[test]
fn honest_committees_agree() {
    for (threshold, count) in [(2, 2), (2, 3), (3, 5)] {
        let mut world = World::new("honest", count);
        let key = world.key(threshold, count as usize);
        assert_eq!(key.record.public_key.len(), 1249);
        assert_eq!(key.record.t_min, threshold);
        assert_eq!(key.holders.threshold(), threshold as u16);
        assert_eq!(key.shares.len(), count as usize);
        for share in &key.shares {
            assert_eq!(share.key_id(), key.holders.key_id());
            assert_eq!(share.share_epoch(), key.epoch.digest());
            let stored = NodeShare::from_bytes(&share.to_bytes()).unwrap();
            assert_eq!(stored.to_bytes(), share.to_bytes());
        }
        let scalars: Vec<_> = key.shares.iter().map(|s| s.to_bytes().to_vec()).collect();
        assert!(scalars.windows(2).all(|pair| pair[0] != pair[1]));
    }
}

#[test]
fn stored_shares_are_checked_and_never_shown() {
    let mut world = World::new("stored", 2);
    let key = world.key(2, 2);
    let share = &key.shares[0];
    let bytes = share.to_bytes();
    // The scalar follows version, LP(tenant), share epoch, index and threshold.
    let at = 1 + 4 + 4 + 32 + 2 + 2;
    for flip in [0, at, at + 32, at + 96, bytes.len() - 40] {
        let mut bad = bytes.to_vec();
        bad[flip] ^= 1;
        assert!(NodeShare::from_bytes(&bad).is_err(), "byte {flip}");
    }
    assert!(NodeShare::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    assert!(NodeShare::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    let shown = format!("{share:?}");
    assert!(!shown.contains(&hex::encode(&bytes[at..at + 4])), "{shown}");
    assert!(
        !shown.contains("scalar") && !shown.contains("seed"),
        "{shown}"
    );
}

#[test]
fn descriptors_are_checked() {
    let mut world = World::new("descriptors", 3);
    let good = world.descriptor(2, 3);
    assert!(world.plan(good.clone()).is_ok());
    let mut bad: Vec<pb::KeygenDescriptor> = Vec::new();
    let mut with = |change: fn(&mut pb::KeygenDescriptor)| {
        let mut descriptor = good.clone();
        change(&mut descriptor);
        bad.push(descriptor);
    };
    with(|d| d.threshold = 1);
    with(|d| d.threshold = 4);
    with(|d| d.threshold = 65538);
    with(|d| d.tenant = "other".into());
    with(|d| d.session = vec![1; 15]);
    with(|d| d.nodes[1] = d.nodes[0].clone());
    with(|d| d.nodes[1] = "escrow-9".into());
    with(|d| d.nodes.truncate(1));
    with(|d| d.bundle_version = 2);
    with(|d| d.expiry = 1_000_000);
    with(|d| d.not_after = d.not_before);
    with(|d| d.period = String::new());
    for descriptor in bad {
        assert!(world.plan(descriptor.clone()).is_err(), "{descriptor:?}");
    }
    let unsigned = Signed::sign(good, &[("root", &world.nodes[0].signing_key)]);
    let root = world.root_key();
    let plan = greffe_envelope::ceremony::Plan::check(
        &unsigned,
        &root,
        &world.bundle,
        crate::support::NOW,
    );
    assert!(matches!(plan, Err(CeremonyError::Descriptor(_))));
}

#[test]
fn attack_28_differing_commitments_abort() {
    let mut world = World::new("split", 3);
    let descriptor = world.descriptor(2, 3);
    let plan = world.plan(descriptor).unwrap();
    // Node 1 tells node 3 another first round than the others.
    let (_, other) = KeyGeneration::start(plan.clone(), &world.nodes[0], &mut world.rng).unwrap();
    let outcome = world.generate(&plan, |at, message| {
        if round(&message) == (1, "escrow-1".into()) && at == 2 {
            Some(other.clone())
        } else {
            Some(message)
        }
    });
    let error = outcome.err().unwrap();
    assert!(matches!(error, CeremonyError::Split { .. }), "{error:?}");
}

#[test]
fn attack_28_two_messages_for_a_round_blame_the_sender() {
    let mut world = World::new("two", 2);
    let descriptor = world.descriptor(2, 2);
    let plan = world.plan(descriptor).unwrap();
    let start = |at: usize, world: &mut World| {
        KeyGeneration::start(plan.clone(), &world.nodes[at], &mut world.rng).unwrap()
    };
    let (mut one, _) = start(0, &mut world);
    let (_, first) = start(1, &mut world);
    let (_, second) = start(1, &mut world);
    one.receive(&world.nodes[0], first.clone(), &mut world.rng)
        .unwrap();
    one.receive(&world.nodes[0], first, &mut world.rng).unwrap();
    let error = one
        .receive(&world.nodes[0], second, &mut world.rng)
        .unwrap_err();
    assert_eq!(error.culprit(), Some("escrow-2"));
    let (_, third) = start(1, &mut world);
    assert!(matches!(
        one.receive(&world.nodes[0], third, &mut world.rng),
        Err(CeremonyError::Aborted)
    ));
}

#[test]
fn attack_28_raised_degree_blames_the_sender() {
    let mut world = World::new("degree", 3);
    let signer = identities("degree", 3);
    let descriptor = world.descriptor(2, 3);
    let mut raised = descriptor.clone();
    raised.threshold = 3;
    let plan = world.plan(descriptor).unwrap();
    let raised = world.plan(raised).unwrap();
    let (_, forged) = KeyGeneration::start(raised, &world.nodes[0], &mut world.rng).unwrap();
    let forged = resign(&signer, &forged, |_| {});
    let outcome = world.generate(&plan, |_, message| {
        let first = round(&message) == (1, "escrow-1".into());
        Some(if first { forged.clone() } else { message })
    });
    let error = outcome.err().unwrap();
    assert_eq!(error.culprit(), Some("escrow-1"));
    assert!(matches!(
        error,
        CeremonyError::Blamed {
            fault: Fault::Degree {
                expected: 2,
                found: 3
            },
            ..
        }
    ));
}

#[test]
fn attack_28_a_copied_commitment_blames_the_copier() {
    // Node 2 repeats node 1's polynomial as its own (a rogue key): the proof of knowledge is bound to the index.
    let mut world = World::new("copy", 3);
    let signer = identities("copy", 3);
    let descriptor = world.descriptor(2, 3);
    let plan = world.plan(descriptor).unwrap();
    let mut stolen = None;
    let outcome = world.generate(&plan, |_, message| match round(&message) {
        (1, sender) if sender == "escrow-1" => {
            stolen = Some(pb::CeremonyMessage::decode(message.statement.as_slice()).unwrap());
            Some(message)
        }
        (1, sender) if sender == "escrow-2" => {
            let payload = stolen.clone().unwrap().payload;
            Some(resign(&signer, &message, |m| m.payload = payload))
        }
        _ => Some(message),
    });
    assert_eq!(outcome.err().unwrap().culprit(), Some("escrow-2"));
}

#[test]
fn wrong_private_messages_blame_the_sender() {
    for tamper in ["another's", "garbage"] {
        let mut world = World::new("private", 3);
        let signer = identities("private", 3);
        let descriptor = world.descriptor(2, 3);
        let plan = world.plan(descriptor).unwrap();
        let mut kept = None;
        let outcome = world.generate(&plan, |at, message| match round(&message) {
            (2, sender) if sender == "escrow-1" && at == 2 => {
                kept = Some(message.clone());
                Some(message)
            }
            (2, sender) if sender == "escrow-2" && at == 2 && tamper == "another's" => {
                let other = kept.clone().unwrap();
                let other = pb::CeremonyMessage::decode(other.statement.as_slice()).unwrap();
                Some(resign(&signer, &message, |m| m.payload = other.payload))
            }
            (2, sender) if sender == "escrow-2" && at == 2 => {
                Some(resign(&signer, &message, |m| m.payload[1200] ^= 1))
            }
            _ => Some(message),
        });
        let error = outcome.err().unwrap();
        assert_eq!(error.culprit(), Some("escrow-2"), "{tamper}: {error:?}");
    }
}

#[test]
fn forged_and_foreign_messages_are_ignored() {
    let mut world = World::new("forged", 2);
    let descriptor = world.descriptor(2, 2);
    let plan = world.plan(descriptor).unwrap();
    let other = world.descriptor(2, 2);
    let other = world.plan(other).unwrap();
    let (mut one, _) = KeyGeneration::start(plan.clone(), &world.nodes[0], &mut world.rng).unwrap();
    let (_, real) = KeyGeneration::start(plan, &world.nodes[1], &mut world.rng).unwrap();
    let (_, foreign) = KeyGeneration::start(other, &world.nodes[1], &mut world.rng).unwrap();
    let mut forged = real.clone();
    forged.signatures[0].signature[3] ^= 1;
    let mut receive = |message| one.receive(&world.nodes[0], message, &mut world.rng);
    assert!(matches!(
        receive(forged),
        Err(CeremonyError::NotAuthentic(_))
    ));
    assert!(matches!(receive(foreign), Err(CeremonyError::NotOurs)));
    assert_eq!(receive(real).unwrap().len(), 1);
}

#[test]
fn a_differing_result_is_a_split_for_nodes_and_coordinator() {
    let mut world = World::new("result", 2);
    let signer = identities("result", 2);
    let descriptor = world.descriptor(2, 2);
    let plan = world.plan(descriptor).unwrap();
    let change = |m: &mut pb::CeremonyMessage| {
        let mut result = pb::CeremonyRound3::decode(m.payload.as_slice()).unwrap();
        result.public_key[0] ^= 1;
        m.payload = result.encode_to_vec();
    };
    let outcome = world.generate(&plan, |_, message| {
        if round(&message) == (3, "escrow-2".into()) {
            Some(resign(&signer, &message, change))
        } else {
            Some(message)
        }
    });
    assert!(matches!(
        outcome.err().unwrap(),
        CeremonyError::Split { reporter } if reporter == "escrow-2"
    ));
    let key = world.generate(&plan, |_, message| Some(message)).unwrap();
    let mut messages = key.messages;
    let last = messages
        .iter_mut()
        .find(|message| round(message) == (3, "escrow-2".into()))
        .unwrap();
    *last = resign(&signer, last, change);
    let collect = greffe_envelope::ceremony::Conclusion::collect;
    assert!(matches!(
        collect(&plan, &messages),
        Err(CeremonyError::Split { .. })
    ));
    messages.pop();
    assert!(matches!(
        collect(&plan, &messages),
        Err(CeremonyError::Missing(_))
    ));
}

#[test]
fn nodes_sign_only_what_the_ceremony_arrived_at() {
    let mut world = World::new("record", 2);
    let descriptor = world.descriptor(2, 2);
    let plan = world.plan(descriptor).unwrap();
    let key = world.generate(&plan, |_, message| Some(message)).unwrap();
    let notice = pb::NoticeRef {
        language: "fr".into(),
        digest: vec![7; 32],
    };
    let record = key.conclusion.key_record(&plan, vec![notice]);
    key.conclusion.check_key_record(&plan, &record).unwrap();
    let mut changed = record.clone();
    changed.t_min = 1;
    assert!(key.conclusion.check_key_record(&plan, &changed).is_err());
    changed = record;
    changed.not_after += 1;
    assert!(key.conclusion.check_key_record(&plan, &changed).is_err());
    let mut epoch = key.conclusion.share_epoch(&plan);
    key.conclusion.check_share_epoch(&plan, &epoch).unwrap();
    epoch.threshold = 1;
    assert!(key.conclusion.check_share_epoch(&plan, &epoch).is_err());
}

#[test]
fn attack_72_a_share_epoch_that_is_not_the_keys_is_refused() {
    let mut world = World::new("epochs", 3);
    let key = world.key(2, 3);
    let other = world.key(2, 3);
    let check = |change: &dyn Fn(&mut pb::ShareEpoch)| {
        let mut epoch = key.epoch.message().clone();
        change(&mut epoch);
        ShareHolders::check(&Signed::sign(epoch, &[]), &key.record)
    };
    assert!(check(&|_| {}).is_ok());
    assert!(check(&|e| e.threshold = 1).is_err());
    assert!(check(&|e| e.threshold = 3).is_err());
    assert!(check(&|e| e.holders[0].index = 0).is_err());
    assert!(check(&|e| e.holders[1].index = 1).is_err());
    assert!(check(&|e| e.holders[1].node = e.holders[0].node.clone()).is_err());
    assert!(check(&|e| e.holders.swap(0, 1)).is_err());
    assert!(check(&|e| e.epoch = 0).is_err());
    assert!(check(&|e| e.epoch = 2).is_err());
    assert!(check(&|e| e.previous = vec![1; 32]).is_err());
    assert!(check(&|e| e.tenant = "other".into()).is_err());
    let foreign = other.epoch.message().holders.clone();
    assert!(check(&|e| e.holders = foreign.clone()).is_err());
    let one = foreign[2].verification_share.clone();
    assert!(check(&|e| e.holders[2].verification_share = one.clone()).is_err());
    assert!(check(&|e| e.holders[2].verification_share = vec![0; 33]).is_err());
    // A missing signature.
    let mut unsigned = key.epoch.raw().clone();
    unsigned.signatures.remove(1);
    let unsigned = Signed::decode(unsigned).unwrap();
    assert!(
        key.holders
            .check_signatures(&unsigned, None, |name| world.node_key(name))
            .is_err()
    );
}

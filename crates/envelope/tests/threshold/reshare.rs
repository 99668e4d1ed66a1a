//! Resharing: refresh, replacement, change of threshold; lowered thresholds, mixed epochs and cheating dealers.

use std::collections::VecDeque;

use greffe_envelope::ceremony::{CeremonyError, Fault, NodeShare, ShareHolders};
use greffe_envelope::opening::{HybridSecretKey, OpenError, Opener};
use greffe_envelope::pb;
use greffe_envelope::reshare::{ResharePlan, Resharing};
use greffe_envelope::statement::Signed;
use prost::Message;

use crate::opening::{answer, opener, sealed};
use crate::support::{Generated, NOW, World};

fn descriptor(
    world: &mut World,
    key: &Generated,
    threshold: u32,
    nodes: &[usize],
    dealers: &[u32],
) -> pb::ReshareDescriptor {
    pb::ReshareDescriptor {
        tenant: "acme".into(),
        session: world.rng.array::<16>().to_vec(),
        key_id: key.record.key_id.clone(),
        previous: key.holders.digest().to_vec(),
        threshold,
        nodes: nodes
            .iter()
            .map(|at| world.nodes[*at].name.clone())
            .collect(),
        dealers: dealers.to_vec(),
        expiry: 1_500_000,
    }
}

fn plan(
    world: &World,
    key: &Generated,
    descriptor: pb::ReshareDescriptor,
) -> Result<ResharePlan, CeremonyError> {
    let signed = Signed::sign(descriptor, &[("root", &world.root)]);
    let root = world.root_key();
    ResharePlan::check(
        &signed,
        &root,
        &key.record,
        &key.holders,
        &world.bundle,
        NOW,
    )
}

/// Runs a resharing; `at` are the positions of everybody who takes part. The result has the new holders' shares only.
fn reshare(
    world: &mut World,
    key: &Generated,
    plan: &ResharePlan,
    nodes: &[usize],
    mut tamper: impl FnMut(usize, pb::SignedStatement) -> pb::SignedStatement,
) -> Result<(Signed<pb::ShareEpoch>, ShareHolders, Vec<NodeShare>), CeremonyError> {
    let mut machines = Vec::new();
    let mut queue = VecDeque::new();
    for at in 0..world.nodes.len() {
        let name = &world.nodes[at].name;
        if !plan.is_dealer(name) && !nodes.contains(&at) {
            continue;
        }
        let old = key.shares.get(at);
        let (machine, message) =
            Resharing::start(plan.clone(), &world.nodes[at], old, &mut world.rng)?;
        machines.push((at, machine));
        queue.extend(message);
    }
    while let Some(message) = queue.pop_front() {
        let head = pb::CeremonyMessage::decode(message.statement.as_slice()).unwrap();
        for (at, machine) in &mut machines {
            let identity = &world.nodes[*at];
            if head.receiver.is_empty() || head.receiver == identity.name {
                let message = tamper(*at, message.clone());
                queue.extend(machine.receive(identity, message, &mut world.rng)?);
            }
        }
    }
    let epochs: Vec<pb::ShareEpoch> = machines
        .iter()
        .map(|(_, machine)| machine.agreed().unwrap().0)
        .collect();
    assert!(epochs.windows(2).all(|pair| pair[0] == pair[1]));
    let mut epoch = Signed::sign(epochs[0].clone(), &[]);
    for (at, _) in &machines {
        let node = &world.nodes[*at];
        epoch.add_signature(&node.name, &node.signing_key);
    }
    let holders = ShareHolders::check(&epoch, &key.record).unwrap();
    holders
        .check_signatures(&epoch, Some(&key.holders), |name| world.node_key(name))
        .unwrap();
    let mut shares = Vec::new();
    for at in nodes {
        let (_, machine) = machines.iter().find(|(other, _)| other == at).unwrap();
        shares.push(machine.agreed().unwrap().1.unwrap().clone());
    }
    Ok((epoch, holders, shares))
}

#[test]
fn refresh_replacement_and_change_of_threshold_keep_the_key() {
    // Old t and n, dealers, new t, positions of the new holders.
    type Case<'a> = (u32, usize, &'a [u32], u32, &'a [usize]);
    let cases: [Case<'_>; 5] = [
        (2, 2, &[1, 2], 2, &[0, 1]),
        (2, 3, &[1, 3], 2, &[0, 1, 2]),
        (2, 3, &[1, 2], 2, &[0, 1, 3]),
        (2, 3, &[1, 2, 3], 3, &[0, 1, 2, 3, 4]),
        (3, 5, &[1, 2, 5], 3, &[4, 3, 0]),
    ];
    for (t, n, dealers, new_t, nodes) in cases {
        let mut world = World::new("reshare", 5);
        let key = world.key(t, n);
        let sealed = sealed(&key, &mut world.rng);
        let descriptor = descriptor(&mut world, &key, new_t, nodes, dealers);
        let plan = plan(&world, &key, descriptor).unwrap();
        let (_, holders, shares) =
            reshare(&mut world, &key, &plan, nodes, |_, message| message).unwrap();
        assert_eq!(holders.epoch(), 2);
        assert_eq!(u32::from(holders.threshold()), new_t);
        // What was sealed before opens with the new shares.
        let reader = HybridSecretKey::generate(&mut world.rng);
        let mut opener = Opener::new(
            sealed.context.clone(),
            &holders,
            key.record.public_key.as_slice().try_into().unwrap(),
            sealed.record_digest,
            sealed.ciphertext,
        );
        for (share, at) in shares.iter().zip(nodes).take(new_t as usize) {
            let node = &world.nodes[*at];
            let answer = sealed
                .context
                .answer(
                    share,
                    &node.name,
                    &node.signing_key,
                    &reader.public_key(),
                    &mut world.rng,
                )
                .unwrap();
            let node_key = world.node_key(&node.name).unwrap();
            opener.add(&reader, &node.name, node_key, &answer).unwrap();
        }
        assert_eq!(*opener.open().unwrap().key, sealed.key);
    }
}

#[test]
fn attack_29_old_shares_are_useless_with_new_ones() {
    let mut world = World::new("old", 3);
    let key = world.key(2, 3);
    let sealed = sealed(&key, &mut world.rng);
    let nodes = [0, 1, 2];
    let descriptor = descriptor(&mut world, &key, 2, &nodes, &[1, 2]);
    let plan = plan(&world, &key, descriptor).unwrap();
    let (epoch, holders, shares) =
        reshare(&mut world, &key, &plan, &nodes, |_, message| message).unwrap();
    let reader = HybridSecretKey::generate(&mut world.rng);
    let public = reader.public_key();
    // An honest reader refuses to mix.
    let old = answer(&mut world, &key, &sealed.context, 1, &public);
    let mut mixed = Opener::new(
        sealed.context.clone(),
        &holders,
        key.record.public_key.as_slice().try_into().unwrap(),
        sealed.record_digest,
        sealed.ciphertext,
    );
    let node_key = world.node_key("escrow-2").unwrap();
    assert!(mixed.add(&reader, "escrow-2", node_key, &old).is_err());
    // A cheat who relabels an old share as one of the new epoch has no share: it does not match Y_i.
    let mut stored = key.shares[1].to_bytes();
    stored[9..41].copy_from_slice(epoch.digest().as_bytes());
    let forged = NodeShare::from_bytes(&stored).unwrap();
    let forged_holders = Generated {
        conclusion: key.conclusion.clone(),
        record: key.record.clone(),
        epoch,
        holders,
        shares: vec![shares[0].clone(), forged],
        messages: vec![],
    };
    let mut opener = opener(&sealed, &forged_holders);
    for at in 0..2 {
        let bytes = answer(&mut world, &forged_holders, &sealed.context, at, &public);
        let name = world.nodes[at].name.clone();
        let node_key = world.node_key(&name).unwrap();
        let added = opener.add(&reader, &name, node_key, &bytes);
        assert_eq!(added.is_ok(), at == 0);
    }
    assert_eq!(
        opener.open().unwrap_err(),
        OpenError::NotEnough {
            found: 1,
            needed: 2
        }
    );
    for (old, new) in key.shares.iter().zip(&shares) {
        assert_ne!(old.verification_share(), new.verification_share());
    }
}

#[test]
fn attack_29_a_lowered_threshold_or_another_epoch_is_refused() {
    let mut world = World::new("lower", 5);
    let key = world.key(3, 5);
    let nodes = [0, 1, 2, 3, 4];
    let good = descriptor(&mut world, &key, 3, &nodes, &[1, 2, 3]);
    plan(&world, &key, good.clone()).unwrap();
    let refused = |change: fn(&mut pb::ReshareDescriptor)| {
        let mut bad = good.clone();
        change(&mut bad);
        plan(&world, &key, bad).err().unwrap()
    };
    assert!(matches!(
        refused(|d| d.threshold = 2),
        CeremonyError::Threshold(_)
    ));
    assert!(matches!(
        refused(|d| d.threshold = 6),
        CeremonyError::Threshold(_)
    ));
    refused(|d| d.previous = vec![0; 32]);
    refused(|d| d.key_id[0] ^= 1);
    refused(|d| d.tenant = "other".into());
    refused(|d| d.dealers = vec![1, 2]);
    refused(|d| d.dealers = vec![1, 2, 2]);
    refused(|d| d.dealers = vec![1, 2, 6]);
    refused(|d| d.dealers = vec![0, 1, 2]);
    refused(|d| d.dealers = vec![3, 2, 1]);
    refused(|d| d.expiry = 1);
    refused(|d| d.nodes[1] = d.nodes[0].clone());
    // A dealer whose share is of another epoch does not take part.
    let other = world.key(3, 5);
    let plan = plan(&world, &key, good.clone()).unwrap();
    let start = |old, world: &mut World| {
        Resharing::start(plan.clone(), &world.nodes[0], old, &mut world.rng)
    };
    assert!(start(Some(&other.shares[0]), &mut world).is_err());
    assert!(start(Some(&key.shares[1]), &mut world).is_err());
    assert!(start(None, &mut world).is_err());
    assert!(start(Some(&key.shares[0]), &mut world).is_ok());
}

#[test]
fn attack_29_a_dealer_with_another_constant_term_or_degree_is_blamed() {
    for raise in [false, true] {
        let mut world = World::new("dealer", 3);
        let signer = World::new("dealer", 3);
        let key = world.key(2, 3);
        let nodes = [0, 1, 2];
        let descriptor = descriptor(&mut world, &key, 2, &nodes, &[1, 2]);
        let plan = plan(&world, &key, descriptor).unwrap();
        let outcome = reshare(&mut world, &key, &plan, &nodes, |_, message| {
            let mut head = pb::CeremonyMessage::decode(message.statement.as_slice()).unwrap();
            if (head.round, head.sender.as_str()) != (1, "escrow-2") {
                return message;
            }
            let mut round = pb::ReshareRound1::decode(head.payload.as_slice()).unwrap();
            if raise {
                round.commitments.push(round.commitments[1].clone());
            } else {
                round.commitments[0] = round.commitments[1].clone();
            }
            head.payload = round.encode_to_vec();
            let node = &signer.nodes[1];
            Signed::sign(head, &[(&node.name, &node.signing_key)]).into_raw()
        });
        let error = outcome.err().unwrap();
        assert_eq!(error.culprit(), Some("escrow-2"));
        let CeremonyError::Blamed { fault, .. } = error else {
            panic!("somebody is to blame");
        };
        if raise {
            assert!(matches!(
                fault,
                Fault::Degree {
                    expected: 2,
                    found: 3
                }
            ));
        } else {
            assert!(matches!(fault, Fault::ConstantTerm));
        }
    }
}

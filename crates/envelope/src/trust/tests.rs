//! The trust chain against a directory, a root or a relay that cheats.

use super::fixture::*;
use super::*;
use crate::curve::Scalar;
use crate::pb;
use crate::statement::Signed;
use greffe_types::ConversationId;

fn world() -> World {
    World::new()
}

fn scalars(values: &[u64]) -> Vec<Scalar> {
    values.iter().map(|v| Scalar::from_u64(*v)).collect()
}

#[test]
fn the_root_file_is_one_strict_line() {
    let world = world();
    let line = format!("{}\n", world.root);
    assert_eq!(RootKey::parse(&line).unwrap(), world.root);
    for bad in ["", "greffe-root-v1 acme", "greffe-root-v2 acme 00"] {
        assert!(RootKey::parse(bad).is_err());
    }
    assert!(RootKey::parse(&format!("{line}x")).is_err());
    assert!(RootKey::parse(&line.to_uppercase()).is_err());
    let weak = format!("greffe-root-v1 acme 01{}", "00".repeat(31));
    assert!(matches!(
        RootKey::parse(&weak),
        Err(TrustError::Statement(_))
    ));
}

#[test]
fn bundles_are_checked_field_by_field() {
    type Change = fn(&mut pb::TrustBundle);
    let world = world();
    let changes: &[(&str, Change)] = &[
        ("version", |b| b.version = 0),
        ("previous", |b| b.previous = vec![1; 32]),
        ("next_root", |b| b.next_root.clear()),
        ("log", |b| b.log = None),
        ("approvals", |b| b.approvals = None),
        ("names", |b| b.roster[0].name = "escrow-1".into()),
        ("names", |b| b.receipt_keys[0].name = "root".into()),
        ("nodes", |b| b.nodes.clear()),
        ("nodes.index", |b| b.nodes[1].index = 7),
        ("nodes.channel_key", |b| b.nodes[0].channel_key.clear()),
        ("nodes.witness_key", |b| {
            b.nodes[0].witness_key = b.nodes[0].signing_key.clone();
        }),
        ("witnesses", |b| b.cosigner_quorum = 2),
        ("roster.roles", |b| b.roster[0].roles.push("king".into())),
        ("roster.signing_key", |b| {
            b.roster[1].signing_key = b.roster[0].signing_key.clone();
        }),
        ("packs", |b| b.packs[0].digest.clear()),
    ];
    for (field, change) in changes {
        let mut message = bundle_message(&world.nodes);
        change(&mut message);
        let signed = Signed::sign(message, &[(ROOT, &world.root_key)]);
        let error = Bundle::verify(signed, &world.root).unwrap_err();
        assert!(
            matches!(error, TrustError::Field(f) if f == *field),
            "{field}: {error}"
        );
    }
    let other_root = Signed::sign(bundle_message(&world.nodes), &[(ROOT, &signer(99))]);
    assert!(Bundle::verify(other_root, &world.root).is_err());
}

#[test]
fn bundles_only_move_forward() {
    let world = world();
    let next = |change: fn(&mut pb::TrustBundle), signers: &[(&str, u8)]| {
        let mut message = bundle_message(&world.nodes);
        message.version = 2;
        message.previous = world.bundle.digest().to_vec();
        change(&mut message);
        let keys: Vec<_> = signers.iter().map(|(n, k)| (*n, signer(*k))).collect();
        let signers: Vec<_> = keys.iter().map(|(n, k)| (*n, k)).collect();
        Bundle::verify(Signed::sign(message, &signers), &world.root).unwrap()
    };
    let second = next(|_| (), &[(ROOT, 1)]);
    world.bundle.check_successor(&second, 2).unwrap();
    world.bundle.check_successor(&world.bundle, 2).unwrap();
    assert!(matches!(
        second.check_successor(&world.bundle, 2),
        Err(TrustError::Version { known: 2, found: 1 })
    ));
    let unchained = next(|b| b.previous = vec![1; 32], &[(ROOT, 1)]);
    assert!(world.bundle.check_successor(&unchained, 2).is_err());
    let fork = next(
        |b| {
            b.version = 1;
            b.previous = vec![0; 32];
            b.issued_at = 5;
        },
        &[(ROOT, 1)],
    );
    assert!(world.bundle.check_successor(&fork, 2).is_err());
    // Other nodes need the consent of the old ones.
    let change: fn(&mut pb::TrustBundle) = |b| b.nodes.truncate(2);
    let alone = next(change, &[(ROOT, 1)]);
    assert!(matches!(
        world.bundle.check_successor(&alone, 2),
        Err(TrustError::Quorum {
            needed: 2,
            found: 0
        })
    ));
    let agreed = next(change, &[(ROOT, 1), ("escrow-1", 10), ("escrow-3", 12)]);
    world.bundle.check_successor(&agreed, 2).unwrap();
    // So do another log and other witnesses: or the root alone could show one client a log that nobody else sees.
    let changes: [fn(&mut pb::TrustBundle); 3] = [
        |b| b.log.as_mut().unwrap().key = public(&signer(77)),
        |b| b.witnesses[0].key = public(&signer(77)),
        |b| b.cosigner_quorum -= 1,
    ];
    for change in changes {
        let alone = next(change, &[(ROOT, 1)]);
        let refused = world.bundle.check_successor(&alone, 2);
        assert!(matches!(refused, Err(TrustError::Quorum { .. })));
        let agreed = next(change, &[(ROOT, 1), ("escrow-1", 10), ("escrow-3", 12)]);
        world.bundle.check_successor(&agreed, 2).unwrap();
    }
}

#[test]
fn people_act_in_their_period_and_role() {
    let world = world();
    let token = pb::PersonToken {
        tenant: "acme".into(),
        person: "ann".into(),
        ..Default::default()
    };
    let signed = Signed::sign(token, &[("ann", &signer(80))]);
    world
        .bundle
        .verify_person(&signed, "ann", &["approver", "legal"], NOW)
        .unwrap();
    assert!(
        world
            .bundle
            .verify_person(&signed, "ann", &["legal"], NOW)
            .is_err()
    );
    assert!(
        world
            .bundle
            .verify_person(&signed, "bea", &[], NOW)
            .is_err()
    );
    assert!(
        world
            .bundle
            .verify_person(&signed, "eve", &[], NOW)
            .is_err()
    );
    let late = Millis::new(2_000_000);
    assert!(matches!(
        world.bundle.verify_person(&signed, "ann", &[], late),
        Err(TrustError::Period { .. })
    ));
}

#[test]
fn attack_71_a_substituted_device_key_is_refused() {
    let world = world();
    verify_device_cert(&world.cert, &world.bundle, NOW).unwrap();
    // The directory's own certificate for alice, however it signs it.
    let mut message = world.cert.message().clone();
    message.envelope_key = public(&signer(66));
    for (name, key) in [(ISSUER, 66), (ROOT, 66), (ISSUER, 1), (ISSUER, 4)] {
        let forged = Signed::sign(message.clone(), &[(name, &signer(key))]);
        assert!(matches!(
            verify_device_cert(&forged, &world.bundle, NOW),
            Err(TrustError::Statement(_))
        ));
    }
    // The genuine signature over other bytes.
    let mut raw = world.cert.raw().clone();
    raw.statement = Signed::sign(message, &[]).bytes().to_vec();
    let moved = Signed::decode(raw).unwrap();
    assert!(verify_device_cert(&moved, &world.bundle, NOW).is_err());
}

#[test]
fn what_a_bundle_remembers_of_a_certificate_is_every_byte_of_it() {
    let world = world();
    verify_device_cert(&world.cert, &world.bundle, NOW).unwrap();
    // The same statement, and so the same digest, under another signature.
    let mut raw = world.cert.raw().clone();
    raw.signatures[0].signature[40] ^= 1;
    let altered = Signed::<pb::DeviceCert>::decode(raw).unwrap();
    assert_eq!(altered.digest(), world.cert.digest());
    assert!(verify_device_cert(&altered, &world.bundle, NOW).is_err());
    // The next bundle has another issuer, and remembers nothing of this one's.
    let mut message = bundle_message(&world.nodes);
    message.device_issuer = public(&signer(66));
    let signed = Signed::sign(message, &[(ROOT, &world.root_key)]);
    let next = Bundle::verify(signed, &world.root).unwrap();
    assert!(verify_device_cert(&world.cert, &next, NOW).is_err());
    verify_device_cert(&world.cert, &world.bundle, NOW).unwrap();
}

#[test]
fn certificates_expire_and_are_revoked_at_receipt_time() {
    let world = world();
    verify_device_cert(&world.cert, &world.bundle, NOW).unwrap();
    let late = Millis::new(2_000_000);
    assert!(matches!(
        verify_device_cert(&world.cert, &world.bundle, late),
        Err(TrustError::Period { .. })
    ));
    let mut message = bundle_message(&world.nodes);
    message.revocations.push(pb::Revocation {
        certificate: world.cert.digest().to_vec(),
        from: NOW.get(),
    });
    let signed = Signed::sign(message, &[(ROOT, &world.root_key)]);
    let bundle = Bundle::verify(signed, &world.root).unwrap();
    assert!(matches!(
        verify_device_cert(&world.cert, &bundle, NOW),
        Err(TrustError::Revoked)
    ));
    let before = Millis::new(NOW.get() - 1);
    verify_device_cert(&world.cert, &bundle, before).unwrap();
    // One key for both uses.
    let mut cert = world.cert.message().clone();
    cert.mls_key = cert.envelope_key.clone();
    let signed = Signed::sign(cert, &[(ISSUER, &world.issuer)]);
    assert!(verify_device_cert(&signed, &world.bundle, NOW).is_err());
}

#[test]
fn attack_72_the_root_alone_cannot_publish_a_journaling_key() {
    let world = world();
    let bundles = [&world.bundle];
    verify_key_record(&world.record, &world.root, &bundles).unwrap();
    let all = [
        (ROOT, 1_u8),
        ("escrow-1", 10),
        ("escrow-2", 11),
        ("escrow-3", 12),
    ];
    let own = record_message("acme", hybrid(71).1);
    let sign = |message: &pb::KeyRecord, signers: &[(&str, u8)]| {
        let keys: Vec<_> = signers.iter().map(|(n, k)| (*n, signer(*k))).collect();
        let signers: Vec<_> = keys.iter().map(|(n, k)| (*n, k)).collect();
        Signed::sign(message.clone(), &signers)
    };
    let refused = |record: &Signed<pb::KeyRecord>| {
        verify_key_record(record, &world.root, &bundles).unwrap_err()
    };
    for signers in [&all[..1], &all[..3], &all[1..]] {
        assert!(matches!(
            refused(&sign(&own, signers)),
            TrustError::Statement(_)
        ));
    }
    // The root signing in the nodes' names.
    let pretended = all.map(|(name, _)| (name, 1));
    assert!(matches!(
        refused(&sign(&own, &pretended)),
        TrustError::Statement(_)
    ));
    // A committee of the root's invention, an empty one, one of a single node.
    let mut invented = own.clone();
    invented.committee = vec!["mallory-1".into(), "mallory-2".into()];
    let signed = sign(&invented, &[(ROOT, 1), ("mallory-1", 1), ("mallory-2", 1)]);
    assert!(matches!(refused(&signed), TrustError::Unknown("node", _)));
    invented.committee.clear();
    assert!(matches!(
        refused(&sign(&invented, &all)),
        TrustError::Field("committee")
    ));
    invented.committee = vec!["escrow-1".into()];
    invented.t_min = 1;
    assert!(matches!(
        refused(&sign(&invented, &all)),
        TrustError::Field("t_min")
    ));
    // Another key under the id.
    let mut other = own;
    other.public_key = hybrid(72).1;
    assert!(matches!(refused(&sign(&other, &all)), TrustError::Key(_)));
}

#[test]
fn attack_72_share_epochs_must_fit_the_key() {
    let world = world();
    let bundles = [&world.bundle];
    let check = |record: &Signed<pb::KeyRecord>, epoch: &Signed<pb::ShareEpoch>| {
        let key = verify_key_record(record, &world.root, &bundles).unwrap();
        verify_share_epoch(epoch, record, &key, None, &bundles)
    };
    let (record, epoch) = world.shared(&scalars(&[5, 7]), 2, 3);
    let verified = check(&record, &epoch).unwrap();
    assert_eq!(verified.holders().count(), 3);
    assert_eq!(verified.threshold(), 2);
    // Degree 0: every single share opens; degree 2: two shares do not, whatever the record says.
    for coefficients in [&[5][..], &[5, 7, 9]] {
        let (record, epoch) = world.shared(&scalars(coefficients), 2, 3);
        assert!(matches!(check(&record, &epoch), Err(TrustError::Shares)));
    }
    // Shares of another secret.
    let (_, other) = world.shared(&scalars(&[6, 7]), 2, 3);
    let mut message = other.message().clone();
    message.key_id = record.key_id.clone();
    let resign = |message: pb::ShareEpoch, nodes: usize| {
        let names = ["escrow-1", "escrow-2", "escrow-3"];
        let signers: Vec<_> = names.into_iter().zip(&world.nodes).take(nodes).collect();
        Signed::sign(message, &signers)
    };
    assert!(matches!(
        check(&record, &resign(message, 3)),
        Err(TrustError::Shares)
    ));
    let good = || epoch.message().clone();
    assert!(matches!(
        check(&record, &resign(good(), 2)),
        Err(TrustError::Statement(_))
    ));
    let mut low = good();
    low.threshold = 1;
    assert!(matches!(
        check(&record, &resign(low, 3)),
        Err(TrustError::Field("threshold"))
    ));
    let mut skipped = good();
    skipped.epoch = 2;
    assert!(matches!(
        check(&record, &resign(skipped, 3)),
        Err(TrustError::Version { .. })
    ));
    let mut zero = good();
    zero.holders[0].index = 0;
    assert!(matches!(
        check(&record, &resign(zero, 3)),
        Err(TrustError::Field("holders"))
    ));
    // A gap, even with the share of that index: the reader numbers holders from 1 to n.
    let (wide, five) = world.shared(&scalars(&[5, 7]), 2, 5);
    let mut gap = five.message().clone();
    gap.holders.drain(2..4);
    assert!(matches!(
        check(&wide, &resign(gap, 3)),
        Err(TrustError::Field("holders"))
    ));
    let mut twice = good();
    twice.holders[2].node = "escrow-1".into();
    assert!(matches!(
        check(&record, &resign(twice, 3)),
        Err(TrustError::Field("holders.node"))
    ));
}

#[test]
fn a_share_epoch_follows_the_one_before() {
    let world = world();
    let bundles = [&world.bundle];
    let (record, first_signed) = world.shared(&scalars(&[5, 7]), 2, 3);
    let key = verify_key_record(&record, &world.root, &bundles).unwrap();
    let first = verify_share_epoch(&first_signed, &record, &key, None, &bundles).unwrap();
    let (_, refreshed) = world.shared(&scalars(&[5, 11]), 2, 3);
    let mut message = refreshed.message().clone();
    message.epoch = 2;
    message.previous = first.digest().to_vec();
    let names = ["escrow-1", "escrow-2", "escrow-3"];
    let signers: Vec<_> = names.into_iter().zip(&world.nodes).collect();
    let second_signed = Signed::sign(message.clone(), &signers);
    let second = verify_share_epoch(&second_signed, &record, &key, Some(&first), &bundles).unwrap();
    assert_ne!(second.digest(), first.digest());
    // Whoever reads all of them again, as every relay does when another has stored one, is where it was.
    let bundle = world.bundle.signed().raw().clone();
    let mut state = TrustState::new(world.root.clone(), bundle).unwrap();
    for expected in [Applied::New, Applied::Known] {
        let statements = [record.raw(), first_signed.raw(), second_signed.raw()];
        for (index, statement) in (1..).zip(statements) {
            assert_eq!(state.recall(statement, index).unwrap(), expected);
        }
    }
    // And whoever begins anew is given all of them.
    let all = state.share_epoch_statements(key.key_id());
    let digests = [first_signed.digest(), second_signed.digest()];
    assert!(all.map(Signed::digest).eq(digests));
    // Somebody else's holders only: the old quorum did not agree.
    let outsider = {
        let mut bundle = bundle_message(&[signer(90), signer(91)]);
        bundle.nodes[0].name = "new-1".into();
        bundle.nodes[1].name = "new-2".into();
        let signed = Signed::sign(bundle, &[(ROOT, &world.root_key)]);
        Bundle::verify(signed, &world.root).unwrap()
    };
    message.holders.truncate(2);
    message.holders[0].node = "new-1".into();
    message.holders[1].node = "new-2".into();
    let signed = Signed::sign(message, &[("new-1", &signer(90)), ("new-2", &signer(91))]);
    let both = [&world.bundle, &outsider];
    assert!(matches!(
        verify_share_epoch(&signed, &record, &key, Some(&first), &both),
        Err(TrustError::Quorum {
            needed: 2,
            found: 0
        })
    ));
}

#[test]
fn disclosures_their_currency_and_acknowledgement() {
    let world = world();
    let verified = verify_disclosure(world.disclosure.clone(), &[world.trust()]).unwrap();
    assert_eq!(verified.keys().len(), 1);
    verified.check_period(NOW).unwrap();
    assert!(verified.check_period(Millis::new(2_000_000)).is_err());
    let refused = |change: fn(&mut pb::Disclosure)| {
        let mut message = world.disclosure.message().clone();
        change(&mut message);
        let signed = Signed::sign(message, &[(ROOT, &world.root_key)]);
        verify_disclosure(signed, &[world.trust()]).unwrap_err()
    };
    assert!(matches!(refused(|d| d.mode = 0), TrustError::Field("mode")));
    assert!(matches!(
        refused(|d| d.mode = 1),
        TrustError::Field("key_records")
    ));
    assert!(matches!(
        refused(|d| d.key_records.clear()),
        TrustError::Field("key_records")
    ));
    assert!(matches!(
        refused(|d| d.policy_digest = vec![1; 32]),
        TrustError::Field("policy_digest")
    ));
    assert!(matches!(
        refused(|d| d.tenants.push("bank".into())),
        TrustError::Field("key_records")
    ));
    assert!(matches!(
        refused(|d| d.notices.clear()),
        TrustError::Field("notices")
    ));
    assert!(matches!(
        refused(|d| d.mode = 3),
        TrustError::Field("standing_order")
    ));
    assert!(matches!(
        refused(|d| d.key_records[0].signatures.truncate(2)),
        TrustError::Statement(_)
    ));

    // Currency: two of three nodes, fresh, about this very disclosure.
    let say = |node: usize, at: u64| {
        let message = pb::Currency {
            tenant: "acme".into(),
            mode: pb::Mode::Journaled.into(),
            disclosure: verified.digest().to_vec(),
            serial: 1,
            share_epochs: vec![vec![0; 32]],
            at,
            ..Default::default()
        };
        Signed::sign(
            message,
            &[(&*format!("escrow-{}", node + 1), &world.nodes[node])],
        )
    };
    let now = Millis::new(100_000_000);
    let day = 24 * 60 * 60 * 1000;
    let judge =
        |said: &[Signed<pb::Currency>]| verify_currency(said, &verified, &world.bundle, 2, now);
    judge(&[say(0, now.get()), say(2, now.get() - day + 1)]).unwrap();
    judge(&[say(0, now.get()), say(1, now.get() + 60_000)]).unwrap();
    for said in [
        vec![say(0, now.get())],
        vec![say(0, now.get()), say(0, now.get() - 1)],
        vec![say(0, now.get()), say(1, now.get() - day)],
        vec![say(0, now.get()), say(1, now.get() + 60_001)],
    ] {
        assert!(matches!(
            judge(&said),
            Err(TrustError::Quorum {
                needed: 2,
                found: 1
            })
        ));
    }

    // Acknowledgement.
    let conversation = ConversationId::new([5; 16]);
    let message = pb::Acknowledgement {
        tenant: "acme".into(),
        user: "alice".into(),
        device: vec![3; 16],
        conversation: conversation.to_vec(),
        disclosure: verified.digest().to_vec(),
        language: "en".into(),
        notice: notice().digest,
        at: 1,
    };
    let name = world.device_name();
    let judge = |message: pb::Acknowledgement, key: u8| {
        let signed = Signed::sign(message, &[(&name, &signer(key))]);
        verify_acknowledgement(&signed, &world.cert, &world.disclosure, &conversation)
    };
    judge(message.clone(), 20).unwrap();
    assert!(
        judge(message.clone(), 21).is_err(),
        "the MLS key does not acknowledge"
    );
    let mut other = message.clone();
    other.notice = vec![0; 32];
    assert!(matches!(
        judge(other, 20),
        Err(TrustError::Mismatch("notice"))
    ));
    let mut other = message;
    other.conversation = vec![6; 16];
    assert!(matches!(
        judge(other, 20),
        Err(TrustError::Mismatch("conversation"))
    ));
}

#[test]
fn disclosures_never_go_back() {
    let world = world();
    let make = |serial: u64, purpose: &str, mode: pb::Mode| {
        let mut message = world.disclosure.message().clone();
        message.serial = serial;
        message.policy_id = purpose.into();
        message.mode = mode.into();
        if mode == pb::Mode::Supervised {
            message.standing_order = vec![1; 16];
        }
        let signed = Signed::sign(message, &[(ROOT, &world.root_key)]);
        verify_disclosure(signed, &[world.trust()]).unwrap()
    };
    let base = make(5, "pack", pb::Mode::Journaled);
    let follows = |next: &VerifiedDisclosure| next.check_follows(base.message(), &base.digest());
    follows(&base).unwrap();
    follows(&make(6, "pack", pb::Mode::Journaled)).unwrap();
    assert!(follows(&make(4, "pack", pb::Mode::Journaled)).is_err());
    assert!(follows(&make(5, "other", pb::Mode::Journaled)).is_err());
    let supervised = make(1, "pack", pb::Mode::Supervised);
    follows(&supervised).unwrap();
    assert!(
        base.check_follows(supervised.message(), &supervised.digest())
            .is_err()
    );
}

#[test]
fn receipts_verify_under_a_key_valid_then() {
    let world = world();
    let entry = Digest::new([1; 32]);
    let start = crate::chain::ChainState::start(ConversationId::new([5; 16]));
    let next = start.next(&entry);
    let message = pb::Receipt {
        tenant: "acme".into(),
        conversation: vec![5; 16],
        sequence: 1,
        kind: pb::EntryKind::Message.into(),
        entry_digest: entry.to_vec(),
        previous_head: vec![0; 32],
        head: next.head.to_vec(),
        archived_at: NOW.get(),
        retain_until: 1,
        bundle_version: 1,
    };
    let signed = Signed::sign(message.clone(), &[("archive", &world.receipts)]);
    assert_eq!(verify_receipt(&signed, &world.bundle).unwrap(), next);
    let forged = Signed::sign(message.clone(), &[("archive", &world.issuer)]);
    assert!(verify_receipt(&forged, &world.bundle).is_err());
    let unknown = Signed::sign(message.clone(), &[("relay", &world.receipts)]);
    assert!(matches!(
        verify_receipt(&unknown, &world.bundle),
        Err(TrustError::Unknown(..))
    ));
    let mut late = message.clone();
    late.archived_at = 2_000_000;
    let late = Signed::sign(late, &[("archive", &world.receipts)]);
    assert!(matches!(
        verify_receipt(&late, &world.bundle),
        Err(TrustError::Period { .. })
    ));
    let mut broken = message;
    broken.sequence = 2;
    let broken = Signed::sign(broken, &[("archive", &world.receipts)]);
    assert!(matches!(
        verify_receipt(&broken, &world.bundle),
        Err(TrustError::Chain(_))
    ));
}

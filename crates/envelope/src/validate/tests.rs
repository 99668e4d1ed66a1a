//! Tests of what services refuse: splices of valid messages, and each rule by itself.

use greffe_types::{DeviceId, MessageId};
use proptest::prelude::*;

use super::*;
use crate::derive::Seed;
use crate::message::{Draft, Sealed};
use crate::statement::Signed;
use crate::trust::fixture::{NOW, World, public, signer};
use crate::trust::{ISSUER, verify_disclosure};
use crate::wrap::{ProofJob, verify_proofs};

/// A message with everything that is handed in beside it.
#[derive(Clone)]
struct Delivery {
    sealed: Sealed,
    cert: Signed<pb::DeviceCert>,
    conversation: ConversationId,
    carrier: Carrier,
}

/// What differs between two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    conversation: u8,
    epoch: u8,
    sender: u8,
    message: u8,
}

fn certificate(world: &World, sender: u8, tenant: &str) -> Signed<pb::DeviceCert> {
    let mut cert = world.cert.message().clone();
    cert.tenant = tenant.into();
    cert.user = format!("user-{sender}");
    cert.device = vec![sender; 16];
    cert.mls_key = public(&signer(100 + sender));
    cert.envelope_key = public(&signer(110 + sender));
    Signed::sign(cert, &[(ISSUER, &world.issuer)])
}

fn header(world: &World, place: Place, cert: &Signed<pb::DeviceCert>) -> pb::Header {
    pb::Header {
        tenants: world.disclosure.tenants.clone(),
        conversation: vec![place.conversation; 16],
        message_id: vec![place.message; 16],
        mode: world.disclosure.mode,
        sender_user: cert.user.clone(),
        sender_device: cert.device.clone(),
        device_cert: cert.digest().to_vec(),
        mls_epoch: place.epoch.into(),
        sent_at: NOW.get(),
        record_class: "communication".into(),
        key_ids: vec![world.record.key_id.clone()],
        policy_digest: world.disclosure.policy_digest.clone(),
        device_counter: 1,
        previous: vec![0; 32],
        seen_head: vec![0; 32],
        ..Default::default()
    }
}

fn delivery(world: &World, place: Place) -> Delivery {
    let cert = certificate(world, place.sender, "acme");
    let header = header(world, place, &cert);
    deliver(world, place, cert, &header)
}

fn deliver(
    world: &World,
    place: Place,
    cert: Signed<pb::DeviceCert>,
    header: &pb::Header,
) -> Delivery {
    let conversation = ConversationId::new([place.conversation; 16]);
    let draft = Draft::new(
        &Seed::from_bytes([place.message; 32]),
        &cert.tenant,
        &conversation,
        &MessageId::new([place.message; 16]),
        &DeviceId::new([place.sender; 16]),
    );
    let content = pb::Content {
        kind: pb::ContentKind::Text.into(),
        text: vec![place.message],
        ..Default::default()
    };
    let key = world.journal_key();
    let sealed = draft
        .seal(header, &content, &[&key], &signer(110 + place.sender))
        .unwrap();
    Delivery {
        carrier: Carrier {
            conversation,
            epoch: place.epoch.into(),
            envelope: sealed.envelope.digest(),
        },
        sealed,
        cert,
        conversation,
    }
}

fn check_at(world: &World, d: &Delivery, at: Millis) -> Result<(), &'static str> {
    let disclosure = verify_disclosure(world.disclosure.clone(), &[world.trust()]).unwrap();
    let context = Context {
        bundle: &world.bundle,
        disclosure: &disclosure,
        cert: &d.cert,
        conversation: d.conversation,
        carrier: d.carrier,
        record_class: &|class| class == "communication",
        at,
    };
    let s = &d.sealed;
    let views = validate(&s.envelope, &s.wraps, &s.ciphertext, &context).map_err(|e| e.reason())?;
    let key = &disclosure.keys()[0];
    let rd = s.envelope.record_digest();
    let jobs: Vec<_> = views
        .iter()
        .map(|wrap| ProofJob { key, rd, wrap })
        .collect();
    match verify_proofs(&jobs).into_iter().all(|proof| proof.is_ok()) {
        true => Ok(()),
        false => Err("PROOF_INVALID"),
    }
}

fn check(world: &World, d: &Delivery) -> Result<(), &'static str> {
    check_at(world, d, NOW)
}

/// Part `i` of a delivery, from another one.
fn splice(into: &mut Delivery, from: &Delivery, part: usize) {
    match part {
        0 => into.sealed.envelope = from.sealed.envelope.clone(),
        1 => into.sealed.wraps.clone_from(&from.sealed.wraps),
        2 => into.sealed.ciphertext.clone_from(&from.sealed.ciphertext),
        3 => into.cert = from.cert.clone(),
        4 => into.conversation = from.conversation,
        5 => into.carrier.conversation = from.carrier.conversation,
        6 => into.carrier.epoch = from.carrier.epoch,
        7 => into.carrier.envelope = from.carrier.envelope,
        // The outside of the signature: another body under this signature.
        _ => {
            let mut raw = into.sealed.envelope.raw().clone();
            raw.signature
                .clone_from(&from.sealed.envelope.raw().signature);
            into.sealed.envelope = Envelope::decode(raw).unwrap();
        }
    }
}

fn same(a: &Delivery, b: &Delivery) -> bool {
    a.sealed.envelope.raw() == b.sealed.envelope.raw()
        && a.sealed.wraps == b.sealed.wraps
        && a.sealed.ciphertext == b.sealed.ciphertext
        && a.cert == b.cert
        && a.conversation == b.conversation
        && a.carrier == b.carrier
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever parts of two valid messages are put together: only the two themselves pass.
    #[test]
    fn attack_05_an_envelope_spliced_across_message_conversation_epoch_or_sender_is_refused(
        (a, b) in (place(), place()), mask in 0_u16..512,
    ) {
        let world = World::new();
        let (a, b) = (delivery(&world, a), delivery(&world, b));
        prop_assert_eq!(check(&world, &a), Ok(()));
        prop_assert_eq!(check(&world, &b), Ok(()));
        let mut spliced = a.clone();
        for part in (0..9).filter(|part| mask & (1 << part) != 0) {
            splice(&mut spliced, &b, part);
        }
        let whole = same(&spliced, &a) || same(&spliced, &b);
        prop_assert_eq!(check(&world, &spliced).is_ok(), whole);
    }
}

fn place() -> impl Strategy<Value = Place> {
    (1_u8..3, 1_u8..3, 1_u8..3, 1_u8..3).prop_map(|(conversation, epoch, sender, message)| Place {
        conversation,
        epoch,
        sender,
        message,
    })
}

const HERE: Place = Place {
    conversation: 1,
    epoch: 1,
    sender: 1,
    message: 1,
};

#[test]
fn attack_05_an_envelope_of_another_tenant_is_refused() {
    let world = World::new();
    // A certificate of another tenant, by the same issuer and for the same keys.
    let cert = certificate(&world, 1, "bank");
    let foreign = deliver(&world, HERE, cert.clone(), &header(&world, HERE, &cert));
    assert_eq!(check(&world, &foreign), Err("CERTIFICATE_MISMATCH"));
    let mut swapped = delivery(&world, HERE);
    swapped.cert = cert;
    assert_eq!(check(&world, &swapped), Err("CERTIFICATE_MISMATCH"));
}

#[test]
fn attack_05_a_sender_who_signs_another_message_s_wraps_or_ciphertext_is_refused() {
    let world = World::new();
    let own = delivery(&world, HERE);
    let victim = delivery(
        &world,
        Place {
            sender: 2,
            message: 2,
            ..HERE
        },
    );
    let mut body = own.sealed.envelope.body().clone();
    let theirs = victim.sealed.envelope.body();
    body.wraps.clone_from(&theirs.wraps);
    body.ciphertext_digest.clone_from(&theirs.ciphertext_digest);
    body.ciphertext_size = theirs.ciphertext_size;
    let mut spliced = own;
    spliced.sealed = Sealed {
        envelope: Envelope::sign(&body, &signer(111)).unwrap(),
        ..victim.sealed
    };
    spliced.carrier.envelope = spliced.sealed.envelope.digest();
    assert_eq!(check(&world, &spliced), Err("PROOF_INVALID"));
}

#[test]
fn each_rule_refuses_with_its_reason() {
    let world = World::new();
    let resealed = |change: fn(&mut pb::Header)| {
        let cert = certificate(&world, 1, "acme");
        let mut header = header(&world, HERE, &cert);
        change(&mut header);
        check(&world, &deliver(&world, HERE, cert, &header))
    };
    assert_eq!(resealed(|_| ()), Ok(()));
    assert_eq!(
        resealed(|h| h.record_class = "memo".into()),
        Err("RECORD_CLASS_UNKNOWN")
    );
    assert_eq!(
        resealed(|h| h.policy_digest = vec![8; 32]),
        Err("DISCLOSURE_MISMATCH")
    );
    assert_eq!(
        resealed(|h| h.mode = pb::Mode::Supervised.into()),
        Err("DISCLOSURE_MISMATCH")
    );
    assert_eq!(
        resealed(|h| h.tenants.push("bank".into())),
        Err("DISCLOSURE_MISMATCH")
    );
    assert_eq!(
        resealed(|h| h.sender_user = "mallory".into()),
        Err("CERTIFICATE_MISMATCH")
    );

    let good = delivery(&world, HERE);
    let changed = |change: fn(&mut Delivery)| {
        let mut delivery = good.clone();
        change(&mut delivery);
        check(&world, &delivery)
    };
    assert_eq!(changed(|d| d.sealed.wraps.clear()), Err("WRAPS_MISMATCH"));
    assert_eq!(
        changed(|d| d.sealed.wraps[0].sealed[1331] ^= 1),
        Err("WRAPS_MISMATCH")
    );
    assert_eq!(
        changed(|d| {
            d.sealed.wraps[0].sealed.pop();
        }),
        Err("WRAP_MALFORMED")
    );
    assert_eq!(
        changed(|d| d.sealed.ciphertext.push(0)),
        Err("CIPHERTEXT_MISMATCH")
    );
}

#[test]
fn periods_and_revocations_are_judged_at_the_given_instant() {
    let mut world = World::new();
    let good = delivery(&world, HERE);
    assert_eq!(
        check_at(&world, &good, Millis::new(2_000_000)),
        Err("JOURNALING_KEY_EXPIRED")
    );
    let mut bundle = world.bundle.message().clone();
    bundle.revocations.push(pb::Revocation {
        certificate: good.cert.digest().to_vec(),
        from: NOW.get(),
    });
    let bundle = Signed::sign(bundle, &[(crate::trust::ROOT, &world.root_key)]);
    world.bundle = Bundle::verify(bundle, &world.root).unwrap();
    let before = Millis::new(NOW.get() - 1);
    assert_eq!(check_at(&world, &good, before), Ok(()));
    assert_eq!(check(&world, &good), Err("CERTIFICATE_REVOKED"));
}

//! Attack 3: what the journal gets differs from what the recipients get. A recipient's own arithmetic finds it, and its
//! report convinces whoever has neither seen the message nor trusts the recipient.

use greffe_envelope::derive::{Seed, SeedKeys};
use greffe_envelope::envelope::Envelope;
use greffe_envelope::label::sha256;
use greffe_envelope::message::{Sealed, open_with_seed, wrap_ref};
use greffe_envelope::recompute::{Mismatch, ReportError, WRAP_MISMATCH, recompute, verify_report};
use greffe_envelope::wrap::{WrapView, make_wrap, verify_proof};
use proptest::prelude::*;

use crate::world::{Device, KEYS, TENANT, content, keys};

/// How a sender cheats.
#[derive(Debug, Clone, Copy)]
enum Cheat {
    /// Another key is sealed, its proof perfectly valid: the order opens nothing.
    OtherKey(u8),
    /// The right key, sealed for another record: the associated data does not fit.
    OtherRecord(u8),
    /// One bit is off, wherever it is.
    Bit(usize),
}

/// A message whose recipients read it as if nothing were wrong, and whose wrap number `at` is worthless.
fn cheat(sender: &Device, seed: &Seed, at: usize, how: Cheat) -> Sealed {
    let mut sealed = sender.seal(seed, b"you can read this");
    let rd = sealed.envelope.record_digest();
    let draft = sender.draft(seed);
    let mut wraps = sealed.wraps;
    wraps[at] = match how {
        Cheat::OtherKey(other) => {
            let other = SeedKeys::new(&Seed::from_bytes([other; 32]), draft.core());
            make_wrap(&other, &rd, &KEYS[at]).unwrap()
        }
        Cheat::OtherRecord(other) => {
            let own = SeedKeys::new(seed, draft.core());
            make_wrap(&own, &sha256(&[other]), &KEYS[at]).unwrap()
        }
        Cheat::Bit(bit) => {
            let mut wrap = wraps[at].clone();
            wrap.sealed[bit / 8] ^= 1 << (bit % 8);
            wrap
        }
    };
    // A point off the curve has no digest to name: services refuse such a wrap before anybody gets it.
    let Ok(named) = wrap_ref(&wraps[at]) else {
        return cheat(sender, seed, at, Cheat::OtherKey(255));
    };
    let mut body = sealed.envelope.body().clone();
    body.wraps[at] = named;
    sealed.envelope = Envelope::sign(&body, &sender.key).unwrap();
    Sealed { wraps, ..sealed }
}

fn how() -> impl Strategy<Value = Cheat> {
    prop_oneof![
        (100_u8..).prop_map(Cheat::OtherKey),
        any::<u8>().prop_map(Cheat::OtherRecord),
        (0_usize..1332 * 8).prop_map(Cheat::Bit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn attack_03_a_wrap_that_the_seed_does_not_give_is_found_and_the_report_proves_it(
        seed in 1_u8..100, at in 0_usize..2, how in how(),
    ) {
        let (sender, recipient) = (Device::new("alice", 20), Device::new("bob", 21));
        let bytes = [seed; 32];
        let seed = Seed::from_bytes(bytes);
        let sealed = cheat(&sender, &seed, at, how);
        let envelope = &sealed.envelope;
        // Nothing shows when the message is read: signature, seed, commitments and text are all right.
        envelope.verify_signature(&sender.cert.envelope_key).unwrap();
        let opened = open_with_seed(&seed, TENANT, envelope, &sealed.ciphertext).unwrap();
        prop_assert_eq!(opened.content, content(b"you can read this"));

        let found = recompute(&seed, TENANT, envelope, &keys(), &sealed.wraps);
        let expected = Mismatch::Wrap(*KEYS[at].key_id());
        prop_assert_eq!(found, Err(expected));
        let report = recipient.report(&sealed, &bytes, WRAP_MISMATCH);
        let proved = verify_report(&report, &recipient.cert, &sender.cert, &keys()).unwrap();
        prop_assert_eq!(proved, expected);
        // The same report with another seed proves nothing.
        let report = recipient.report(&sealed, &[0; 32], WRAP_MISMATCH);
        let refused = verify_report(&report, &recipient.cert, &sender.cert, &keys());
        prop_assert!(matches!(refused, Err(ReportError::NoEvidence)));
    }
}

#[test]
fn attack_03_services_cannot_see_it_and_an_honest_message_cannot_be_reported() {
    let (sender, recipient) = (Device::new("alice", 20), Device::new("bob", 21));
    let bytes = [1; 32];
    let seed = Seed::from_bytes(bytes);
    let cheated = cheat(&sender, &seed, 0, Cheat::OtherKey(200));
    let wrap = WrapView::parse(&cheated.wraps[0].sealed).unwrap();
    // The proof holds: it says that the sender knows the exponent, not what is inside. Only recipients can tell.
    verify_proof(&KEYS[0], &cheated.envelope.record_digest(), &wrap).unwrap();

    let honest = sender.seal(&seed, b"hello");
    recompute(&seed, TENANT, &honest.envelope, &keys(), &honest.wraps).unwrap();
    let report = recipient.report(&honest, &bytes, WRAP_MISMATCH);
    let refused = verify_report(&report, &recipient.cert, &sender.cert, &keys());
    assert!(matches!(refused, Err(ReportError::Unfounded)));
    // Wraps swapped on the way are the carrier's doing and nothing about the sender.
    let found = recompute(&seed, TENANT, &honest.envelope, &keys(), &cheated.wraps);
    assert_eq!(found, Err(Mismatch::Carrier));
    assert_eq!(Mismatch::Carrier.reason(), None);
}

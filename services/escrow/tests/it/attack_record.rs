//! Attacks on records: wraps that use the nodes as an oracle, devices that nobody certified, fields that were changed.

use greffe_api::escrow::OpenOrder;
use greffe_envelope::curve::{Point, Scalar};
use greffe_envelope::envelope::Envelope;
use greffe_envelope::label::{hash, lp};
use greffe_envelope::message::Sealed;
use greffe_envelope::opening::RecordList;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::ISSUER;
use greffe_envelope::wrap::WrapView;
use greffe_escrow::config::EscrowConfig;

use crate::log::now;
use crate::records::{
    Record, approved, archive, archived, device_cert, list, log_receipts, open, opening, order,
    receipt, record_refused, release, seal,
};
use crate::world::{Journal, World, public, signer};

/// Where the parts of a wrap begin.
const POINT: usize = 1088;
const CT: usize = 1153;
const PROOF: usize = 1201;

/// An order over records, released.
fn ordered(world: &World, records: &[Record]) -> (OpenOrder, RecordList) {
    let list = list(records);
    let order = release(world, approved(order(&list), &["ann", "bob"]));
    (order, list)
}

/// The reason for which a record under an order of its own is refused; empty when it opens.
async fn refused(world: &World, record: &Record) -> String {
    let (order, list) = ordered(world, std::slice::from_ref(record));
    record_refused(world, &order, opening(&list, record)).await
}

/// A message with another wrap in its body, signed anew by its device: all that an attacker's own device can do.
fn with_wrap(
    message: &(Sealed, Signed<pb::DeviceCert>),
    wrap: Vec<u8>,
) -> (Sealed, Signed<pb::DeviceCert>) {
    let (mut sealed, cert) = message.clone();
    let mut body = sealed.envelope.body().clone();
    body.wraps[0].digest = WrapView::parse(&wrap).unwrap().digest().to_vec();
    sealed.envelope = Envelope::sign(&body, &signer(20)).unwrap();
    sealed.wraps[0].sealed = wrap;
    (sealed, cert)
}

/// A wrap of chosen parts with a true proof for it: whoever knows `r` can make one.
fn proved(journal: &Journal, envelope: &Envelope, mlkem: &[u8], ct: &[u8], r: &Scalar) -> Vec<u8> {
    let (g, g2) = (Point::GENERATOR, Point::generator2());
    let e = g.mul_vartime(r);
    let enc = [mlkem, &e.to_uncompressed().unwrap()].concat();
    let label = hash(
        "tdh2",
        &[
            envelope.record_digest().as_bytes(),
            &lp(b"acme"),
            journal.key.key_id().as_bytes(),
            journal.key.public_key_digest().as_bytes(),
            &enc,
            ct,
        ],
    );
    let k = Scalar::random().unwrap();
    let points = [
        g,
        g2,
        e,
        g2.mul_vartime(r),
        g.mul_vartime(&k),
        g2.mul_vartime(&k),
    ];
    let [g, g2, e, u2, w, w2] = points.map(|point| point.to_compressed().unwrap());
    let c = hash("tdh2-c", &[label.as_bytes(), &g, &g2, &e, &u2, &w, &w2]);
    let c = Scalar::reduce32(c.as_bytes()).unwrap();
    let z = *k + c * *r;
    [&enc, ct, &u2, &w, &w2, z.to_bytes().as_slice()].concat()
}

/// A victim's encapsulation, times a factor, in the attacker's own envelope and under the attacker's own order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_06_a_rerandomised_encapsulation_is_not_opened() {
    let (world, journal) = World::with_key().await;
    let victim = seal(&journal, 1).0.wraps[0].sealed.clone();
    let own = seal(&journal, 2);
    let own_wrap = own.0.wraps[0].sealed.clone();
    let factor = Scalar::from_u64(7);
    let point = Point::from_uncompressed(&victim[POINT..CT]).unwrap();
    let blinded = point.mul_vartime(&factor).to_uncompressed().unwrap();
    // With a proof of one's own, the victim's, and one that is true of another point.
    let true_of_another = proved(
        &journal,
        &own.0.envelope,
        &own_wrap[..POINT],
        &own_wrap[CT..PROOF],
        &factor,
    );
    let mut messages = Vec::new();
    for proof in [&own_wrap, &victim, &true_of_another] {
        let wrap = [
            &own_wrap[..POINT],
            &blinded,
            &own_wrap[CT..PROOF],
            &proof[PROOF..],
        ]
        .concat();
        messages.push(with_wrap(&own, wrap));
    }
    // The victim's encapsulation as it is, copied with its proof.
    messages.push(with_wrap(&own, victim));
    for message in messages {
        let record = archive(&world, vec![message]).remove(0);
        assert_eq!(refused(&world, &record).await, "PROOF_REFUSED");
    }
    // What the attacker did not touch opens: it was the proof that failed.
    let honest = archive(&world, vec![own]).remove(0);
    assert_eq!(refused(&world, &honest).await, "");
}

/// A victim's ML-KEM ciphertext beside the attacker's own point, with a true proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_65_an_ml_kem_ciphertext_is_opened_for_one_envelope_only() {
    let (world, journal) = World::with_key().await;
    let victim = archived(&world, &journal, &[1]).remove(0);
    assert_eq!(refused(&world, &victim).await, "");
    let own = seal(&journal, 2);
    let r = Scalar::from_u64(11);
    let copied = &victim.wrap.sealed[..POINT];
    let wrap = proved(&journal, &own.0.envelope, copied, &[9; 48], &r);
    let record = archive(&world, vec![with_wrap(&own, wrap)]).remove(0);
    assert_eq!(refused(&world, &record).await, "WRAP_REUSED");
    // The proof was true: with a ciphertext of its own the same thing opens.
    let fresh = &own.0.wraps[0].sealed[..POINT];
    let wrap = proved(&journal, &own.0.envelope, fresh, &[9; 48], &r);
    let record = archive(&world, vec![with_wrap(&own, wrap)]).remove(0);
    assert_eq!(refused(&world, &record).await, "");
    // The victim's stays the victim's, under another order too.
    let (other, list) = ordered(&world, &[victim.clone(), record]);
    assert_eq!(
        record_refused(&world, &other, opening(&list, &victim)).await,
        ""
    );
    // Nor is it opened for both when they come together; and one that comes twice gets one answer.
    let victim = archived(&world, &journal, &[3]).remove(0);
    let own = seal(&journal, 4);
    let wrap = proved(
        &journal,
        &own.0.envelope,
        &victim.wrap.sealed[..POINT],
        &[9; 48],
        &r,
    );
    let copy = archive(&world, vec![with_wrap(&own, wrap)]).remove(0);
    let (both, list) = ordered(&world, &[victim.clone(), copy.clone()]);
    let asked = [&victim, &copy, &victim].map(|record| opening(&list, record));
    let answers = open(&world, 0, &both, asked.to_vec()).await.unwrap();
    let reasons: Vec<&str> = answers.iter().map(|answer| &*answer.reason).collect();
    assert_eq!(reasons, ["", "WRAP_REUSED", ""]);
    assert_eq!(answers[0].answer, answers[2].answer);
}

/// Every part of a record that a carrier could change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_22_every_field_of_a_record_counts() {
    let (world, journal) = World::with_key().await;
    let records = archived(&world, &journal, &[1, 2]);
    let (order, list) = ordered(&world, &records);
    type Change = fn(&mut pb::OpeningRecord);
    let body = |at: fn(usize) -> usize| -> Box<dyn Fn(&mut pb::OpeningRecord)> {
        Box::new(move |r| {
            let body = &mut r.envelope.as_mut().unwrap().body;
            let at = at(body.len());
            body[at] ^= 1;
        })
    };
    let wrap = |at: usize| -> Box<dyn Fn(&mut pb::OpeningRecord)> {
        Box::new(move |r| r.wrap.as_mut().unwrap().sealed[at] ^= 1)
    };
    let mut changes: Vec<(Box<dyn Fn(&mut pb::OpeningRecord)>, &[&str])> = vec![
        (body(|_| 40), &["ENVELOPE_REFUSED", "RECORD_NOT_IN_ORDER"]),
        (body(|len| len - 1), &["RECORD_NOT_IN_ORDER"]),
        (wrap(0), &["WRAP_REFUSED"]),
        (wrap(POINT + 5), &["WRAP_REFUSED"]),
        (wrap(CT), &["WRAP_REFUSED"]),
        (wrap(PROOF + 100), &["WRAP_REFUSED"]),
    ];
    let simple: [(Change, &'static [&'static str]); 26] = [
        (|r| r.envelope = None, &["ENVELOPE_REFUSED"]),
        (
            |r| r.envelope.as_mut().unwrap().signature[0] ^= 1,
            &["ENVELOPE_REFUSED"],
        ),
        (|r| r.wrap = None, &["WRAP_REFUSED"]),
        (
            |r| r.wrap.as_mut().unwrap().tenant = "other".into(),
            &["WRAP_REFUSED"],
        ),
        (
            |r| r.wrap.as_mut().unwrap().key_id[0] ^= 1,
            &["WRAP_REFUSED"],
        ),
        (
            |r| {
                r.wrap.as_mut().unwrap().sealed.pop();
            },
            &["WRAP_REFUSED"],
        ),
        (|r| r.device_cert = None, &["CERTIFICATE_REFUSED"]),
        (
            |r| r.device_cert.as_mut().unwrap().statement[20] ^= 1,
            &["CERTIFICATE_REFUSED"],
        ),
        (
            |r| r.device_cert.as_mut().unwrap().signatures[0].signature[0] ^= 1,
            &["CERTIFICATE_REFUSED"],
        ),
        (
            |r| r.device_cert.as_mut().unwrap().signatures.clear(),
            &["CERTIFICATE_REFUSED"],
        ),
        (|r| r.receipt = None, &["RECEIPT_REFUSED"]),
        (
            |r| r.receipt.as_mut().unwrap().statement[10] ^= 1,
            &["RECEIPT_REFUSED"],
        ),
        (
            |r| r.receipt.as_mut().unwrap().signatures[0].signature[0] ^= 1,
            &["RECEIPT_REFUSED"],
        ),
        (
            |r| r.receipt.as_mut().unwrap().signatures[0].signer = "root".into(),
            &["RECEIPT_REFUSED"],
        ),
        (|r| r.index ^= 1, &["RECORD_NOT_IN_ORDER"]),
        (|r| r.index = u64::MAX, &["RECORD_NOT_IN_ORDER"]),
        (|r| r.path[0][0] ^= 1, &["RECORD_NOT_IN_ORDER"]),
        (|r| r.path.clear(), &["RECORD_NOT_IN_ORDER"]),
        (|r| r.path.push(vec![0; 32]), &["RECORD_NOT_IN_ORDER"]),
        (|r| r.receipt_proof = None, &["RECEIPT_NOT_IN_LOG"]),
        (
            |r| r.receipt_proof.as_mut().unwrap().batch_index ^= 1,
            &["RECEIPT_NOT_IN_LOG"],
        ),
        (
            |r| r.receipt_proof.as_mut().unwrap().batch_size += 1,
            &["RECEIPT_NOT_IN_LOG"],
        ),
        (
            |r| r.receipt_proof.as_mut().unwrap().batch_path[0][0] ^= 1,
            &["RECEIPT_NOT_IN_LOG"],
        ),
        (
            |r| r.receipt_proof.as_mut().unwrap().log_index -= 1,
            &["RECEIPT_NOT_IN_LOG"],
        ),
        (
            |r| r.receipt_proof.as_mut().unwrap().log_index = 1 << 40,
            &["NOT_CAUGHT_UP"],
        ),
        (
            |r| r.receipt_proof.as_mut().unwrap().log_entry[10] ^= 1,
            &["RECEIPT_NOT_IN_LOG"],
        ),
    ];
    for (change, expected) in simple {
        changes.push((Box::new(change), expected));
    }
    let good = opening(&list, &records[0]);
    let changed: Vec<pb::OpeningRecord> = changes
        .iter()
        .map(|(change, _)| {
            let mut record = good.clone();
            change(&mut record);
            record
        })
        .collect();
    let answers = open(&world, 0, &order, changed).await.unwrap();
    assert_eq!(answers.len(), changes.len());
    for (at, (answer, (_, expected))) in answers.iter().zip(&changes).enumerate() {
        assert!(
            expected.contains(&answer.reason.as_str()),
            "change {at}: {:?} {}",
            answer.reason,
            answer.message
        );
        assert!(answer.answer.is_empty());
    }
    // Parts of another record, each true of that one.
    let other = opening(&list, &records[1]);
    let swaps: [(fn(&mut pb::OpeningRecord, pb::OpeningRecord), &str); 3] = [
        (|r, o| r.wrap = o.wrap, "WRAP_REFUSED"),
        (|r, o| r.receipt = o.receipt, "RECEIPT_REFUSED"),
        (
            |r, o| r.receipt_proof = o.receipt_proof,
            "RECEIPT_NOT_IN_LOG",
        ),
    ];
    for (swap, expected) in swaps {
        let mut record = good.clone();
        swap(&mut record, other.clone());
        assert_eq!(record_refused(&world, &order, record).await, expected);
    }
    assert_eq!(record_refused(&world, &order, good).await, "");
}

/// A receipt that the archive never put into the log, or that somebody else signed or logged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_23_no_opening_without_the_archives_receipt_in_the_log() {
    let (world, journal) = World::with_key().await;
    let (sealed, cert) = seal(&journal, 1);
    let message = receipt(&sealed.envelope);
    let own = Signed::sign(message.clone(), &[("archive", &signer(200))]);
    let true_one = Signed::sign(message.clone(), &[("archive", &signer(4))]);
    let mut later = message;
    later.bundle_version = 9;
    let later = Signed::sign(later, &[("archive", &signer(4))]);
    let with = |receipt: &Signed<pb::Receipt>, proof: pb::ReceiptProof| Record {
        wrap: sealed.wraps[0].clone(),
        sealed: sealed.clone(),
        cert: cert.clone(),
        receipt: receipt.clone(),
        proof,
    };
    for receipt in [&own, &later] {
        let proof = log_receipts(&world, std::slice::from_ref(receipt)).remove(0);
        assert_eq!(
            refused(&world, &with(receipt, proof)).await,
            "RECEIPT_REFUSED"
        );
    }
    // In another batch of the archive's.
    let other = archived(&world, &journal, &[2]).remove(0).proof;
    assert_eq!(
        refused(&world, &with(&true_one, other)).await,
        "RECEIPT_NOT_IN_LOG"
    );
    // In a batch that the relay logged, or in none.
    let mut proof = log_receipts(&world, std::slice::from_ref(&true_one)).remove(0);
    let entry: pb::LogEntry = prost::Message::decode(proof.log_entry.as_slice()).unwrap();
    let true_proof = proof.clone();
    let (index, leaf) = world.log.add("relay", entry.event.unwrap());
    (proof.log_index, proof.log_entry) = (index, leaf);
    assert_eq!(
        refused(&world, &with(&true_one, proof)).await,
        "RECEIPT_NOT_IN_LOG"
    );
    let mut invented = true_proof.clone();
    let mut entry: pb::LogEntry = prost::Message::decode(invented.log_entry.as_slice()).unwrap();
    entry.at += 1;
    invented.log_entry = prost::Message::encode_to_vec(&entry);
    assert_eq!(
        refused(&world, &with(&true_one, invented)).await,
        "RECEIPT_NOT_IN_LOG"
    );
    assert_eq!(refused(&world, &with(&true_one, true_proof)).await, "");
}

/// A device that the directory put in the sender's place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_71_a_substituted_device_key_fails_at_the_node() {
    let (mut world, journal) = World::with_key().await;
    // Alice's message under a certificate of the directory's making: its own key, its own issuer.
    let substituted = |change: fn(&mut pb::DeviceCert), issuer: u8, header: fn(&mut pb::Header)| {
        let (mut sealed, genuine) = seal(&journal, 1);
        let mut cert = genuine.message().clone();
        cert.envelope_key = public(40);
        change(&mut cert);
        let cert = Signed::sign(cert, &[(ISSUER, &signer(issuer))]);
        let mut body = sealed.envelope.body().clone();
        let mut message = sealed.envelope.header().message().clone();
        message.device_cert = cert.digest().to_vec();
        header(&mut message);
        body.header = prost::Message::encode_to_vec(&message);
        sealed.envelope = Envelope::sign(&body, &signer(40)).unwrap();
        (sealed, cert)
    };
    let cases = [
        substituted(|_| {}, 200, |_| {}),
        substituted(|cert| cert.tenant = "other".into(), 2, |_| {}),
        substituted(|cert| cert.user = "bob".into(), 2, |_| {}),
        substituted(|cert| cert.device = vec![4; 16], 2, |_| {}),
        substituted(|cert| cert.not_after = now().get() - 60_000, 2, |_| {}),
        substituted(
            |_| {},
            2,
            |header| header.device_cert = device_cert(20).digest().to_vec(),
        ),
    ];
    for (at, message) in cases.into_iter().enumerate() {
        let record = archive(&world, vec![message]).remove(0);
        assert_eq!(
            refused(&world, &record).await,
            "CERTIFICATE_REFUSED",
            "case {at}"
        );
    }
    // The genuine certificate does not make the envelope genuine.
    let mut message = substituted(
        |_| {},
        2,
        |header| {
            header.device_cert = device_cert(20).digest().to_vec();
        },
    );
    message.1 = device_cert(20);
    let record = archive(&world, vec![message]).remove(0);
    assert_eq!(refused(&world, &record).await, "ENVELOPE_REFUSED");
    // Revoked since, with effect from before the receipt.
    let record = archived(&world, &journal, &[2]).remove(0);
    world
        .change_bundle(|bundle| {
            bundle.revocations.push(pb::Revocation {
                certificate: device_cert(20).digest().to_vec(),
                from: 1,
            });
        })
        .await;
    assert_eq!(refused(&world, &record).await, "CERTIFICATE_REFUSED");
}

/// A node opens so many records an hour, whatever was approved; retries are not counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_32_a_node_has_a_cap_of_its_own() {
    let world = World::with(EscrowConfig {
        records_per_hour: 2,
        ..EscrowConfig::default()
    })
    .await;
    let journal = world.make_key().await;
    let records = archived(&world, &journal, &[1, 2, 3]);
    let (order, list) = ordered(&world, &records);
    let asked: Vec<_> = records
        .iter()
        .map(|record| opening(&list, record))
        .collect();
    for _ in 0..2 {
        let answers = open(&world, 0, &order, asked.clone()).await.unwrap();
        let reasons: Vec<&str> = answers
            .iter()
            .map(|answer| answer.reason.as_str())
            .collect();
        assert_eq!(reasons, ["", "", "RATE_LIMITED"]);
    }
}

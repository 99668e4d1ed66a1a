//! A record that an archive hands over with false words beside it.

use greffe_api::archive as api;
use greffe_client::verify_record;
use greffe_envelope::chain::ChainState;
use greffe_envelope::derive::Seed;
use greffe_envelope::message::Draft;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::TrustState;
use greffe_envelope::wrap::JournalKey;
use greffe_tlog::leaf_hash;
use greffe_types::{ConversationId, DeviceId, Digest, MessageId};
use prost::Message as _;

use crate::tenant::{FAR, Tenant, now, public, signer};

/// Bob's message as an honest archive would hand it over.
fn of_bob(tenant: &Tenant) -> (Digest, api::GetRecordResponse) {
    let (device, key) = (DeviceId::new([0x42; 16]), signer(60));
    let cert = tenant.certify(pb::DeviceCert {
        tenant: "acme".into(),
        user: "bob".into(),
        device: device.to_vec(),
        mls_key: public(&signer(61)),
        envelope_key: public(&key),
        not_before: 0,
        not_after: FAR,
    });
    let cert_digest = Signed::<pb::DeviceCert>::decode(cert.clone())
        .unwrap()
        .digest();
    let journal = JournalKey::from_record(&tenant.key.record).unwrap();
    let conversation = ConversationId::new([0x77; 16]);
    let message = MessageId::new([1; 16]);
    let header = pb::Header {
        tenants: vec!["acme".into()],
        conversation: conversation.to_vec(),
        message_id: message.to_vec(),
        mode: pb::Mode::Journaled.into(),
        sender_user: "bob".into(),
        sender_device: device.to_vec(),
        device_cert: cert_digest.to_vec(),
        mls_epoch: 1,
        sent_at: now().get(),
        record_class: "communication".into(),
        key_ids: vec![journal.key_id().to_vec()],
        policy_digest: tenant.disclosure().policy_digest.clone(),
        device_counter: 1,
        previous: vec![0; 32],
        seen_head: vec![0; 32],
        ..Default::default()
    };
    let content = pb::Content {
        kind: pb::ContentKind::Text.into(),
        text: b"sell".to_vec(),
        ..Default::default()
    };
    let seed = Seed::from_bytes([9; 32]);
    let sealed = Draft::new(&seed, "acme", &conversation, &message, &device)
        .seal(&header, &content, &[&journal], &key)
        .unwrap();
    let digest = sealed.envelope.digest();
    let (receipt, after) = tenant.receipt(
        &ChainState::start(conversation),
        pb::EntryKind::Message,
        &digest,
    );
    let batch = pb::LogEntry {
        event: Some(pb::log_entry::Event::Receipts(pb::ReceiptBatch {
            root: leaf_hash(&receipt.statement).to_vec(),
            count: 1,
            first: 1,
            proofs_verified: 1,
        })),
        ..Default::default()
    };
    let received = Signed::<pb::Receipt>::decode(receipt.clone()).unwrap();
    let summary = api::RecordSummary {
        record: 7,
        conversation: conversation.to_vec(),
        sequence: after.sequence,
        kind: pb::EntryKind::Message.into(),
        digest: digest.to_vec(),
        sender: "bob".into(),
        sent_at: header.sent_at,
        archived_at: received.archived_at,
        retain_until: received.retain_until,
        mode: pb::Mode::Journaled.into(),
        record_class: "communication".into(),
        size: sealed.ciphertext.len() as u64,
        participants: vec!["alice".into(), "bob".into()],
        holds: 1,
        disposed: false,
    };
    let record = api::GetRecordResponse {
        summary: Some(summary),
        envelope: Some(sealed.envelope.into_raw()),
        device_cert: Some(cert),
        receipt: Some(receipt),
        receipt_proof: Some(pb::ReceiptProof {
            batch_index: 0,
            batch_size: 1,
            batch_path: vec![],
            log_index: 9,
            log_entry: batch.encode_to_vec(),
        }),
    };
    (digest, record)
}

#[test]
fn what_is_shown_beside_a_message_is_what_was_signed() {
    let tenant = Tenant::new();
    let state = TrustState::new(tenant.root_key(), tenant.bundle.raw().clone()).unwrap();
    let (digest, honest) = of_bob(&tenant);
    let told = honest.summary.clone().unwrap();
    let verified = verify_record(&state, &digest, honest.clone()).unwrap();
    assert_eq!(verified.summary, told);
    let mut grown = honest.clone();
    grown.summary.as_mut().unwrap().retain_until += 1;
    let verified = verify_record(&state, &digest, grown).unwrap();
    assert_eq!(verified.summary.retain_until, told.retain_until + 1);

    let lies: [fn(&mut api::RecordSummary); 9] = [
        |s| s.sender = "alice".into(),
        |s| s.sent_at -= 1,
        |s| s.archived_at -= 1,
        |s| s.retain_until = 0,
        |s| s.conversation = vec![1; 16],
        |s| s.sequence += 1,
        |s| s.mode = pb::Mode::Private.into(),
        |s| s.record_class = "other".into(),
        |s| s.kind = pb::EntryKind::Void.into(),
    ];
    for (at, lie) in lies.into_iter().enumerate() {
        let mut record = honest.clone();
        lie(record.summary.as_mut().unwrap());
        let verified = verify_record(&state, &digest, record).unwrap();
        assert_eq!(verified.summary, told, "lie {at}");
    }
    let silent = api::GetRecordResponse {
        summary: None,
        ..honest
    };
    let verified = verify_record(&state, &digest, silent).unwrap();
    assert_eq!(verified.summary.sender, "bob");
}

//! A sender, a recipient, two journaling keys, and messages between them.

use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use greffe_envelope::derive::Seed;
use greffe_envelope::message::{Draft, Sealed};
use greffe_envelope::opening::HybridSecretKey;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::wrap::JournalKey;
use greffe_types::{ConversationId, DeviceId, MessageId};

pub(crate) const TENANT: &str = "acme";

pub(crate) static KEYS: LazyLock<[JournalKey; 2]> = LazyLock::new(|| {
    [("acme", 1), ("bank", 2)].map(|(tenant, seed)| {
        let public = HybridSecretKey::from_seed(&[seed; 32]).public_key();
        JournalKey::from_public_key(tenant, &public).unwrap()
    })
});

/// Both keys, as functions want them.
pub(crate) fn keys() -> Vec<&'static JournalKey> {
    KEYS.iter().collect()
}

/// A person's device.
pub(crate) struct Device {
    pub(crate) key: SigningKey,
    pub(crate) cert: Signed<pb::DeviceCert>,
}

impl Device {
    pub(crate) fn new(user: &str, n: u8) -> Self {
        let key = SigningKey::from_bytes(&[n; 32]);
        let cert = pb::DeviceCert {
            tenant: TENANT.into(),
            user: user.into(),
            device: vec![n; 16],
            mls_key: vec![n; 32],
            envelope_key: key.verifying_key().to_bytes().to_vec(),
            not_before: 0,
            not_after: 1 << 40,
        };
        let issuer = SigningKey::from_bytes(&[99; 32]);
        Self {
            key,
            cert: Signed::sign(cert, &[("issuer", &issuer)]),
        }
    }

    pub(crate) fn draft(&self, seed: &Seed) -> Draft {
        let device = DeviceId::try_from(self.cert.device.as_slice()).unwrap();
        let (conversation, message) = (ConversationId::new([8; 16]), MessageId::new([9; 16]));
        Draft::new(seed, TENANT, &conversation, &message, &device)
    }

    pub(crate) fn header(&self) -> pb::Header {
        let mut key_ids: Vec<Vec<u8>> = KEYS.iter().map(|key| key.key_id().to_vec()).collect();
        key_ids.sort();
        pb::Header {
            tenants: KEYS.iter().map(|key| key.tenant().to_owned()).collect(),
            conversation: vec![8; 16],
            message_id: vec![9; 16],
            mode: pb::Mode::Journaled.into(),
            sender_user: self.cert.user.clone(),
            sender_device: self.cert.device.clone(),
            device_cert: self.cert.digest().to_vec(),
            mls_epoch: 1,
            sent_at: 1,
            record_class: "communication".into(),
            key_ids,
            policy_digest: vec![5; 32],
            device_counter: 1,
            previous: vec![0; 32],
            seen_head: vec![0; 32],
            ..Default::default()
        }
    }

    /// An honest message.
    pub(crate) fn seal(&self, seed: &Seed, text: &[u8]) -> Sealed {
        let draft = self.draft(seed);
        draft
            .seal(&self.header(), &content(text), &keys(), &self.key)
            .unwrap()
    }

    /// What this device says about a message it got.
    pub(crate) fn report(&self, sealed: &Sealed, seed: &[u8], reason: &str) -> Signed<pb::Report> {
        let report = pb::Report {
            tenant: TENANT.into(),
            user: self.cert.user.clone(),
            device: self.cert.device.clone(),
            envelope: Some(sealed.envelope.raw().clone()),
            wraps: sealed.wraps.clone(),
            seed: seed.to_vec(),
            reason: reason.into(),
            at: 2,
        };
        let name = greffe_types::to_hex(&self.cert.device);
        Signed::sign(report, &[(&name, &self.key)])
    }
}

/// A line.
pub(crate) fn content(text: &[u8]) -> pb::Content {
    pb::Content {
        kind: pb::ContentKind::Text.into(),
        text: text.to_vec(),
        ..Default::default()
    }
}

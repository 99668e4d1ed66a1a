//! A tenant for tests: root, issuer, nodes, a journaling key, people, devices, and the messages they send.

use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use greffe_api::archive as api;
use greffe_envelope::derive::Seed;
use greffe_envelope::message::{Draft, Sealed};
use greffe_envelope::opening::HybridSecretKey;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{ISSUER, ROOT, RootKey};
use greffe_envelope::wrap::{JournalKey, key_id};
use greffe_policy::Pack;
use greffe_service_kit::tls::SpiffeId;
use greffe_types::{ConversationId, DeviceId, Digest, MessageId, Millis, TenantId};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

pub const ORIGIN: &str = "acme.example/log";
pub const LOG_KEY: [u8; 32] = [3; 32];
/// Keys of the witnesses `escrow-1` to `escrow-3` count from here.
pub const WITNESSES: u8 = 50;
/// When tests begin.
pub const NOW: Millis = Millis::new(1_800_000_000_000);
/// Longer than any test's clock goes.
pub const END: u64 = 4_000_000_000_000;
/// People with their roles; their keys count from 80.
pub const PEOPLE: [(&str, &[&str]); 9] = [
    ("ann", &["auditor", "requester"]),
    ("bea", &["approver"]),
    ("cam", &["compliance"]),
    ("dan", &["legal"]),
    ("eve", &["records-manager"]),
    ("fay", &["reader"]),
    ("gus", &["requester"]),
    ("hal", &["administrator"]),
    ("ivy", &["approver"]),
];

pub fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

pub fn signer(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub fn public(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_bytes().to_vec()
}

/// The signing key of one of [`PEOPLE`].
pub fn person_key(name: &str) -> SigningKey {
    let index = PEOPLE.iter().position(|(known, _)| *known == name).unwrap();
    signer(80 + index as u8)
}

/// The reader key of one of [`PEOPLE`].
pub fn reader_key(name: &str) -> HybridSecretKey {
    HybridSecretKey::from_seed(&person_key(name).to_bytes())
}

pub fn pack() -> &'static Pack {
    Pack::embedded("us-broker-dealer").unwrap()
}

pub fn root() -> RootKey {
    RootKey::new(tenant(), &public(&signer(1))).unwrap()
}

/// The first bundle, with the archive's receipt key.
pub fn bundle_message(receipt_key: &[u8]) -> pb::TrustBundle {
    let nodes = (1_u32..=3).map(|index| pb::EscrowNode {
        index,
        name: format!("escrow-{index}"),
        signing_key: public(&signer(10 + index as u8)),
        witness_key: public(&signer(WITNESSES + index as u8)),
        channel_key: HybridSecretKey::from_seed(&[60; 32]).public_key(),
        trust_domain: "test".into(),
    });
    pb::TrustBundle {
        tenant: "acme".into(),
        version: 1,
        previous: vec![0; 32],
        issued_at: NOW.get(),
        next_root: vec![9; 32],
        device_issuer: public(&signer(2)),
        log: Some(pb::LogKey {
            origin: ORIGIN.into(),
            key: public(&SigningKey::from_bytes(&LOG_KEY)),
        }),
        receipt_keys: vec![pb::ServiceKey {
            name: "archive".into(),
            key: receipt_key.to_vec(),
            not_before: 0,
            not_after: END,
        }],
        witnesses: (1..=3)
            .map(|index| pb::Witness {
                name: format!("escrow-{index}"),
                key: public(&signer(WITNESSES + index)),
            })
            .collect(),
        nodes: nodes.collect(),
        cosigner_quorum: 2,
        roster: PEOPLE
            .iter()
            .map(|(name, roles)| pb::Person {
                name: (*name).into(),
                roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                signing_key: public(&person_key(name)),
                reader_key: if roles.contains(&"reader") {
                    reader_key(name).public_key()
                } else {
                    Vec::new()
                },
                not_before: 0,
                not_after: END,
                revoked: false,
            })
            .collect(),
        packs: vec![pb::PolicyPack {
            id: pack().id().into(),
            digest: pack().digest().to_vec(),
        }],
        approvals: Some(pb::ApprovalRule {
            minimum: 2,
            required_roles: vec!["approver".into(), "compliance".into()],
            bulk_threshold: 100,
        }),
        ..Default::default()
    }
}

pub fn sign_bundle(message: pb::TrustBundle) -> Signed<pb::TrustBundle> {
    Signed::sign(message, &[(ROOT, &signer(1))])
}

/// The journaling key, with its record and disclosure.
pub struct Journal {
    pub record: Signed<pb::KeyRecord>,
    pub key: JournalKey,
    pub disclosure: Signed<pb::Disclosure>,
}

pub static JOURNAL: LazyLock<Journal> = LazyLock::new(|| journal(70, 1));

/// A journaling key of a seed, disclosed under a serial.
pub fn journal(seed: u8, serial: u64) -> Journal {
    journal_until(seed, serial, END)
}

/// As [`journal`], of a period that ends.
pub fn journal_until(seed: u8, serial: u64, not_after: u64) -> Journal {
    let public_key = HybridSecretKey::from_seed(&[seed; 32]).public_key();
    let notice = pb::NoticeRef {
        language: "en".into(),
        digest: vec![5; 32],
    };
    let record = pb::KeyRecord {
        tenant: "acme".into(),
        key_id: key_id("acme", &public_key).to_vec(),
        period: "2027".into(),
        not_before: 0,
        not_after,
        kem: 0x0050,
        public_key,
        t_min: 2,
        committee: (1..=3).map(|i| format!("escrow-{i}")).collect(),
        notices: vec![notice.clone()],
        purpose: "retention".into(),
        transcript: vec![8; 32],
    };
    let nodes: Vec<_> = (11..14).map(signer).collect();
    let root = signer(1);
    let record = Signed::sign(
        record,
        &[
            (ROOT, &root),
            ("escrow-1", &nodes[0]),
            ("escrow-2", &nodes[1]),
            ("escrow-3", &nodes[2]),
        ],
    );
    let disclosure = pb::Disclosure {
        tenants: vec!["acme".into()],
        mode: pb::Mode::Journaled.into(),
        key_records: vec![record.raw().clone()],
        policy_id: pack().id().into(),
        policy_digest: pack().digest().to_vec(),
        notices: vec![notice],
        serial,
        standing_order: vec![],
    };
    Journal {
        key: JournalKey::from_record(&record).unwrap(),
        disclosure: Signed::sign(disclosure, &[(ROOT, &root)]),
        record,
    }
}

/// A user's device.
#[derive(Clone)]
pub struct Device {
    pub user: String,
    pub id: DeviceId,
    pub key: SigningKey,
    pub cert: Signed<pb::DeviceCert>,
}

/// Device `n` of a user.
pub fn device(user: &str, n: u8) -> Device {
    let key = signer(100_u8.wrapping_add(n));
    let cert = pb::DeviceCert {
        tenant: "acme".into(),
        user: user.into(),
        device: vec![n; 16],
        mls_key: public(&signer(150_u8.wrapping_add(n))),
        envelope_key: public(&key),
        not_before: 0,
        not_after: END,
    };
    Device {
        user: user.into(),
        id: DeviceId::new([n; 16]),
        key,
        cert: Signed::sign(cert, &[(ISSUER, &signer(2))]),
    }
}

/// A conversation whose members are some devices, sending one message after the other.
pub struct Talk {
    pub id: ConversationId,
    pub members: Vec<Device>,
    pub sequence: u64,
    pub fence: u64,
    pub counter: u64,
}

impl Talk {
    pub fn new(n: u8) -> Self {
        Self {
            id: ConversationId::new([n; 16]),
            members: vec![device("alice", 1), device("bob", 2)],
            sequence: 0,
            fence: 1,
            counter: 0,
        }
    }

    /// The next message of member 0, of the class "communication".
    pub fn message(&mut self, text: &str) -> api::IngestRequest {
        self.message_with(text, |_| ())
    }

    /// As [`Talk::message`], with another header.
    pub fn message_with(
        &mut self,
        text: &str,
        change: impl FnOnce(&mut pb::Header),
    ) -> api::IngestRequest {
        let sealed = self.seal(text, change);
        let sender = self.members[0].clone();
        let message = ingest_message(&sealed, &sender);
        self.request(api::ingest_request::Entry::Message(message))
    }

    /// A sealed message that has no number yet.
    pub fn seal(&mut self, text: &str, change: impl FnOnce(&mut pb::Header)) -> Sealed {
        self.seal_to(text, &JOURNAL.key, change)
    }

    /// As [`Talk::seal`], to another journaling key.
    pub fn seal_to(
        &mut self,
        text: &str,
        journal: &JournalKey,
        change: impl FnOnce(&mut pb::Header),
    ) -> Sealed {
        self.counter += 1;
        let sender = &self.members[0];
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.counter.to_be_bytes());
        id[8..].copy_from_slice(&self.id.as_bytes()[..8]);
        let message = MessageId::new(id);
        let mut header = pb::Header {
            tenants: vec!["acme".into()],
            conversation: self.id.to_vec(),
            message_id: message.to_vec(),
            mode: pb::Mode::Journaled.into(),
            sender_user: sender.user.clone(),
            sender_device: sender.id.to_vec(),
            device_cert: sender.cert.digest().to_vec(),
            mls_epoch: 1,
            sent_at: NOW.get(),
            record_class: "communication".into(),
            key_ids: vec![JOURNAL.record.key_id.clone()],
            policy_digest: pack().digest().to_vec(),
            device_counter: self.counter,
            previous: if self.counter == 1 {
                vec![0; 32]
            } else {
                vec![6; 32]
            },
            seen_head: vec![0; 32],
            ..Default::default()
        };
        change(&mut header);
        let mut seed = [7; 32];
        seed[..16].copy_from_slice(&id);
        let seed = Seed::from_bytes(seed);
        let draft = Draft::new(&seed, "acme", &self.id, &message, &sender.id);
        let attachments = header.attachments.iter().map(|_| pb::ContentAttachment {
            name: "a.bin".into(),
            media_type: "application/octet-stream".into(),
            size: ATTACHMENT.len() as u64,
            padded_digest: vec![0; 32],
        });
        let content = pb::Content {
            kind: pb::ContentKind::Text.into(),
            text: text.as_bytes().to_vec(),
            attachments: attachments.collect(),
            ..Default::default()
        };
        draft
            .seal(&header, &content, &[journal], &sender.key)
            .unwrap()
    }

    /// The next commit, after which the first disclosure is in force.
    pub fn handshake(&mut self) -> api::IngestRequest {
        let disclosure = JOURNAL.disclosure.raw().clone();
        self.handshake_with(disclosure)
    }

    /// The next commit, after which a disclosure is in force.
    pub fn handshake_with(&mut self, disclosure: pb::SignedStatement) -> api::IngestRequest {
        let handshake = api::IngestHandshake {
            public_message: public_message(&self.id, self.sequence),
            sender_device: self.members[0].id.to_vec(),
            disclosure: Some(disclosure),
        };
        self.request(api::ingest_request::Entry::Handshake(handshake))
    }

    /// An entry under the next number.
    pub fn request(&mut self, entry: api::ingest_request::Entry) -> api::IngestRequest {
        self.sequence += 1;
        let participants = self.members.iter().map(|member| api::Participant {
            user: member.user.clone(),
            device: member.id.to_vec(),
        });
        api::IngestRequest {
            conversation: self.id.to_vec(),
            sequence: self.sequence,
            fence: self.fence,
            entry: Some(entry),
            participants: participants.collect(),
        }
    }
}

/// An attachment's plain bytes, and its ciphertext as far as the archive can tell: any bytes of the right size.
pub const ATTACHMENT: [u8; 40] = [9; 40];

pub fn attachment_ciphertext(fill: u8) -> Vec<u8> {
    let padded = greffe_envelope::padding::padded_len(ATTACHMENT.len() as u64);
    vec![fill; greffe_envelope::stream::ciphertext_len(padded) as usize]
}

/// What the relay sends of a sealed message.
pub fn ingest_message(sealed: &Sealed, sender: &Device) -> api::IngestMessage {
    let header = sealed.envelope.header();
    api::IngestMessage {
        envelope: Some(sealed.envelope.raw().clone()),
        wraps: sealed.wraps.clone(),
        ciphertext: sealed.ciphertext.clone(),
        mls_message: private_message(
            &header.conversation(),
            header.message().mls_epoch,
            &sealed.envelope.digest(),
        ),
        device_cert: Some(sender.cert.raw().clone()),
    }
}

/// The outside of an MLS PrivateMessage; the archive sees no more of one.
pub fn private_message(conversation: &ConversationId, epoch: u64, envelope: &Digest) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 2, 16];
    bytes.extend(conversation.as_bytes());
    bytes.extend(epoch.to_be_bytes());
    bytes.extend([1, 32]);
    bytes.extend(envelope.as_bytes());
    bytes.extend([1, 0, 1, 0]);
    bytes
}

/// The outside of an MLS PublicMessage with a commit.
pub fn public_message(conversation: &ConversationId, epoch: u64) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 1, 16];
    bytes.extend(conversation.as_bytes());
    bytes.extend(epoch.to_be_bytes());
    bytes.extend([1, 0, 0, 0, 0, 0, 3]);
    bytes.extend([0; 40]);
    bytes
}

/// A certificate authority.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Certifies a request under a name.
    pub fn certify(&self, csr: &str, id: &SpiffeId) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        request.params = leaf(id);
        request.signed_by(&self.issuer).unwrap().pem()
    }

    /// Certificate and key of a name, PEM.
    pub fn issue(&self, id: &SpiffeId) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let cert = leaf(id).signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }
}

fn leaf(id: &SpiffeId) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into().unwrap())];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

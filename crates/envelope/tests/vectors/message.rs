//! Whole messages, sealed as a client seals them and taken apart again.

use greffe_envelope::attachment::{open_attachment, seal_attachment};
use greffe_envelope::curve::Scalar;
use greffe_envelope::derive::Seed;
use greffe_envelope::label::{Prk, SEED_SALT, hash, label, lp};
use greffe_envelope::message::{Draft, Sealed, encode_seed, open_with_seed};
use greffe_envelope::pb;
use greffe_envelope::recompute::recompute;
use greffe_envelope::wrap::{WrapView, verify_proof};
use greffe_types::{ConversationId, DeviceId, Digest, MessageId};
use prost::Message as _;
use serde_json::{Value, json};
use shake::{ExtendableOutput as _, Shake256, Update as _, XofReader as _};

use super::json::{Json as _, hex, scalar};
use super::keys::{Secret, Seeded};

pub fn cases() -> Vec<Value> {
    let (acme, bank) = (Secret::new("acme"), Secret::new("bank"));
    vec![
        Plan::new("a line under one key", &["acme"], &[&acme])
            .seal()
            .1,
        Plan {
            attachments: &[0, 5, 1000],
            text: 300,
            ..Plan::new(
                "a mail with attachments under the keys of two tenants",
                &["acme", "bank"],
                &[&bank, &acme],
            )
        }
        .seal()
        .1,
        Plan {
            mode: pb::Mode::Private,
            text: 0,
            ..Plan::new("an empty line that no journaling key opens", &["acme"], &[])
        }
        .seal()
        .1,
    ]
}

/// What is sealed.
pub struct Plan<'a> {
    pub name: &'a str,
    pub tenants: &'a [&'a str],
    pub keys: &'a [&'a Secret],
    pub mode: pb::Mode,
    pub text: usize,
    pub attachments: &'a [usize],
}

impl<'a> Plan<'a> {
    pub fn new(name: &'a str, tenants: &'a [&'a str], keys: &'a [&'a Secret]) -> Self {
        Self {
            name,
            tenants,
            keys,
            mode: pb::Mode::Journaled,
            text: 12,
            attachments: &[],
        }
    }

    /// The message, and all about it.
    pub fn seal(&self) -> (Sealed, Value) {
        let mut rng = Seeded::new(self.name);
        let seed = Seed::from_bytes(rng.array());
        let tenant = self.tenants[0];
        let (conversation, message, device): ([u8; 16], [u8; 16], [u8; 16]) =
            (rng.array(), rng.array(), rng.array());
        let draft = Draft::new(
            &seed,
            tenant,
            &ConversationId::new(conversation),
            &MessageId::new(message),
            &DeviceId::new(device),
        );
        let (core, cek) = (*draft.core(), draft.cek().clone());
        let mut attachments = Vec::new();
        let (mut outside, mut inside) = (Vec::new(), Vec::new());
        for (index, length) in (0..).zip(self.attachments) {
            let data = rng.bytes(*length);
            let (ciphertext, reference, padded) =
                seal_attachment(&cek, &core, index, &data).unwrap();
            let content = pb::ContentAttachment {
                name: format!("annexe-{index}.bin"),
                media_type: "application/octet-stream".into(),
                size: *length as u64,
                padded_digest: padded.to_vec(),
            };
            let opened = open_attachment(&cek, &core, index, &content, &reference, &ciphertext);
            assert_eq!(opened.unwrap(), data);
            attachments.push(json!({ "data": hex(&data), "ciphertext": hex(&ciphertext) }));
            outside.push(reference);
            inside.push(content);
        }
        let first = attachments.is_empty();
        let kind = if first {
            pb::ContentKind::Text
        } else {
            pb::ContentKind::Mail
        };
        let content = pb::Content {
            kind: kind.into(),
            text: rng.bytes(self.text),
            reply_to: if first { vec![] } else { rng.bytes(32) },
            attachments: inside,
            subject: if first {
                String::new()
            } else {
                "Déjà vu".into()
            },
            unknown_sender: !first,
            target: vec![],
        };
        let mut key_ids: Vec<Vec<u8>> = self.keys.iter().map(|s| s.key.key_id().to_vec()).collect();
        key_ids.sort();
        let header = pb::Header {
            tenants: self.tenants.iter().map(|t| (*t).to_owned()).collect(),
            conversation: conversation.to_vec(),
            message_id: message.to_vec(),
            mode: self.mode.into(),
            sender_user: "alice@acme.example".into(),
            sender_device: device.to_vec(),
            device_cert: rng.bytes(32),
            mls_epoch: 7,
            sent_at: 1_790_000_000_123,
            record_class: "communication".into(),
            classification: if first {
                String::new()
            } else {
                "internal".into()
            },
            key_ids,
            policy_digest: rng.bytes(32),
            attachments: outside,
            device_counter: if first { 1 } else { 300 },
            previous: if first { vec![0; 32] } else { rng.bytes(32) },
            seen_seq: if first { 0 } else { 1 << 33 },
            seen_head: if first { vec![0; 32] } else { rng.bytes(32) },
        };
        let signer = rng.signer();
        let journal: Vec<_> = self.keys.iter().map(|secret| &secret.key).collect();
        let sealed = draft.seal(&header, &content, &journal, &signer).unwrap();
        let envelope = &sealed.envelope;
        let public = signer.verifying_key().to_bytes();
        envelope.verify_signature(&public).unwrap();
        let opened = open_with_seed(&seed, tenant, envelope, &sealed.ciphertext).unwrap();
        assert_eq!((&opened.content, &opened.cek), (&content, &cek));
        recompute(&seed, tenant, envelope, &journal, &sealed.wraps).unwrap();

        let (content_key, _) = cek.content(&envelope.header().digest());
        let wraps: Vec<Value> = sealed
            .wraps
            .iter()
            .map(|wrap| {
                let is_its = |secret: &&&Secret| secret.key.key_id().as_bytes()[..] == wrap.key_id;
                let secret = self.keys.iter().find(is_its).unwrap();
                wrap_case(&seed, &envelope.record_digest(), secret, wrap)
            })
            .collect();
        let value = json!({
            "about": self.name,
            "tenant": tenant,
            "seed": hex(seed.as_bytes()),
            "mls_plaintext": hex(encode_seed(&seed).as_slice()),
            "core": core.json(),
            "cek": hex(cek.as_bytes()),
            "seed_commitment": envelope.seed_commitment().json(),
            "attachments": attachments,
            "header": header.json(),
            "header_bytes": hex(envelope.header().bytes()),
            "hd": envelope.header().digest().json(),
            "content": content.json(),
            "content_bytes": hex(content.encode_to_vec()),
            "content_key": hex(content_key.as_bytes()),
            "commitment": envelope.commitment().json(),
            "ciphertext": hex(&sealed.ciphertext),
            "rd": envelope.record_digest().json(),
            "wraps": wraps,
            "body": envelope.body().json(),
            "body_bytes": hex(&envelope.raw().body),
            "envelope_digest": envelope.digest().json(),
            "signing_key": hex(signer.to_bytes()),
            "verifying_key": hex(public),
            "signature": hex(&envelope.raw().signature),
        });
        (sealed, value)
    }
}

/// A wrap with everything that went into it.
fn wrap_case(seed: &Seed, rd: &Digest, secret: &Secret, wrap: &pb::Wrap) -> Value {
    let key = &secret.key;
    let view = WrapView::parse(&wrap.sealed).unwrap();
    verify_proof(key, rd, &view).unwrap();
    let prk = Prk::extract(SEED_SALT, seed.as_bytes());
    let (tenant, id) = (lp(key.tenant().as_bytes()), key.key_id().as_bytes());
    let wrap_seed = prk.expand::<32>("wrap", &[rd.as_bytes(), &tenant, id]);
    let mut xof = Shake256::default();
    xof.update(&label("wrap-rng"));
    xof.update(wrap_seed.as_slice());
    let mut randomness = [0; 64];
    xof.finalize_xof().read(&mut randomness);
    let r = Scalar::from_canonical_nonzero(&randomness[32..]).unwrap();
    let statement = hash(
        "tdh2",
        &[
            rd.as_bytes(),
            &tenant,
            id,
            key.public_key_digest().as_bytes(),
            view.enc(),
            view.ct(),
        ],
    );
    let nonce = prk.expand::<48>("tdh2-k", &[statement.as_bytes()]);
    json!({
        "tenant": key.tenant(),
        "kem_seed": hex(secret.kem_seed),
        "scalar": scalar(&secret.coefficients[0]),
        "public_key": hex(key.public_key()),
        "key_id": key.key_id().json(),
        "wrap_seed": hex(wrap_seed.as_slice()),
        "randomness": hex(randomness),
        "r": scalar(&r),
        "enc": hex(view.enc()),
        "ct": hex(view.ct()),
        "statement": statement.json(),
        "k": scalar(&Scalar::reduce48(&nonce).unwrap()),
        "proof": hex(view.proof()),
        "digest": view.digest().json(),
        "rejected_secret": hex(secret.reject(view.mlkem_ciphertext())),
        "mlkem_digest": view.mlkem_digest().json(),
    })
}

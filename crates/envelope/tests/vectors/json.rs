//! Values as JSON: bytes in hexadecimal, messages field by field under their names in the contracts.

use greffe_envelope::curve::{Point, Scalar};
use greffe_envelope::pb;
use greffe_types::{Digest, to_hex};
use serde_json::{Map, Value, json};

/// What a vector can hold.
pub trait Json {
    fn json(&self) -> Value;
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: impl AsRef<[u8]>) -> Value {
    to_hex(bytes.as_ref()).into()
}

/// A scalar, 32 bytes big-endian.
pub fn scalar(scalar: &Scalar) -> Value {
    hex(scalar.to_bytes().as_slice())
}

/// A point, compressed.
pub fn point(point: &Point) -> Value {
    hex(point.to_compressed().expect("no vector has the identity"))
}

/// The same value with the keys of every object in order, whatever map the JSON library was built with.
pub fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.into_iter().collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            let pairs = pairs.into_iter().map(|(key, value)| (key, sorted(value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Value::Array(list) => list.into_iter().map(sorted).collect(),
        other => other,
    }
}

impl Json for Vec<u8> {
    fn json(&self) -> Value {
        hex(self)
    }
}

impl Json for Digest {
    fn json(&self) -> Value {
        hex(self.as_bytes())
    }
}

impl<T: Json> Json for Vec<T> {
    fn json(&self) -> Value {
        self.iter().map(Json::json).collect()
    }
}

impl<T: Json> Json for Option<T> {
    fn json(&self) -> Value {
        self.as_ref().map_or(Value::Null, Json::json)
    }
}

macro_rules! plain {
    ($($kind:ty),*) => { $(
        impl Json for $kind {
            fn json(&self) -> Value {
                json!(self)
            }
        }
    )* };
}

plain!(String, u64, u32, i32, bool);

/// Every field of a message: a field that the contracts gain does not compile until it stands here.
macro_rules! fields {
    ($($message:ident { $($field:ident),* $(,)? })*) => { $(
        impl Json for pb::$message {
            fn json(&self) -> Value {
                let Self { $($field),* } = self;
                let mut map = Map::new();
                $( map.insert(stringify!($field).trim_start_matches("r#").to_owned(), $field.json()); )*
                Value::Object(map)
            }
        }
    )* };
}

fields! {
    Header {
        tenants, conversation, message_id, mode, sender_user, sender_device, device_cert, mls_epoch, sent_at, record_class,
        classification, key_ids, policy_digest, attachments, device_counter, previous, seen_seq, seen_head,
    }
    AttachmentRef { digest, size }
    EnvelopeBody { header, ciphertext_digest, ciphertext_size, commitment, seed_commitment, wraps }
    WrapRef { tenant, key_id, digest }
    Wrap { tenant, key_id, sealed }
    SealedEnvelope { body, signature }
    Content { kind, text, reply_to, attachments, subject, unknown_sender, target }
    ContentAttachment { name, media_type, size, padded_digest }
    Receipt {
        tenant, conversation, sequence, kind, entry_digest, previous_head, head, archived_at, retain_until, bundle_version,
    }
    Void { tenant, conversation, sequence, refused_digest, reason, at }
    RangeStatement { tenant, conversation, first, last, previous_head, head, entries, complete, at }
    RangeEntry { kind, digest }
    Signature { signer, algorithm, signature }
    SignedStatement { r#type, statement, signatures }
    TrustBundle {
        tenant, version, previous, issued_at, next_root, device_issuer, log, receipt_keys, services, tls_authorities, nodes,
        witnesses, cosigner_quorum, roster, packs, development, revocations, approvals, contact,
    }
    ApprovalRule { minimum, required_roles, bulk_threshold }
    Revocation { certificate, from }
    LogKey { origin, key }
    ServiceKey { name, key, not_before, not_after }
    ServiceName { service, spiffe_id }
    EscrowNode { index, name, signing_key, witness_key, channel_key, trust_domain }
    Witness { name, key }
    Person { name, roles, signing_key, reader_key, not_before, not_after, revoked }
    PolicyPack { id, digest }
    DeviceCert { tenant, user, device, mls_key, envelope_key, not_before, not_after }
    KeyRecord {
        tenant, key_id, period, not_before, not_after, kem, public_key, t_min, committee, notices, purpose, transcript,
    }
    NoticeRef { language, digest }
    ShareEpoch { tenant, key_id, epoch, previous, threshold, holders }
    ShareHolder { index, node, verification_share }
    Disclosure { tenants, mode, key_records, policy_id, policy_digest, notices, serial, standing_order }
    Currency { tenant, mode, standing_order, disclosure, serial, share_epochs, at }
    Acknowledgement { tenant, user, device, conversation, disclosure, language, notice, at }
    Report { tenant, user, device, envelope, wraps, seed, reason, at }
    DeviceLogin { tenant, device, device_cert, audience, challenge, at }
    Order {
        id, tenant, matter, purpose, records_root, records_count, reader, reader_key, not_before, expiry, nonce, seal_until,
        requester,
    }
    Approval { tenant, order, records_root, records_count, person, at }
    PersonToken { tenant, person, audience, not_before, expiry, nonce }
    PersonAct { tenant, person, action, act, at, nonce }
    ProductionStatement { tenant, reader, order, manifest, records, at }
    KeygenDescriptor {
        tenant, session, period, not_before, not_after, threshold, nodes, bundle_version, purpose, expiry, notices,
    }
    CeremonyMessage { session, round, sender, receiver, payload }
    ReshareDescriptor { tenant, session, key_id, previous, threshold, nodes, dealers, expiry }
    ShareProof { tenant, key_id, share_epoch, index, node, nonce, at, commitment, response }
    KeyUnused { tenant, key_id, key_record, at }
    KeyRetirement { tenant, key_id, key_record, at, unused }
    ShareDestruction { tenant, node, key_id, share_epoch, cause, at }
}

//! Decoders of messages: envelopes and their parts, signed statements, MLS, stored shares.

use std::sync::Arc;

use greffe_envelope::ceremony::NodeShare;
use greffe_envelope::content::{self, Kind};
use greffe_envelope::envelope::{Envelope, Header};
use greffe_envelope::history::{History, Said};
use greffe_envelope::message::decode_seed;
use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, Statement};
use greffe_envelope::wrap::WrapView;
use greffe_mls::{
    Device, DeviceDirectory, DisclosureError, DisclosureInfo, DisclosureVerifier, Frame, Trust,
    check_key_package,
};
use greffe_types::{Digest, Millis};
use prost::Message as _;

/// A `SealedEnvelope`, and its body alone.
pub(super) fn envelope(bytes: &[u8]) {
    let sealed = pb::SealedEnvelope {
        body: bytes.to_vec(),
        signature: vec![1; 64],
    };
    for raw in pb::SealedEnvelope::decode(bytes)
        .into_iter()
        .chain([sealed])
    {
        if let Ok(envelope) = Envelope::decode(raw.clone()) {
            assert_eq!(envelope.raw(), &raw);
            assert!(envelope.verify_signature(&[0; 32]).is_err());
        }
    }
}

/// A header, as the sender wrote it.
pub(super) fn header(bytes: &[u8]) {
    if let Ok(header) = Header::decode(bytes) {
        assert_eq!(header.bytes(), bytes);
        assert_eq!(header.message().encode_to_vec(), bytes);
    }
}

/// A content, as a member or reader finds it once it is open.
pub(super) fn content(bytes: &[u8]) {
    let Ok(content) = content::decode(bytes) else {
        return;
    };
    let newer = matches!(Kind::of(&content), Some(Kind::Unknown(_)));
    assert!(newer || content.encode_to_vec() == bytes);
    assert!(!newer || content::check(&content).is_err());
    if content::check(&content).is_ok() {
        let target = content.target.len();
        let act = Kind::of(&content).is_some_and(Kind::is_act);
        assert_eq!(target, if act { 32 } else { 0 });
    }
}

/// A conversation: its items are what lies between the bytes 0xff 0x00, each by one of three users, and each target's first byte
/// says which item is meant. Whatever members send one another, every item is somewhere, once.
pub(super) fn history(bytes: &[u8]) {
    let digest = |number: u8| Digest::new([number; 32]);
    let mut history = History::default();
    let (mut count, mut last) = (0, 0);
    let parts = bytes.split(|byte| *byte == 0xff).take(200);
    for (sequence, part) in (1..).zip(parts) {
        last = sequence;
        let Ok(mut content) = content::decode(part.strip_prefix(&[0]).unwrap_or(part)) else {
            continue;
        };
        if let Some(number) = content.target.first() {
            content.target = digest(*number).to_vec();
        }
        let said = Said {
            sequence: u64::from(sequence),
            envelope: digest(sequence),
            author: part.len() % 3,
            content: &content,
        };
        let verdict = history.take(&said, |digest| digest.as_bytes()[0] > 250);
        let kind = Kind::of(&content);
        assert_eq!(verdict.is_some(), kind.is_some_and(Kind::is_act));
        count += usize::from(kind.is_some_and(|kind| kind.is_act() || kind.is_message()));
    }
    let acts = history.messages().iter().map(|message| message.acts.len());
    let messages = history.messages().len();
    assert_eq!(
        acts.sum::<usize>() + messages + history.strays().len(),
        count
    );
    for message in history.messages() {
        assert!(message.current() <= u64::from(last));
        assert_eq!(message.is_plain(), message.acts.is_empty());
    }
}

/// A wrap's bytes.
pub(super) fn wrap(bytes: &[u8]) {
    if let Ok(view) = WrapView::parse(bytes) {
        assert_eq!(view.bytes().as_slice(), bytes);
        assert_eq!(
            [view.enc(), view.ct(), view.proof()].concat(),
            bytes,
            "its parts are all of it"
        );
    }
    if let Some(seed) = decode_seed(bytes) {
        drop(seed);
        assert_eq!(bytes.len(), 33);
    }
}

/// A signed statement, as every type there is.
pub(super) fn statement(bytes: &[u8]) {
    let known = [
        same::<pb::TrustBundle>(bytes),
        same::<pb::DeviceCert>(bytes),
        same::<pb::KeyRecord>(bytes),
        same::<pb::ShareEpoch>(bytes),
        same::<pb::Disclosure>(bytes),
        same::<pb::Currency>(bytes),
        same::<pb::Acknowledgement>(bytes),
        same::<pb::Order>(bytes),
        same::<pb::Approval>(bytes),
        same::<pb::Receipt>(bytes),
        same::<pb::Void>(bytes),
        same::<pb::RangeStatement>(bytes),
        same::<pb::KeygenDescriptor>(bytes),
        same::<pb::ReshareDescriptor>(bytes),
        same::<pb::CeremonyMessage>(bytes),
        same::<pb::PersonToken>(bytes),
        same::<pb::DeviceLogin>(bytes),
        same::<pb::PersonAct>(bytes),
        same::<pb::Report>(bytes),
        same::<pb::ProductionStatement>(bytes),
        same::<pb::ShareProof>(bytes),
        same::<pb::KeyUnused>(bytes),
        same::<pb::KeyRetirement>(bytes),
        same::<pb::ShareDestruction>(bytes),
    ];
    // One type's bytes are never another's: the label of the signature would be.
    assert!(known.iter().filter(|known| **known).count() <= 1);
}

fn same<M: Statement + PartialEq>(bytes: &[u8]) -> bool {
    let Ok(signed) = Signed::<M>::decode_bytes(bytes) else {
        return false;
    };
    assert_eq!(signed.raw().encode_to_vec(), bytes);
    true
}

/// Trusts nobody: what a stranger sends gets that far and no further.
#[derive(Debug)]
struct Nobody;

impl DisclosureVerifier for Nobody {
    fn verify(&self, _: &[u8]) -> Result<DisclosureInfo, DisclosureError> {
        Err(DisclosureError::new("nobody is trusted"))
    }

    fn verify_current(&self, _: &DisclosureInfo) -> Result<(), DisclosureError> {
        Err(DisclosureError::new("nobody is trusted"))
    }
}

impl DeviceDirectory for Nobody {
    fn device(&self, _: &Digest) -> Option<Device> {
        None
    }
}

/// What the relay takes from a device before anybody has vouched for it.
pub(super) fn mls(bytes: &[u8]) {
    let first = Frame::parse(bytes);
    assert_eq!(first.is_ok(), Frame::parse(bytes).is_ok());
    let trust = Trust {
        disclosures: Arc::new(Nobody),
        devices: Arc::new(Nobody),
    };
    assert!(check_key_package(&trust, bytes, Millis::new(1_800_000_000_000)).is_err());
}

/// A node's share, as it is stored.
pub(super) fn node_share(bytes: &[u8]) {
    if let Ok(share) = NodeShare::from_bytes(bytes) {
        assert_eq!(share.to_bytes().as_slice(), bytes);
    }
}

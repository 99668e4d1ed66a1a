//! Short ways to the values that tests speak of.

use std::collections::BTreeMap;

use greffe_policy::{Pack, Role, Signer, TrustedNow};
use greffe_types::{ActId, Digest, MatterId, Millis, TimeRange};

pub(crate) fn at(text: &str) -> Millis {
    let timestamp: jiff::Timestamp = text.parse().expect("a timestamp");
    Millis::new(timestamp.as_millisecond().try_into().expect("after 1970"))
}

pub(crate) fn pack(id: &str) -> &'static Pack {
    Pack::embedded(id).expect("embedded")
}

pub(crate) fn record(number: u8) -> Digest {
    Digest::new([number; 32])
}

pub(crate) fn hold_id(number: u8) -> ActId {
    ActId::new([number; 16])
}

pub(crate) fn matter(number: u8) -> MatterId {
    MatterId::new([number; 16])
}

pub(crate) fn signer(person: &str, roles: &[Role], when: Millis) -> Signer {
    Signer {
        person: person.to_owned(),
        roles: roles.to_vec(),
        valid: TimeRange::new(Millis::new(0), Millis::new(u64::MAX)).expect("not empty"),
        revoked: false,
        at: when,
    }
}

pub(crate) fn witnessed(now: Millis) -> TrustedNow {
    TrustedNow::agree(now, &BTreeMap::from([("w1".to_owned(), now)]), 1).expect("they agree")
}

//! Short ways to the values that tests speak of.

use std::collections::BTreeMap;

use greffe_policy::{LintError, Pack, PackError, Role, Signer, TrustedNow};
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

/// Loads a pack with one text of its `pack.toml` replaced; the text must be there.
pub(crate) fn edited(id: &str, from: &str, to: &str) -> Result<Pack, PackError> {
    let mut texts = pack(id).texts().clone();
    assert!(texts.pack.contains(from), "{from}");
    texts.pack = texts.pack.replacen(from, to, 1);
    Pack::from_texts(texts)
}

pub(crate) fn edited_notice(from: &str, to: &str) -> Result<Pack, PackError> {
    let mut texts = pack("us-broker-dealer").texts().clone();
    let notice = texts.notices.get_mut("en").expect("English");
    assert!(notice.contains(from), "{from}");
    *notice = notice.replacen(from, to, 1);
    Pack::from_texts(texts)
}

pub(crate) fn lint(result: Result<Pack, PackError>) -> LintError {
    match result {
        Err(PackError::Lint(error)) => error,
        other => panic!("must be refused by lint: {other:?}"),
    }
}

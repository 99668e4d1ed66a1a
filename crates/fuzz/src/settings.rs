//! Decoders of what operators write: packs, rules of access.

use greffe_policy::{AccessRules, Pack};

/// A policy pack in its canonical form.
pub(super) fn pack(bytes: &[u8]) {
    if let Ok(pack) = Pack::from_canonical(bytes) {
        assert_eq!(pack.canonical(), bytes);
    }
}

/// Who may call what. Rules that are taken name every method they know once.
pub(super) fn access_rules(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(rules) = AccessRules::parse(text) {
        for method in rules.methods() {
            assert!(rules.callers(method).is_some());
        }
    }
}

//! Decoders of what operators write: settings, packs, rules of access.

use greffe_policy::{AccessRules, Pack};
use greffe_service_kit::config::{ServiceConfig, Settings};

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

/// A service's settings; the last line is one given over them. An error never repeats the value of a setting.
pub(super) fn service(bytes: &[u8]) {
    const SECRET: &str = "tulip-and-anvil";
    let Ok(text) = core::str::from_utf8(bytes) else {
        return;
    };
    let (file, flag) = text.rsplit_once('\n').unwrap_or((text, ""));
    let flags = [flag.to_owned(), format!("service.database={SECRET}")];
    let Ok(settings) = Settings::parse(file, None, "GREFFE", [], &flags) else {
        return;
    };
    if let Err(error) = settings.read::<Anything>() {
        assert!(!error.to_string().contains(SECRET));
    }
}

/// What every service has; its own table is its own.
#[derive(serde::Deserialize)]
struct Anything {
    #[expect(dead_code, reason = "that it is read is what is tried")]
    service: ServiceConfig,
}

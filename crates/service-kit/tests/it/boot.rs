//! The start of a service from its files, and what stops it.

use std::path::Path;

use greffe_service_kit::boot::{Boot, StartError};
use greffe_service_kit::check::check;
use greffe_service_kit::config::{self, Mode, ServiceConfig};
use greffe_service_kit::errors::Causes;
use greffe_service_kit::tls::{DEVELOPMENT_AUTHORITY, TlsError};
use prost::Message as _;
use serde::Deserialize;

use crate::world::{Authority, app, bundle, development_bundle, root, service};

#[derive(Debug, Deserialize)]
struct Settings {
    service: ServiceConfig,
}

pub(crate) fn settings(folder: &Path) -> ServiceConfig {
    let at = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        "[service]\ntenant = 'acme'\nlisten = '127.0.0.1:0'\ndata = '{}'\nroot_key = '{}'\nbundle = '{}'\n\
         tls = {{ cert = '{}', key = '{}', ca = '{}' }}\npeers.audit = {{ ready = '{}' }}\nlog.filter = 'off'\n",
        at("data"),
        at("root.pub"),
        at("bundle.bin"),
        at("tls.crt"),
        at("tls.key"),
        at("ca.crt"),
        at("audit.json"),
    );
    config::parse::<Settings>(&text, None, "GREFFE_TEST", [])
        .unwrap()
        .service
}

#[tokio::test]
async fn a_service_starts_once_from_what_the_root_signed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let authority = Authority::new();
    let (cert, key) = authority.issue(&service("relay"));
    write("tls.crt", cert.as_bytes());
    write("tls.key", key.as_bytes());
    write("ca.crt", authority.pem.as_bytes());
    write("root.pub", format!("{}\n", root()).as_bytes());
    write("bundle.bin", &bundle(1, vec![0; 32], 50).encode_to_vec());
    let config = settings(folder.path());

    let boot = Boot::start(&config).unwrap();
    assert_eq!((boot.name(), boot.tenant().as_str()), ("relay", "acme"));
    assert_eq!(boot.trust.read().bundle().version(), 1);
    assert!(boot.appender().is_ok());
    assert!(matches!(
        boot.channel("archive"),
        Err(StartError::Config(_))
    ));
    let twice = Boot::start(&config).unwrap_err();
    let said = Causes(&twice).to_string();
    assert!(said.contains("DATA_FOLDER_LOCKED"), "{said}");
    drop(boot);

    // Another service may not take the folder over.
    let (cert, key) = authority.issue(&service("archive"));
    write("tls.crt", cert.as_bytes());
    write("tls.key", key.as_bytes());
    let foreign = Boot::start(&config).unwrap_err();
    let said = Causes(&foreign).to_string();
    assert!(said.contains("DATA_FOLDER_FOREIGN"), "{said}");

    // Nor an application start as a service.
    let (cert, key) = authority.issue(&app("relay"));
    write("tls.crt", cert.as_bytes());
    write("tls.key", key.as_bytes());
    assert!(matches!(
        Boot::start(&config),
        Err(StartError::Identity { .. })
    ));

    // A bundle that the root did not sign.
    let (cert, key) = authority.issue(&service("relay"));
    write("tls.crt", cert.as_bytes());
    write("tls.key", key.as_bytes());
    let mut unsigned = bundle(1, vec![0; 32], 50);
    unsigned.signatures[0].signature[0] ^= 1;
    write("bundle.bin", &unsigned.encode_to_vec());
    assert!(matches!(Boot::start(&config), Err(StartError::Trust(_))));
}

/// What is said to be wrong, in order.
fn problems(config: &ServiceConfig) -> Vec<String> {
    let found = check(config, &["audit"]);
    found
        .iter()
        .map(|problem| format!("{}: {}", problem.reason(), Causes(problem)))
        .collect()
}

#[tokio::test]
async fn production_refuses_a_development_bundle_and_a_development_authority() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let give = |authority: &Authority| {
        let (cert, key) = authority.issue(&service("relay"));
        write("tls.crt", cert.as_bytes());
        write("tls.key", key.as_bytes());
        write("ca.crt", authority.pem.as_bytes());
    };
    write("root.pub", format!("{}\n", root()).as_bytes());
    write("bundle.bin", &bundle(1, vec![0; 32], 50).encode_to_vec());
    give(&Authority::new());
    let mut config = settings(folder.path());
    config.mode = Mode::Production;
    assert_eq!(problems(&config), Vec::<String>::new());
    drop(Boot::start(&config).unwrap());

    write("bundle.bin", &development_bundle().encode_to_vec());
    let refused = Boot::start(&config).unwrap_err();
    assert_eq!(refused.reason(), "DEVELOPMENT_IDENTITY");
    assert!(refused.to_string().contains("the trust bundle"));
    assert_eq!(problems(&config).len(), 1);

    write("bundle.bin", &bundle(1, vec![0; 32], 50).encode_to_vec());
    give(&Authority::named(&format!(
        "{DEVELOPMENT_AUTHORITY} of acme"
    )));
    let refused = Boot::start(&config).unwrap_err();
    assert!(refused.to_string().contains("the TLS authority"));
    assert_eq!(problems(&config).len(), 1);
    config.mode = Mode::Development;
    assert_eq!(problems(&config), Vec::<String>::new());
}

#[tokio::test]
async fn a_certificate_that_no_peer_would_take_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let authority = Authority::new();
    write("root.pub", format!("{}\n", root()).as_bytes());
    write("bundle.bin", &bundle(1, vec![0; 32], 50).encode_to_vec());
    write("ca.crt", authority.pem.as_bytes());
    let config = settings(folder.path());
    let (good, key) = authority.issue(&service("relay"));
    let (expired, old) = authority.issue_until(&service("relay"), 2020);
    let (strange, its) = Authority::new().issue(&service("relay"));
    for (cert, key, word) in [
        (&expired, &old, "expired"),
        (&good, &old, "refused"),
        (&strange, &its, "invalid peer certificate"),
    ] {
        write("tls.crt", cert.as_bytes());
        write("tls.key", key.as_bytes());
        let found = problems(&config);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("TLS_IDENTITY: "), "{found:?}");
        assert!(found[0].contains(word), "{found:?}");
        assert!(matches!(
            Boot::start(&config),
            Err(StartError::Tls(
                TlsError::Refused(_) | TlsError::Unverified(_)
            ))
        ));
    }
    write("tls.crt", good.as_bytes());
    write("tls.key", key.as_bytes());
    assert_eq!(problems(&config), Vec::<String>::new());
    // Nothing was made: a check changes nothing.
    assert!(!folder.path().join("data").exists());
}

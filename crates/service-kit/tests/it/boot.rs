//! The start of a service from its files, and what stops it.

use std::path::Path;

use greffe_service_kit::boot::{Boot, StartError};
use greffe_service_kit::config::{self, ServiceConfig};
use greffe_service_kit::errors::Causes;
use prost::Message as _;
use serde::Deserialize;

use crate::world::{Authority, app, bundle, root, service};

#[derive(Debug, Deserialize)]
struct Settings {
    service: ServiceConfig,
}

fn settings(folder: &Path) -> ServiceConfig {
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

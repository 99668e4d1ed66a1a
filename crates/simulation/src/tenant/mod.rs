//! A tenant made once: root, services with their keys, people, a journaling key that the nodes made, a first conversation.
//! Every seed begins with a copy of its folder.

mod authority;
mod ceremony;
mod statements;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use greffe_client::{ConnectionConfig, Person};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{ROOT, RootKey};
use greffe_policy::Pack;
use greffe_service_kit::config::{Limits, PeerConfig, ServiceConfig, TlsFiles};
use greffe_service_kit::prepare::{Prepared, prepare};
use greffe_service_kit::tls::SpiffeId;
use greffe_types::TenantId;
use prost::Message as _;

use authority::Authority;
pub(crate) use ceremony::{bring_into_force, reshare};

/// The services, in the order in which they start.
pub(crate) const SERVICES: [&str; 6] = [
    "audit", "escrow-1", "escrow-2", "escrow-3", "archive", "relay",
];
/// The applications: one for each user, and one for the people of the office.
pub(crate) const APPS: [&str; 4] = ["alice", "bob", "carol", "office"];
/// The people of the office.
pub(crate) const PEOPLE: [(&str, &[&str]); 7] = [
    ("auditor", &["auditor", "requester"]),
    ("principal", &["approver"]),
    ("second", &["approver"]),
    ("compliance", &["compliance"]),
    ("legal", &["legal"]),
    ("records", &["records-manager"]),
    ("reader", &["reader"]),
];

const PACK: &str = "us-broker-dealer";

/// The tenant's name.
///
/// # Panics
/// Never: it is one.
pub(crate) fn tenant() -> TenantId {
    TenantId::new("acme").expect("a name")
}

/// The policy pack in force.
///
/// # Panics
/// Never: it is embedded.
pub(crate) fn pack() -> &'static Pack {
    Pack::embedded(PACK).expect("an embedded pack")
}

/// The root's key, which in a simulation is nobody's secret.
pub(crate) fn root() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

/// The device issuer's key.
pub(crate) fn issuer() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

/// Where a process keeps what it writes.
pub(crate) fn data(base: &Path, name: &str) -> PathBuf {
    base.join(name)
}

/// Makes keys, certificates and the first bundle in a folder; gives the bundle.
///
/// # Errors
/// When files cannot be written.
pub(crate) fn prepare_all(base: &Path) -> Result<Signed<pb::TrustBundle>> {
    let authority = Authority::new()?;
    let mut services = BTreeMap::new();
    for name in SERVICES {
        let made = prepare(name, &tenant(), &data(base, name), keys(name))?;
        services.insert(name.to_owned(), made);
        let id = SpiffeId::service(&tenant(), name)?;
        authority.write(&data(base, name), &id)?;
    }
    for name in APPS {
        std::fs::create_dir_all(data(base, name))?;
        authority.write(&data(base, name), &SpiffeId::app(&tenant(), name)?)?;
    }
    let roster = PEOPLE
        .iter()
        .map(|(name, roles)| {
            let person = Person::generate(&person(base, name), name, roles.contains(&"reader"))?;
            Ok(statements::entry(name, roles, &person))
        })
        .collect::<Result<Vec<_>>>()?;
    let bundle = statements::bundle(&services, roster)?;
    let bundle = Signed::sign(bundle, &[(ROOT, &root())]);
    let public = RootKey::new(tenant(), &root().verifying_key().to_bytes())?;
    std::fs::write(base.join("root.pub"), format!("{public}\n"))?;
    std::fs::write(base.join("bundle.bin"), bundle.raw().encode_to_vec())?;
    Ok(bundle)
}

/// A person's folder.
pub(crate) fn person(base: &Path, name: &str) -> PathBuf {
    base.join("people").join(name)
}

fn keys(service: &str) -> &'static [(&'static str, &'static str)] {
    match service {
        "audit" => greffe_audit::KEYS,
        "archive" => greffe_archive::KEYS,
        "relay" => greffe_relay::KEYS,
        _ => greffe_escrow::KEYS,
    }
}

fn tls(folder: &Path) -> TlsFiles {
    TlsFiles {
        cert: folder.join("tls.crt"),
        key: folder.join("simulated.key"),
        ca: folder.join("ca.crt"),
    }
}

/// Nobody looks at addresses here, but a service has to be named.
fn peers(names: &[&str]) -> BTreeMap<String, PeerConfig> {
    let address = || PeerConfig::Address("127.0.0.1:1".to_owned());
    names
        .iter()
        .map(|name| ((*name).to_owned(), address()))
        .collect()
}

/// The settings of a service.
///
/// # Errors
/// Never: the address is one.
pub(crate) fn service(base: &Path, name: &str) -> Result<ServiceConfig> {
    let folder = data(base, name);
    let calls: &[&str] = match name {
        "audit" => &["escrow-1", "escrow-2", "escrow-3"],
        "relay" => &["audit", "archive"],
        _ => &["audit"],
    };
    Ok(ServiceConfig {
        tenant: tenant(),
        listen: "127.0.0.1:0".parse().context("an address")?,
        tls: tls(&folder),
        data: folder,
        root_key: base.join("root.pub"),
        bundle: base.join("bundle.bin"),
        peers: peers(calls),
        mode: Default::default(),
        secrets: None,
        health: None,
        database: None,
        telemetry: Default::default(),
        seal: None,
        log: Default::default(),
        limits: Limits::default(),
    })
}

/// How an application reaches the services.
pub(crate) fn connection(base: &Path, name: &str) -> ConnectionConfig {
    ConnectionConfig {
        tenant: tenant(),
        root_key: base.join("root.pub"),
        packs: Vec::new(),
        tls: tls(&data(base, name)),
        peers: peers(&SERVICES),
    }
}

/// What a service prepared, by name.
type Services = BTreeMap<String, Prepared>;

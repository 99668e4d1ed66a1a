//! What a start checks of the settings, also without starting.

use greffe_envelope::trust::{RootKey, TrustState};
use rustls_pki_types::UnixTime;

use crate::boot::StartError;
use crate::config::{Mode, ServiceConfig};
use crate::folder::DataFolder;
use crate::telemetry;
use crate::tls::{Identity, PeerKind, SpiffeId, check_peer};

/// Everything that would keep a service with these settings from starting and that can be seen without starting it; empty
/// if nothing would. `peers` are the services that it cannot do without. Reads files, changes none, calls nobody.
pub fn check(config: &ServiceConfig, peers: &[&str]) -> Vec<StartError> {
    let mut problems = Vec::new();
    let mut note = |outcome: Result<(), StartError>| problems.extend(outcome.err());
    note(telemetry::check(&config.log, &config.telemetry).map_err(StartError::from));
    let identity = identity(config);
    if let Ok(identity) = &identity {
        let owner = DataFolder::check(&config.data, &config.tenant, identity.id().name());
        note(owner.map_err(StartError::from));
    }
    note(identity.map(drop));
    note(trust(config).map(drop));
    for name in peers {
        note(config.peer(name).map(drop).map_err(StartError::from));
    }
    for (name, peer) in &config.peers {
        let named = SpiffeId::service(&config.tenant, name);
        note(named.map(drop).map_err(StartError::from));
        note(check_peer(peer).map_err(StartError::from));
    }
    problems
}

/// The TLS identity: a service's of the tenant, that peers would take now.
pub(crate) fn identity(config: &ServiceConfig) -> Result<Identity, StartError> {
    let identity = Identity::load(&config.tls)?;
    admit(config, &identity)?;
    Ok(identity)
}

/// As [`identity`], of one that has been read.
pub(crate) fn admit(config: &ServiceConfig, identity: &Identity) -> Result<(), StartError> {
    let id = identity.id();
    if id.kind() != PeerKind::Service || *id.tenant() != config.tenant {
        return Err(StartError::Identity {
            found: Box::new(id.clone()),
            tenant: config.tenant.clone(),
        });
    }
    if config.mode == Mode::Production && identity.is_development() {
        return Err(StartError::Development {
            what: "the TLS authority",
        });
    }
    Ok(identity.verify(UnixTime::now())?)
}

/// The pinned root and what it vouched for first.
pub(crate) fn trust(config: &ServiceConfig) -> Result<(RootKey, TrustState), StartError> {
    let root = config.root()?;
    let trust = TrustState::new(root.clone(), config.first_bundle()?)?;
    if config.mode == Mode::Production && trust.bundle().message().development {
        return Err(StartError::Development {
            what: "the trust bundle",
        });
    }
    Ok((root, trust))
}

//! Names of services and applications: `spiffe://TENANT/service/NAME` and `spiffe://TENANT/app/NAME`.

use core::fmt;
use core::str::FromStr;

use greffe_types::TenantId;

/// Not a name that Greffe gives (SPIFFE-ID, section 2, narrowed to our two kinds).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not spiffe://TENANT/service/NAME or spiffe://TENANT/app/NAME")]
pub struct SpiffeError(String);

/// What kind of peer a name is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// One of ours: relay, archive, audit, escrow-2.
    Service,
    /// An application of the tenant.
    App,
}

impl PeerKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::App => "app",
        }
    }
}

/// A peer's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    tenant: TenantId,
    kind: PeerKind,
    name: String,
}

impl SpiffeId {
    /// A service of a tenant; its name has 1 to 63 characters of `a-z`, `0-9` and `-`.
    pub fn service(tenant: &TenantId, name: &str) -> Result<Self, SpiffeError> {
        Self::new(tenant, PeerKind::Service, name)
    }

    /// An application of a tenant, named as services are.
    pub fn app(tenant: &TenantId, name: &str) -> Result<Self, SpiffeError> {
        Self::new(tenant, PeerKind::App, name)
    }

    fn new(tenant: &TenantId, kind: PeerKind, name: &str) -> Result<Self, SpiffeError> {
        let valid = (1..=63).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let id = Self {
            tenant: tenant.clone(),
            kind,
            name: name.to_owned(),
        };
        if valid {
            Ok(id)
        } else {
            Err(SpiffeError(id.to_string()))
        }
    }

    /// Trust domain: the tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Service or application.
    pub fn kind(&self) -> PeerKind {
        self.kind
    }

    /// Last part of the path.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.as_str();
        write!(f, "spiffe://{}/{kind}/{}", self.tenant, self.name)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let parse = || {
            let (tenant, path) = text.strip_prefix("spiffe://")?.split_once('/')?;
            let (kind, name) = path.split_once('/')?;
            let kind = match kind {
                "service" => PeerKind::Service,
                "app" => PeerKind::App,
                _ => return None,
            };
            Self::new(&TenantId::new(tenant).ok()?, kind, name).ok()
        };
        parse().ok_or_else(|| SpiffeError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_read() {
        for good in ["spiffe://acme/service/escrow-2", "spiffe://a-1/app/desk"] {
            assert_eq!(good.parse::<SpiffeId>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "spiffe://acme",
            "spiffe://acme/service",
            "spiffe://acme/service/",
            "spiffe://acme/service/relay/",
            "spiffe://acme/service/Relay",
            "spiffe://acme/user/alice",
            "spiffe:///service/relay",
            "spiffe://acme/service/../relay",
            "SPIFFE://acme/service/relay",
            "https://acme/service/relay",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }
}

//! Who may call which RPC, and who may ask for which act: the table of `policies/access/callers.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use core::fmt;
use core::str::FromStr;

use greffe_types::DeviceId;
use serde::Deserialize;

use crate::{Call, Perform, Permit, Role};

/// Acts that people sign; the table says for each who may ask for it.
pub const ACTS: [&str; 6] = [
    "matter.create",
    "matter.close",
    "hold.place",
    "hold.release",
    "retention.extend",
    "record.dispose",
];

/// The table, checked.
#[derive(Debug, Clone)]
pub struct AccessRules {
    rpc: BTreeMap<String, Vec<CallerKind>>,
    act: BTreeMap<String, Vec<Role>>,
}

/// A kind of caller, as the table writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallerKind {
    /// A service, by its TLS certificate.
    Service(ServiceKind),
    /// Any application, by its TLS certificate.
    App,
    /// An application with a device's session.
    DeviceSession,
    /// An application with the token of a person who has this role.
    Person(Role),
}

/// The services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKind {
    /// `relay`
    Relay,
    /// `archive`
    Archive,
    /// `audit`
    Audit,
    /// `escrow-1`, `escrow-2` and so on.
    Escrow,
    /// `supervision`
    Supervision,
}

/// Who calls, authenticated. Look at [`AccessRules::callers`] first: it says which of a caller's credentials count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A service, by the name in its TLS certificate, such as `escrow-2`.
    Service(String),
    /// An application, by the name in its TLS certificate.
    App(String),
    /// A device whose session has been verified.
    DeviceSession(DeviceId),
    /// A person whose token has been verified, with the roles of the roster.
    Person {
        /// Name in the roster.
        name: String,
        /// Roles in the roster.
        roles: Vec<Role>,
    },
}

/// Why the table was refused.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Not the TOML of such a table; an unknown key, or a method twice.
    #[error("the text is not a table of callers")]
    Syntax(#[source] Box<toml::de::Error>),
    /// A service or method name that cannot be one.
    #[error("{0:?} is not the name of an RPC")]
    Method(String),
    /// A kind of caller that does not exist, or has no place there.
    #[error("{method}: {caller:?} is no kind of caller here")]
    Caller {
        /// The RPC or act.
        method: String,
        /// As written.
        caller: String,
    },
    /// No caller, or one twice.
    #[error("{0}: at least one caller, each only once")]
    Callers(String),
    /// The acts are not exactly [`ACTS`].
    #[error("the table does not list exactly the acts that exist: {0:?}")]
    Act(String),
}

/// Why a call or an act was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallRefused {
    /// No rule: refused, whoever calls.
    #[error("no rule says who may call {0}")]
    NoRule(String),
    /// The rule names others.
    #[error("{caller} may not call {method}")]
    NotAllowed {
        /// The RPC or act.
        method: String,
        /// Who called.
        caller: String,
    },
}

impl CallRefused {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoRule(_) => "NO_ACCESS_RULE",
            Self::NotAllowed { .. } => "CALLER_NOT_ALLOWED",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    rpc: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    act: BTreeMap<String, Vec<String>>,
}

impl AccessRules {
    /// The table that every binary carries.
    pub fn embedded() -> &'static Self {
        static RULES: LazyLock<AccessRules> = LazyLock::new(|| {
            AccessRules::parse(include_str!("../../../policies/access/callers.toml"))
                .expect("the embedded table is a constant, and a test loads it")
        });
        &RULES
    }

    /// Parses and checks a table.
    ///
    /// # Errors
    /// When the text is not such a table, or names something that does not exist.
    pub fn parse(text: &str) -> Result<Self, AccessError> {
        let raw: Raw =
            toml::from_str(text).map_err(|error| AccessError::Syntax(Box::new(error)))?;
        let mut rpc = BTreeMap::new();
        for (service, methods) in raw.rpc {
            for (method, callers) in methods {
                let name = format!("{service}/{method}");
                if !is_service(&service) || !is_identifier(&method) {
                    return Err(AccessError::Method(name));
                }
                rpc.insert(name.clone(), parse_callers(&name, &callers)?);
            }
        }
        let mut act = BTreeMap::new();
        for (name, callers) in raw.act {
            if !ACTS.contains(&name.as_str()) {
                return Err(AccessError::Act(name));
            }
            let roles = parse_callers(&name, &callers)?
                .into_iter()
                .map(|caller| match caller {
                    CallerKind::Person(role) => Ok(role),
                    other => Err(AccessError::Caller {
                        method: name.clone(),
                        caller: other.to_string(),
                    }),
                })
                .collect::<Result<_, _>>()?;
            act.insert(name, roles);
        }
        if let Some(missing) = ACTS.iter().find(|name| !act.contains_key(**name)) {
            return Err(AccessError::Act((*missing).to_owned()));
        }
        Ok(Self { rpc, act })
    }

    /// Every RPC that has a rule, as `package.Service/Method`, sorted.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.rpc.keys().map(String::as_str)
    }

    /// Who may call an RPC. The name is `package.Service/Method`, with or without a leading slash.
    pub fn callers(&self, method: &str) -> Option<&[CallerKind]> {
        self.rpc.get(normal(method)).map(Vec::as_slice)
    }

    /// Permits a call.
    ///
    /// # Errors
    /// When no rule names the RPC, or its rule does not name the caller.
    pub fn check(&self, method: &str, caller: &Caller) -> Result<Permit<Call>, CallRefused> {
        let method = normal(method);
        let allowed = self
            .rpc
            .get(method)
            .ok_or_else(|| CallRefused::NoRule(method.to_owned()))?;
        if allowed.iter().any(|kind| kind.covers(caller)) {
            return Ok(Permit::new(Call {
                method: method.to_owned(),
                caller: caller.to_string(),
            }));
        }
        Err(CallRefused::NotAllowed {
            method: method.to_owned(),
            caller: caller.to_string(),
        })
    }

    /// Permits a person to ask for an act, such as `hold.place`. What else the act needs (who has to approve, when) is
    /// decided by [`crate::decide`], [`crate::release_hold`] and [`crate::extend`].
    ///
    /// # Errors
    /// When there is no such act, or the person has none of its roles.
    pub fn check_act(
        &self,
        act: &str,
        person: &str,
        roles: &[Role],
    ) -> Result<Permit<Perform>, CallRefused> {
        let allowed = self
            .act
            .get(act)
            .ok_or_else(|| CallRefused::NoRule(act.to_owned()))?;
        if roles.iter().any(|role| allowed.contains(role)) {
            return Ok(Permit::new(Perform {
                act: act.to_owned(),
                person: person.to_owned(),
            }));
        }
        Err(CallRefused::NotAllowed {
            method: act.to_owned(),
            caller: person.to_owned(),
        })
    }
}

impl CallerKind {
    fn covers(self, caller: &Caller) -> bool {
        match (self, caller) {
            (Self::Service(kind), Caller::Service(name)) => ServiceKind::of(name) == Some(kind),
            (Self::App, Caller::App(_)) | (Self::DeviceSession, Caller::DeviceSession(_)) => true,
            (Self::Person(role), Caller::Person { roles, .. }) => roles.contains(&role),
            _ => false,
        }
    }
}

impl ServiceKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Archive => "archive",
            Self::Audit => "audit",
            Self::Escrow => "escrow",
            Self::Supervision => "supervision",
        }
    }

    /// The kind of a service, by the name in its TLS certificate.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "relay" => Some(Self::Relay),
            "archive" => Some(Self::Archive),
            "audit" => Some(Self::Audit),
            "supervision" => Some(Self::Supervision),
            other => {
                let index = other.strip_prefix("escrow-")?;
                let number = index.bytes().all(|b| b.is_ascii_digit());
                (number && !index.is_empty() && !index.starts_with('0')).then_some(Self::Escrow)
            }
        }
    }
}

impl FromStr for CallerKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "app" => Self::App,
            "device-session" => Self::DeviceSession,
            "relay" => Self::Service(ServiceKind::Relay),
            "archive" => Self::Service(ServiceKind::Archive),
            "audit" => Self::Service(ServiceKind::Audit),
            "escrow" => Self::Service(ServiceKind::Escrow),
            "supervision" => Self::Service(ServiceKind::Supervision),
            other => {
                let role = other.strip_prefix("person:").ok_or(())?;
                Self::Person(role.parse().map_err(|_| ())?)
            }
        })
    }
}

impl fmt::Display for CallerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(kind) => f.write_str(kind.as_str()),
            Self::App => f.write_str("app"),
            Self::DeviceSession => f.write_str("device-session"),
            Self::Person(role) => write!(f, "person:{role}"),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service:{name}"),
            Self::App(name) => write!(f, "app:{name}"),
            Self::DeviceSession(device) => write!(f, "device:{device}"),
            Self::Person { name, .. } => write!(f, "person:{name}"),
        }
    }
}

fn parse_callers(method: &str, given: &[String]) -> Result<Vec<CallerKind>, AccessError> {
    let mut callers = Vec::with_capacity(given.len());
    for text in given {
        let caller = text.parse().map_err(|()| AccessError::Caller {
            method: method.to_owned(),
            caller: text.clone(),
        })?;
        if callers.contains(&caller) {
            return Err(AccessError::Callers(method.to_owned()));
        }
        callers.push(caller);
    }
    if callers.is_empty() {
        return Err(AccessError::Callers(method.to_owned()));
    }
    Ok(callers)
}

fn normal(method: &str) -> &str {
    method.strip_prefix('/').unwrap_or(method)
}

fn is_service(name: &str) -> bool {
    name.starts_with("greffe.") && name.split('.').all(is_identifier)
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

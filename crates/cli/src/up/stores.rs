//! `--stores`: servers in the place of SQLite and folders, and two processes of relay, archive and audit over them.
//!
//! What a first start was told is kept in the folder, readable by its owner only, since addresses hold passwords.

use std::collections::BTreeMap;
use std::path::Path;

use greffe_service_kit::config::without_values;
use serde::{Deserialize, Serialize};

use crate::fail::{Exit, Failure, Result};
use crate::layout::{Layout, SERVICES, read_text, write_secret};

/// Services that may run twice.
pub(crate) const SHARED: [&str; 3] = ["audit", "archive", "relay"];
/// The second process of each.
pub(crate) const SECONDS: [&str; 3] = ["audit-2", "archive-2", "relay-2"];

/// Where services keep what they write.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stores {
    /// Processes of relay, archive and audit: 1, or 2. Both relays and both archives serve; of audit one waits to take over.
    #[serde(default = "one")]
    pub(crate) replicas: u8,
    /// PostgreSQL addresses by service; `wraps` is the archive's erasable store. Empty databases, one each.
    #[serde(default)]
    pub(crate) databases: BTreeMap<String, String>,
    /// The archive's object store, as `[archive.objects]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) objects: Option<toml::Table>,
}

impl core::fmt::Debug for Stores {
    /// Addresses and keys hold passwords.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Stores({} replicas)", self.replicas)
    }
}

const fn one() -> u8 {
    1
}

impl Stores {
    /// SQLite and folders.
    pub(crate) fn embedded() -> Self {
        Self {
            replicas: 1,
            ..Self::default()
        }
    }

    /// Reads and checks a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let stores: Self =
            // What the parser quotes of the file may be an address with its password.
            toml::from_str(&read_text(path)?).map_err(|error: toml::de::Error| {
                refused(path, &without_values(error.message()))
            })?;
        let known = |name: &str| SERVICES.contains(&name) || name == "wraps";
        if let Some(name) = stores.databases.keys().find(|name| !known(name)) {
            return Err(refused(path, &format!("there is no service {name:?}")));
        }
        if !(1..=2).contains(&stores.replicas) {
            return Err(refused(path, "replicas is 1 or 2"));
        }
        let on_servers = SHARED
            .iter()
            .chain(&["wraps"])
            .all(|name| stores.databases.contains_key(*name));
        if stores.databases.contains_key("archive") != stores.databases.contains_key("wraps") {
            return Err(refused(
                path,
                "databases of archive and wraps go together: name both or neither",
            ));
        }
        if stores.replicas == 2 && !(on_servers && stores.objects.is_some()) {
            return Err(refused(
                path,
                "two replicas share a database each of relay, archive, wraps and audit, and an object store",
            ));
        }
        Ok(stores)
    }

    /// What the folder was set up with; a first start keeps what it is told.
    pub(crate) fn of(layout: &Layout, given: Option<&Self>, fresh: bool) -> Result<Self> {
        let path = layout.root().join("stores.toml");
        if fresh {
            let stores = given.cloned().unwrap_or_else(Self::embedded);
            let text = toml::to_string(&stores).map_err(|error| {
                Failure::because("SETTINGS", "the stores cannot be written down", &error)
            })?;
            if stores != Self::embedded() {
                write_secret(&path, text.as_bytes())?;
            }
            return Ok(stores);
        }
        let kept = if path.exists() {
            Self::read(&path)?
        } else {
            Self::embedded()
        };
        match given {
            Some(given) if *given != kept => Err(Failure::new(
                Exit::Refused,
                "STORES_DIFFER",
                format_args!(
                    "{} was set up with other stores: leave --stores out, or move the data there first",
                    layout.root().display()
                ),
            )),
            _ => Ok(kept),
        }
    }

    /// The processes of one machine.
    pub(crate) fn processes(&self) -> Vec<&'static str> {
        let seconds = if self.replicas == 2 {
            &SECONDS[..]
        } else {
            &[]
        };
        SERVICES
            .into_iter()
            .chain(seconds.iter().copied())
            .collect()
    }

    /// The processes of a service.
    pub(crate) fn processes_of(&self, service: &str) -> Vec<&'static str> {
        self.processes()
            .into_iter()
            .filter(|process| service_of(process) == service)
            .collect()
    }
}

/// The service that a process is one of.
pub(crate) fn service_of(process: &'static str) -> &'static str {
    SECONDS
        .iter()
        .position(|second| *second == process)
        .map_or(process, |index| SHARED[index])
}

fn refused(path: &Path, why: &str) -> Failure {
    Failure::usage("STORES_REFUSED", format_args!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stores.toml");
        std::fs::write(&file, text).unwrap();
        Stores::read(&file).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_and_no_password_is_repeated() {
        for (text, said) in [
            (
                "[databases]\nrelay = \"postgres://u:hush@h/d\n",
                "STORES_REFUSED",
            ),
            ("[databases]\nrelais = \"postgres://u:hush@h/d\"", "relais"),
            (
                "databases = \"postgres://u:hush@h/d\"",
                "a string, expected",
            ),
            ("replicas = \"hush\"", "a string, expected"),
            ("replicas = 3", "1 or 2"),
            (
                "replicas = 2\n[databases]\nrelay = \"postgres://u:hush@h/d\"",
                "two replicas",
            ),
        ] {
            let problem = problem(text);
            assert!(problem.contains(said), "{problem}");
            assert!(!problem.contains("hush"), "{problem}");
        }
    }
}

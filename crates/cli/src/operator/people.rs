//! People who act in a tenant: their signing keys, and a reader's opening key. Each has a folder of their own.

use std::path::Path;

use greffe_client::Person;
use greffe_envelope::pb;
use greffe_types::Millis;

use crate::fail::Result;
use crate::layout::private_folder;

/// A person and their roles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PersonSpec {
    /// Name in the roster, and of the folder.
    pub(crate) name: &'static str,
    /// Roles.
    pub(crate) roles: &'static [&'static str],
}

/// The roster of a development identity: every role has a person, and nobody has two that must differ.
pub(crate) const PERSONS: [PersonSpec; 7] = [
    PersonSpec {
        name: "auditor",
        roles: &["auditor", "requester"],
    },
    PersonSpec {
        name: "principal",
        roles: &["approver"],
    },
    PersonSpec {
        name: "compliance",
        roles: &["compliance"],
    },
    PersonSpec {
        name: "legal",
        roles: &["legal"],
    },
    PersonSpec {
        name: "records",
        roles: &["records-manager"],
    },
    PersonSpec {
        name: "reader",
        roles: &["reader"],
    },
    PersonSpec {
        name: "second-principal",
        roles: &["approver"],
    },
];

impl PersonSpec {
    /// Makes the person's keys in their folder; gives their entry in the roster.
    pub(crate) fn create(
        &self,
        folder: &Path,
        not_before: Millis,
        not_after: Millis,
    ) -> Result<pb::Person> {
        let roles = self.roles.iter().map(|role| (*role).to_owned()).collect();
        entry(folder, self.name, roles, not_before, not_after)
    }
}

/// Makes a person's keys in a folder of their own; gives the entry that a roster needs of them: public halves only.
pub(crate) fn entry(
    folder: &Path,
    name: &str,
    roles: Vec<String>,
    not_before: Millis,
    not_after: Millis,
) -> Result<pb::Person> {
    private_folder(folder)?;
    let person = Person::generate(folder, name, roles.iter().any(|role| role == "reader"))?;
    Ok(pb::Person {
        name: name.to_owned(),
        roles,
        signing_key: person.signing_public().to_vec(),
        reader_key: person.reader_public(),
        not_before: not_before.get(),
        not_after: not_after.get(),
        revoked: false,
    })
}

//! What entries of the log are about, as those who watch it ask for them.

use clap::ValueEnum;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::pb::{self, PersonAct};
use greffe_envelope::statement::Signed;
use serde::Serialize;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Topic {
    /// Orders released, sealed or not.
    Orders,
    /// Approvals.
    Approvals,
    /// Records that a node has answered for.
    Openings,
    /// Legal holds placed and released.
    Holds,
    /// Records disposed of, and who asked for it.
    Dispositions,
    /// Bundles, journaling keys, their shares, and the making of either.
    Keys,
    /// What a service refused, and cheats that members reported.
    Refusals,
    /// Other acts of people: matters, retention.
    Acts,
    /// Devices certified.
    Devices,
    /// What members are told, and that they were.
    Disclosures,
    /// Conversations begun.
    Conversations,
    /// Headers and ciphertext read by people.
    Access,
    /// Receipts of the archive, and voids.
    Receipts,
    /// Anything else.
    Other,
}

/// What is shown when nothing else is asked for.
pub(crate) const SHOWN: [Topic; 7] = [
    Topic::Orders,
    Topic::Approvals,
    Topic::Openings,
    Topic::Holds,
    Topic::Dispositions,
    Topic::Keys,
    Topic::Refusals,
];

impl Topic {
    /// An event's.
    pub(super) fn of(event: Option<&Event>) -> Self {
        match event {
            None => Self::Other,
            Some(Event::Statement(statement)) => Self::of_statement(statement),
            Some(Event::Receipts(_)) => Self::Receipts,
            Some(Event::ReleasedOrder(_) | Event::SealedOrder(_)) => Self::Orders,
            Some(Event::Opened(_) | Event::SealedOpened(_)) => Self::Openings,
            Some(Event::Refusal(_)) => Self::Refusals,
            Some(Event::Access(_)) => Self::Access,
            Some(Event::Conversation(_)) => Self::Conversations,
            Some(Event::Tombstone(_)) => Self::Dispositions,
        }
    }

    fn of_statement(statement: &pb::SignedStatement) -> Self {
        match statement.r#type.as_str() {
            "order" => Self::Orders,
            "approval" => Self::Approvals,
            "trust-bundle" | "key-record" | "share-epoch" | "keygen-descriptor"
            | "reshare-descriptor" | "share-proof" | "share-destruction" | "key-retirement" => {
                Self::Keys
            }
            "device-cert" => Self::Devices,
            "disclosure" | "currency" | "acknowledgement" => Self::Disclosures,
            "void" | "range" => Self::Receipts,
            "person-act" => match Signed::<PersonAct>::decode(statement.clone()) {
                Ok(act) if act.action.starts_with("hold.") => Self::Holds,
                Ok(act) if act.action == "record.dispose" => Self::Dispositions,
                _ => Self::Acts,
            },
            _ => Self::Other,
        }
    }
}

//! Permission as a value: a function that takes a `Permit<T>` cannot be called before this crate's checks have passed.

use greffe_types::{ActId, Digest, MatterId, Millis};

/// Leave to carry out one action, once: it is not `Clone`, and only this crate makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that nobody takes means the permitted action was not carried out"]
pub struct Permit<T: Action> {
    what: T,
}

impl<T: Action> Permit<T> {
    pub(crate) const fn new(what: T) -> Self {
        Self { what }
    }

    /// What is permitted.
    pub const fn what(&self) -> &T {
        &self.what
    }

    /// Uses the permit up.
    pub fn into_inner(self) -> T {
        self.what
    }
}

/// What can be permitted. Sealed: the actions are those of this module.
pub trait Action: sealed::Sealed {
    /// Its name in logs.
    const NAME: &'static str;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! action {
    ($type:ty, $name:literal) => {
        impl sealed::Sealed for $type {}
        impl Action for $type {
            const NAME: &'static str = $name;
        }
    };
}

/// A caller may call an RPC.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// The RPC, as `package.Service/Method`.
    pub method: String,
    /// Who calls, for the audit entry.
    pub caller: String,
}
action!(Call, "call");

/// A person may ask for an act.
#[derive(Debug, PartialEq, Eq)]
pub struct Perform {
    /// The act, such as `hold.place`.
    pub act: String,
    /// Who asks.
    pub person: String,
}
action!(Perform, "perform");

/// An escrow node may answer for the records of an order.
#[derive(Debug, PartialEq, Eq)]
pub struct Release {
    /// Order digest.
    pub order: Digest,
    /// How many records it covers.
    pub records: u64,
    /// First instant at which the order no longer stands.
    pub expiry: Millis,
    /// Who approved, sorted.
    pub approvers: Vec<String>,
}
action!(Release, "release");

/// A record may be destroyed.
#[derive(Debug, PartialEq, Eq)]
pub struct Dispose {
    /// Envelope digest.
    pub record: Digest,
    /// The trusted time of the decision.
    pub decided_at: Millis,
    /// Who approved, sorted.
    pub approvers: Vec<String>,
}
action!(Dispose, "dispose");

/// A record's retention may be set to a later date.
#[derive(Debug, PartialEq, Eq)]
pub struct Extend {
    /// Envelope digest.
    pub record: Digest,
    /// The date it replaces: an update must be conditional on it.
    pub from: Millis,
    /// The later date.
    pub to: Millis,
}
action!(Extend, "extend");

/// A hold may be released, not before its cooling-off period has run.
#[derive(Debug, PartialEq, Eq)]
pub struct ReleaseHold {
    /// The act that placed it.
    pub hold: ActId,
    /// First instant at which it no longer holds.
    pub effective_at: Millis,
    /// Who released it, sorted.
    pub signers: Vec<String>,
}
action!(ReleaseHold, "release-hold");

/// A record's header or ciphertext may be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// The case it is read for, when one was given.
    pub matter: Option<MatterId>,
}
action!(Read, "read");

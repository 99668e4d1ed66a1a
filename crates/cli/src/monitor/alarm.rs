//! What a monitor of the log alarms about: stable reasons, and what is kept as evidence.

use std::path::PathBuf;

use serde::Serialize;

use crate::commands::form::one_line;
use crate::fail::{Exit, Failure};

/// Two checkpoints, both signed by the log, of which the later does not continue the earlier.
pub(super) const FORKED: &str = "LOG_FORKED";
/// The log is smaller than it was.
pub(super) const ROLLED_BACK: &str = "LOG_ROLLED_BACK";
/// The checkpoint is of another log.
pub(super) const ORIGIN: &str = "LOG_ORIGIN";
/// The checkpoint is none, or the log's key did not sign it.
pub(super) const CHECKPOINT: &str = "CHECKPOINT_FALSE";
/// A line in a witness's name is not its cosignature.
pub(super) const COSIGNATURE: &str = "COSIGNATURE_FALSE";
/// Fewer witnesses than the quorum have cosigned.
pub(super) const WITNESSES: &str = "WITNESSES_MISSING";
/// The newest checkpoint is too old.
pub(super) const STALE: &str = "LOG_STALE";
/// The entries handed over are not those of the tree.
pub(super) const ENTRIES: &str = "ENTRIES_FALSE";
/// The log does not hand over what its checkpoint covers.
pub(super) const WITHHELD: &str = "ENTRIES_WITHHELD";
/// An entry that is none.
pub(super) const MALFORMED: &str = "ENTRY_MALFORMED";
/// A bundle that the tenant's root has not signed, or that does not follow the one before.
pub(super) const BUNDLE: &str = "BUNDLE_REFUSED";
/// A released order without the approvals that the rule asks for.
pub(super) const UNAPPROVED: &str = "ORDER_NOT_APPROVED";
/// A node has opened a record under an order that is not in the log before it.
pub(super) const NO_ORDER: &str = "OPENING_WITHOUT_ORDER";
/// Shares of a journaling key are held by others, or are others.
pub(super) const SHARES: &str = "SHARES_CHANGED";

/// An alarm.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Alarm {
    /// Stable.
    pub(super) reason: &'static str,
    /// What, why, and what to do.
    pub(super) message: String,
    /// Which entry, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<u64>,
    /// What was kept for others to judge.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) evidence: Vec<PathBuf>,
}

impl Alarm {
    /// About the log. Names in the message are what the log says: whoever wrote them writes no line of their own.
    pub(super) fn new(reason: &'static str, message: impl core::fmt::Display) -> Self {
        Self {
            reason,
            message: one_line(&message.to_string()),
            index: None,
            evidence: Vec::new(),
        }
    }

    /// About an entry.
    pub(super) fn entry(
        reason: &'static str,
        index: u64,
        message: impl core::fmt::Display,
    ) -> Self {
        Self {
            index: Some(index),
            ..Self::new(reason, format_args!("entry {index}: {message}"))
        }
    }

    /// Whether a later look may find it gone: witnesses come back. Nothing else does.
    pub(super) fn passes(&self) -> bool {
        matches!(self.reason, STALE | WITNESSES | COSIGNATURE)
    }

    /// Whether nothing is false, and somebody has to say that it was meant.
    pub(super) fn is_true(&self) -> bool {
        self.reason == SHARES
    }

    /// How the command ends that has raised it.
    pub(super) fn failure(&self) -> Failure {
        let exit = if self.is_true() {
            Exit::Alarm
        } else {
            Exit::Unverified
        };
        Failure::new(exit, self.reason, &self.message)
    }

    pub(super) fn line(&self) -> String {
        let mut line = format!("ALARM {}: {}", self.reason, self.message);
        for path in &self.evidence {
            line.push_str(&format!("; evidence {}", path.display()));
        }
        line
    }
}

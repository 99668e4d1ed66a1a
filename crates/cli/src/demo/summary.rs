//! What a demonstration says at its end.

use std::path::PathBuf;

use serde::Serialize;

use super::input::Refusal;

/// Name of the production's folder.
pub(super) const PRODUCTION: &str = "production";

/// One JSON object; everything in it was counted, nothing is expected.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    /// Users who spoke.
    pub(super) users: usize,
    /// Conversations.
    pub(super) conversations: usize,
    /// Input messages that were sent and have a receipt.
    pub(super) messages_sent: usize,
    /// Messages that the archive's search finds.
    pub(super) messages_archived: usize,
    /// Messages that another member opened and that equal the input.
    pub(super) messages_delivered: u64,
    /// Receipts verified, by senders and recipients.
    pub(super) receipts_verified: u64,
    /// Journal wraps that recipients recomputed and found equal.
    pub(super) wraps_recomputed: u64,
    /// Input items that were not sent.
    pub(super) refused: usize,
    /// Which, and why.
    pub(super) refusals: Vec<Refusal>,
    /// Orders released.
    pub(super) orders: usize,
    /// Approvals signed.
    pub(super) approvals: usize,
    /// Records opened under the order and found equal to the input.
    pub(super) records_opened: usize,
    /// Input items of those records.
    pub(super) sample: Vec<String>,
    /// The production.
    pub(super) production: PathBuf,
    /// Whether the offline verifier accepted it.
    pub(super) production_verified: bool,
    /// The tenant root's public key.
    pub(super) tenant_root: PathBuf,
    /// Entries in the log.
    pub(super) log_size: u64,
    /// The log's newest checkpoint, with its cosignatures.
    pub(super) checkpoint: String,
    /// How long everything took.
    pub(super) elapsed_ms: u64,
    /// What services (`services/`) and people (`people/`) wrote.
    pub(super) data: PathBuf,
    /// Whether that is still there.
    pub(super) kept: bool,
}

impl Summary {
    /// For a person.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{} messages of {} users in {} conversations: {} archived, {} delivered and opened, {} journal wraps recomputed\n\
             {} records opened under an order with {} approvals; production {}\n\
             verify it: greffe verify {} --root {}\n\
             log: {} entries; {:.1} s\n",
            self.messages_sent,
            self.users,
            self.conversations,
            self.messages_archived,
            self.messages_delivered,
            self.wraps_recomputed,
            self.records_opened,
            self.approvals,
            if self.production_verified {
                "verified"
            } else {
                "NOT verified"
            },
            self.production.display(),
            self.tenant_root.display(),
            self.log_size,
            self.elapsed_ms as f64 / 1000.0,
        );
        for refusal in &self.refusals {
            text.push_str(&format!("refused: {} ({})\n", refusal.item, refusal.reason));
        }
        if self.kept {
            text.push_str(&format!("kept: {}\n", self.data.display()));
        }
        text
    }
}

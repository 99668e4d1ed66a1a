//! Names of the files of a production.

/// The manifest: every file but itself and the reader's statement.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The reader's statement over the manifest.
pub(crate) const STATEMENT: &str = "production.pb";
/// Description of every format.
pub(crate) const FORMAT: &str = "FORMAT.md";
/// The page to begin with.
pub(crate) const INDEX: &str = "index.html";
/// One JSON object a message.
pub(crate) const MESSAGES: &str = "messages.jsonl";
/// Who did what.
pub(crate) const CUSTODY: &str = "custody.json";
/// The order and its approvals.
pub(crate) const ORDER: &str = "evidence/order.pb";
/// The digests the order is about.
pub(crate) const ORDER_RECORDS: &str = "evidence/order-records.txt";
/// The order's leaf in the log.
pub(crate) const ORDER_LEAF: &str = "evidence/order-leaf.pb";
/// Path of that leaf.
pub(crate) const ORDER_PATH: &str = "evidence/order-path.txt";
/// The checkpoint with its cosignatures.
pub(crate) const CHECKPOINT: &str = "evidence/checkpoint.txt";

/// A bundle, by its version.
pub(crate) fn bundle(version: u64) -> String {
    format!("evidence/bundles/{version:06}.pb")
}

/// A disclosure, by the digest of its statement.
pub(crate) fn disclosure(digest: impl core::fmt::Display) -> String {
    format!("evidence/disclosures/{digest}.pb")
}

/// A range statement, by conversation and first number.
pub(crate) fn range(conversation: &str, first: u64) -> String {
    format!("evidence/ranges/{conversation}-{first:012}.pb")
}

/// A file of a record's evidence; records count from 1.
pub(crate) fn record(number: usize, file: &str) -> String {
    format!("evidence/records/{number:06}/{file}")
}

/// Files of a record's evidence.
pub(crate) const RECORD_FILES: [&str; 8] = [
    "envelope.pb",
    "certificate.pb",
    "receipt.pb",
    "batch-path.txt",
    "log-leaf.pb",
    "log-path.txt",
    "content.bin",
    "content.key",
];

/// A message as a mail.
pub(crate) fn eml(number: usize) -> String {
    format!("messages/{number:06}.eml")
}

/// An attachment: its place in the message, and as much of its name as any file system takes.
pub(crate) fn attachment(number: usize, index: usize, name: &str) -> String {
    let safe: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') {
                c
            } else {
                '_'
            }
        })
        .take(80)
        .collect();
    let safe = if safe.is_empty() { "unnamed" } else { &safe };
    format!("attachments/{number:06}/{index:02}-{safe}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_attachments_stay_inside_the_folder() {
        assert_eq!(
            attachment(1, 0, "../../etc/passwd"),
            "attachments/000001/00-.._.._etc_passwd"
        );
        assert_eq!(attachment(1, 2, ""), "attachments/000001/02-unnamed");
        assert_eq!(
            attachment(12, 3, "été.csv"),
            "attachments/000012/03-_t_.csv"
        );
    }
}

//! What the decoders of messages, log and policy have to keep, whatever the bytes: they end, they do not panic, and what they
//! take they give back the same. Productions, mail and chat are not among them yet.
//!
//! [`TARGETS`] is the list. `cargo xtask fuzz` runs each under libFuzzer with the address sanitizer, on a nightly compiler;
//! `tests/short.rs` runs each on the stable one, over the published vectors with bytes flipped, cut, doubled and spliced.
//! A finding is a panic: of the decoder, or of the property here.

mod corpus;
mod log;
mod messages;
mod settings;

pub use corpus::corpus;

/// A decoder and its property.
pub type Target = fn(&[u8]);

/// Every target by its name, sorted. Settings of services have one more in `tests/short.rs`: with it, all that a service needs
/// would have to be built for the sanitizer.
pub const TARGETS: [(&str, Target); 14] = [
    ("access_rules", settings::access_rules),
    ("content", messages::content),
    ("envelope", messages::envelope),
    ("header", messages::header),
    ("history", messages::history),
    ("log_entry", log::entry),
    ("log_note", log::note),
    ("log_tile", log::tile),
    ("mls", messages::mls),
    ("node_share", messages::node_share),
    ("pack", settings::pack),
    ("proof", log::proof),
    ("statement", messages::statement),
    ("wrap", messages::wrap),
];

/// The target of a name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, target)| *target)
}

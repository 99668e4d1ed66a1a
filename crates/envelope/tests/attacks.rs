//! Attacks on the sealed message that need a whole one: a journal copy that differs, a ciphertext under two keys.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are outside test functions"
)]

#[path = "attacks/journal.rs"]
mod journal;
#[path = "attacks/two_keys.rs"]
mod two_keys;
#[path = "attacks/world.rs"]
mod world;

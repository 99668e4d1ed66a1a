//! Threshold cryptography as a whole: key generation, opening, resharing, and the attacks on them.
#![allow(unreachable_pub, reason = "modules of one test binary")]
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are outside test functions"
)]

#[path = "threshold/ceremony.rs"]
mod ceremony;
#[path = "threshold/leak.rs"]
mod leak;
#[path = "threshold/opening.rs"]
mod opening;
#[path = "threshold/reshare.rs"]
mod reshare;
#[path = "threshold/support.rs"]
mod support;

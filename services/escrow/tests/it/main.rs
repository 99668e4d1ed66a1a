//! Real nodes over real mutual TLS, with a small log as their audit peer: key generation, openings, and the attacks on them.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are outside test functions"
)]
#![allow(
    clippy::type_complexity,
    reason = "tables of changes beside the reasons expected"
)]

mod attack_order;
mod attack_record;
mod authority;
mod drill;
mod following;
mod keygen;
mod limits;
mod log;
mod opening;
mod records;
mod reshare;
mod retire;
mod supervision;
mod witness;
mod world;

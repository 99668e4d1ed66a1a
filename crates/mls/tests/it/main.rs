//! Conversations from outside: their life, the attacks on them, and interoperability.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod attack_02;
mod attack_08;
mod attack_14;
mod attack_15;
mod attack_68;
mod attack_70;
mod deferred;
mod hostile;
mod interop;
mod life;
mod world;

//! The client against a relay, a log and nodes that speak real gRPC and cheat when told to.
#![allow(clippy::unwrap_used, clippy::panic)]

mod attacks;
mod cheats;
mod life;
mod record;
mod relay;
mod tenant;
mod world;

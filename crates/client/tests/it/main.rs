//! The client against a relay, a log and nodes that speak real gRPC and cheat when told to.
#![allow(clippy::unwrap_used, clippy::panic)]

mod attacks;
mod changes;
mod cheats;
mod forks;
mod history;
mod life;
mod outages;
mod record;
mod relay;
mod sending;
mod tenant;
mod world;

//! The client against a relay, a log and nodes that speak real gRPC and cheat when told to.

mod attacks;
mod cheats;
mod life;
mod relay;
mod tenant;
mod world;

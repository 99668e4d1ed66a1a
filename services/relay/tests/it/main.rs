//! The relay over mutual TLS, with an archive and a log that sign for real.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod commits;
mod conversations;
mod crashes;
mod directory;
mod load;
mod mailboxes;
mod messages;
mod replicas;
mod support;
mod transfers;

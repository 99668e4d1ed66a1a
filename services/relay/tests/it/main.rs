//! The relay over mutual TLS, with an archive and a log that sign for real.

mod commits;
mod conversations;
mod directory;
mod support;

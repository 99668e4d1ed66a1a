//! The `greffe` command from outside: the binary itself, with the client library beside it where the test is somebody's app.

mod attack_55;
mod demonstration;
mod support;

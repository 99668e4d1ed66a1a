//! The `greffe` command from outside: the binary itself, with the client library beside it where the test is somebody's app.

#![cfg(test)]

mod attachment;
mod attack_55;
mod backup;
mod cluster;
mod config;
mod crash;
mod demonstration;
mod kill_nine;
mod load;
mod log_watch;
mod mails_and_chat;
mod manual;
mod migrations;
mod no_plaintext_at_rest;
mod people;
mod production;
mod seal;
mod stores;
mod support;
mod telemetry;
mod tools;
mod wrong_input;

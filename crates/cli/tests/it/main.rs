//! The `greffe` command from outside: the binary itself, with the client library beside it where the test is somebody's app.

#![cfg(test)]

mod acts;
mod attachment;
mod attack_34;
mod attack_55;
mod backup;
mod cluster;
mod config;
mod crash;
mod demonstration;
mod kill_nine;
mod ledger;
mod load;
mod log_watch;
mod mails_and_chat;
mod manual;
mod migrations;
mod no_plaintext_at_rest;
mod overload;
mod people;
mod production;
mod seal;
mod served;
mod stores;
mod support;
mod telemetry;
mod tools;
mod wrong_input;

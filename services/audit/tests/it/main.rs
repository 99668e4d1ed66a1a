//! The audit service as it runs: over mutual TLS, with witnesses that keep tlog's rules, through restarts and restores.

#![cfg(test)]

mod append;
mod publish;
mod read;
mod restart;
mod web;
mod witness;
mod world;

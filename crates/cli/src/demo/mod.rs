//! `greffe demo`.
mod chat;
mod input;
mod mail;

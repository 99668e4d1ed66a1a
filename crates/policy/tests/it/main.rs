//! Packs, decisions and access rules, tested through the public interface.

mod access;
mod cases;
mod disposition;
mod loading;
mod notice;
mod release;
mod support;

//! Packs, decisions and access rules, tested through the public interface.

mod access;
mod cases;
mod disposition;
mod limits;
mod loading;
mod notice;
mod phase;
mod reasons;
mod release;
mod support;

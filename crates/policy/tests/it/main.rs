//! Packs, decisions and access rules, tested through the public interface.

mod cases;
mod disposition;
mod support;

//! Some dozens of seeds, and those that once broke a promise.

mod scenarios;
mod seeds;

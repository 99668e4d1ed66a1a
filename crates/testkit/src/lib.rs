//! Real servers for tests: each started on demand, once for a test process, and stopped when that process ends, however it ends.
//!
//! Nothing here is shipped. A missing server fails the test that asks for it and names the command that installs it; the
//! functions panic, for what calls them is a test.

pub mod ceph;
pub mod faults;
pub mod postgres;
mod process;
pub mod proxy;
pub mod store;

pub use process::{Folder, Server, free_port};

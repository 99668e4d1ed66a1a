//! The whole system on a mock clock, a faulty network and a faulty disk, from one seed.
//!
//! Six services (audit, three escrow nodes, archive, relay) and four applications (three users, the people of the office) run
//! as they are, each in a runtime of its own, all on one thread, turn by turn. A seed gives the steps: texts, invitations, key
//! updates, holds, orders, approvals, openings, dispositions, the key dealt out to new shares, the calendar going on by years, and
//! what goes wrong; in near half of the seeds the acts that lead to an opening come in their order among the others. After every
//! step P2, P4, P5, P6 and P7 are checked against the services' own databases and files (`check`); at the end everything is
//! mended, and what was accepted has to come out well: every number archived, every receipt in the log, every member caught up,
//! nothing left in anybody's outbox.
//!
//! **Injected.** Calls and pieces of streams are delayed, overtake each other, are lost before or after they were done, arrive
//! twice, and find their way cut. Processes are killed between any two of their steps, and at any of their next acts on a disk:
//! before or after a transaction's commit, before any write, fsync, rename or removal of a file. A power cut goes with it: bytes
//! without an fsync are torn or lost, names without an fsync of their folder are lost, removals come back. Disks are full, or
//! fail at some writes and fsyncs. The calendar jumps forward by days or years.
//!
//! **Not injected.** SQLite is taken at its word: a commit is durable, a transaction that did not commit is gone; torn pages and
//! lost commits below it are its own tests' matter. Files of attachments and of client keys are not touched by faults. TLS,
//! HTTP/2 and their flow control are not run: a call passes as HTTP above the connection, and carries the caller's name as the
//! handshake would have proved it. No process lies: forged answers have tests of their own. One process a service, on SQLite:
//! leases and take-over on PostgreSQL are tested with real servers. All processes see one clock.
//!
//! **Found when it is put in.** Five defects, each a patch in `crates/xtask/defences` that names seeds which find it: a relay that
//! answers though storing the receipt failed, a client that forgets its outbox, files without an fsync, an archive that disposes
//! under a hold, an archive that takes an entry for logged before the log has answered.
//!
//! **Not determined by the seed.** Bytes that AWS-LC draws (MLS keys, nonces), and with them the order of whatever is sorted
//! by its digest. Threads of SQLite and what a blocking read of an object's content takes run by the machine's clock, but
//! every answer is waited for where it is asked (`service-kit/src/simulation.rs`). Time and all other randomness are the
//! thread's own (`native/machine.c`). Traces name neither digests nor keys, so that they are equal when the same happened.

mod check;
mod clock;
mod disk;
mod ledger;
mod net;
mod office;
mod origin;
mod process;
mod rng;
mod run;
mod shrink;
mod steps;
mod tenant;
mod trace;
mod user;
mod world;

pub use disk::Trouble;
pub use net::Weather;
pub use origin::Origin;
pub use run::{Done, Outcome, run};
pub use shrink::shrink;
pub use steps::{Op, Step, draw};

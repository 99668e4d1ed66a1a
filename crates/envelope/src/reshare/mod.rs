//! Resharing a journaling key: refresh, replacement of nodes, change of threshold, all by one verifiable protocol.
//!
//! Each dealer, a holder of the old epoch, deals its share s_d out by a random polynomial f_d of the new degree with
//! f_d(0) = s_d; everybody checks the committed constant term against the old verification share. A new holder's share is
//! the sum of λ_d·f_d(j). The public key stays; shares of the old epoch are useless with those of the new.

mod node;
mod plan;

pub use node::Resharing;
pub use plan::ResharePlan;

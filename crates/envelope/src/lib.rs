//! The sealed message: derivations, committing encryption, hybrid wrap, proofs, trust chain, secrets at rest.
pub mod curve;
pub mod label;
pub mod pb;
pub mod statement;

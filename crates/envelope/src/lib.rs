//! The sealed message: derivations, committing encryption, hybrid wrap, proofs, trust chain, secrets at rest.
pub mod attachment;
pub mod ceremony;
pub mod chain;
pub mod curve;
pub mod derive;
pub mod envelope;
pub mod hybrid;
pub mod label;
pub mod limits;
pub mod opening;
pub mod padding;
pub mod pb;
pub mod reshare;
pub mod statement;
pub mod stream;
pub mod trust;
pub mod wrap;

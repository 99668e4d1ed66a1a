//! What may happen in which order, exhausted by a model checker: a hold against a disposition, the release of an order,
//! the move of a journaling key to new shares.
//!
//! Where a decision is the policy's, the model calls the policy itself (`greffe_policy::decide`, `release_hold`,
//! `permit_release`); what surrounds it, who may do what when, is written here as small state machines. Each model names its
//! bound. Each of its defences can be taken away, and the checker then has to find the way in: a property that nothing could
//! break would say nothing.
//!
//! | module | what moves | what must never be |
//! |---|---|---|
//! | [`hold`] | holds placed and released, clocks, dispositions by two archives | a record destroyed that a hold binds |
//! | [`release`] | approvals, a roster that changes, a log, three nodes of which one comes back from an old copy, a coordinator who lies | an opening without approvals that stand, or without its entry in a witnessed log |
//! | [`reshare`] | three nodes, crashes at every step, a coordinator who comes and goes | a key that neither the old committee nor the new one can use |
//!
//! Not in the models: signatures, hashes and encodings (tests with vectors are), the length of queues, and time beyond the
//! few instants that decide.

pub mod hold;
pub mod release;
pub mod reshare;

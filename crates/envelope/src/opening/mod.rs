//! Opening records: orders and approvals, what each node checks by itself, partial openings, and how a reader combines them.

mod answer;
pub(crate) mod hybrid;
mod kem;
mod order;
mod partial;
mod reader;
mod records;

pub use answer::{ANSWER_SIZE, AnswerContext, AnswerError};
pub use hybrid::{
    ENCAPSULATION_SIZE, HybridError, HybridPublicKey, HybridSecretKey, PUBLIC_KEY_SIZE, seal,
};
pub use order::{SALT_SIZE, opened_event, order_event, sealed_opened, sealed_order};
pub use partial::{
    Partial, PartialError, PartialStatement, answer_partial, answer_with_salt, verify_partial,
};
pub use reader::{OpenError, OpenedKey, Opener, WRAPPED_KEY_SIZE};
pub use records::{MAX_RECORDS, RecordList, RecordsError, check_leaf, check_path, leaf_hash};

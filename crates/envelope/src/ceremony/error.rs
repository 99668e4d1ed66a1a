//! What can go wrong in a ceremony, and who is to blame when that is certain.

use super::epoch::EpochError;
use super::share::ShareError;
use crate::opening::HybridError;
use crate::statement::StatementError;

/// Why a ceremony refused a message, or ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// The descriptor is not signed by the root, or malformed.
    #[error("the descriptor is not a valid statement of the root")]
    Descriptor(#[source] StatementError),
    /// A field of the descriptor is outside what is allowed.
    #[error("the descriptor's {0} is not acceptable")]
    Field(&'static str),
    /// The threshold is outside what is allowed.
    #[error("the descriptor's threshold is not acceptable")]
    Threshold(#[source] EpochError),
    /// The descriptor names a node that the trust bundle does not have.
    #[error("{0:?} is no node of the trust bundle")]
    UnknownNode(String),
    /// This node has no part in the ceremony.
    #[error("this node is not part of the ceremony")]
    NotAMember,
    /// The message cannot be trusted to come from its sender; it was ignored.
    #[error("the message is not authentic")]
    NotAuthentic(#[source] StatementError),
    /// The message belongs to another session, round or receiver; it was ignored.
    #[error("the message does not belong here")]
    NotOurs,
    /// A node cheated or failed, and its own signed message shows it. The ceremony is over.
    #[error("{sender:?} broke the ceremony")]
    Blamed {
        /// The node's name.
        sender: String,
        /// What it did.
        #[source]
        fault: Fault,
    },
    /// A node saw other messages or another result than this one: somebody told two stories. The ceremony is over; the
    /// signed messages of the first round show who.
    #[error("{reporter:?} has seen another ceremony than this node")]
    Split {
        /// The node whose view differs.
        reporter: String,
    },
    /// Messages of some nodes are missing.
    #[error("the ceremony is not complete: {0:?} is missing")]
    Missing(String),
    /// The ceremony has ended in an error before.
    #[error("the ceremony has been given up")]
    Aborted,
    /// This node's own part could not be made.
    #[error("this node's part of the ceremony could not be made")]
    Own(#[source] Fault),
    /// A statement to be signed differs from the ceremony's result.
    #[error("the {0} differs from what the ceremony arrived at")]
    Differs(&'static str),
}

/// What a node did wrong.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It sent two different messages for one round.
    #[error("two different messages for one round")]
    Equivocation,
    /// Its message does not parse.
    #[error("a malformed message")]
    Malformed,
    /// Its polynomial has another degree than agreed.
    #[error("{found} commitments instead of {expected}")]
    Degree {
        /// The threshold.
        expected: usize,
        /// Commitments found.
        found: usize,
    },
    /// Its proof of knowledge or package was refused by key generation.
    #[error("a package that key generation refuses")]
    Package(#[source] frost_p256::Error),
    /// Its private message could not be opened or sealed.
    #[error("a private message that does not open")]
    Private(#[source] HybridError),
    /// Its part of the seed is not the one it committed to.
    #[error("a seed part that differs from its commitment")]
    SeedPart,
    /// Its constant term is not its share of the old epoch.
    #[error("a polynomial that does not share out its old share")]
    ConstantTerm,
    /// The share it sent is not on the polynomial it committed to.
    #[error("a share that is not on the committed polynomial")]
    Share,
    /// The ML-KEM seed it sent is not the key's.
    #[error("a seed that does not belong to the key")]
    Seed,
    /// The parts do not form a share.
    #[error("parts that do not form a share")]
    Inconsistent(#[source] ShareError),
    /// The result is no consistent share epoch.
    #[error("verification shares that are not consistent")]
    Epoch(#[source] EpochError),
}

impl CeremonyError {
    /// The node that is certainly at fault; none when the messages have to be compared first.
    pub fn culprit(&self) -> Option<&str> {
        match self {
            Self::Blamed { sender, .. } => Some(sender),
            _ => None,
        }
    }

    pub(crate) fn blame(sender: &str, fault: Fault) -> Self {
        Self::Blamed {
            sender: sender.to_owned(),
            fault,
        }
    }
}

//! Following the log: every leaf, in order, and none before it is known to be in the tree that the witnesses saw.
//!
//! A follower keeps the tree's right edge. Leaves that arrive extend it; the checkpoint beside them has to be the log's,
//! cosigned by a quorum, and of exactly that tree, or of one that a consistency proof shows to begin with it. Only then are
//! the leaves handed on, so that a log which shows one service other leaves than the rest cannot do so unseen.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::tls::Channel;
use greffe_api::audit::log_service_client::LogServiceClient;
use greffe_api::audit::{FollowRequest, FollowResponse, GetConsistencyProofRequest};
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::{Statement as _, StatementError, decode_strict};
use greffe_envelope::trust::{Bundle, TrustState};
use greffe_tlog::{ProofError, SignedCheckpoint, Tree, Witnessed, verify_consistency};
use greffe_types::{Digest, Millis};
use tonic::{Status, Streaming};

use crate::backoff::Backoff;
use crate::boot::SharedTrust;
use crate::checkpoint::{UnwitnessedError, verify};
use crate::clock::SharedClock;
use crate::errors::{CallError, Causes, Reason};
use crate::health::Condition;
use crate::telemetry::metrics;

/// What the log shows is not what its checkpoint says, or nobody witnessed it.
pub const LOG_UNVERIFIED: Reason = Reason::new("LOG_UNVERIFIED");

/// Largest answer taken: the contract's 4 MiB of leaves, and a proof and checkpoint beside them.
const MAX_MESSAGE: usize = 8 << 20;

/// The log is cosigned again every few seconds, also when nothing happens; a service that has not heard of it for this long
/// does not know who may do what any more.
const HOPELESS: Duration = Duration::from_secs(600);

/// How far the log was followed: to be stored in the transaction that stores what the leaves changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FollowState {
    /// Leaves taken in.
    pub size: u64,
    /// The tree's right edge, one hash for each bit set in the size.
    pub frontier: Vec<Digest>,
}

impl FollowState {
    /// The frontier as bytes, 32 for each hash.
    pub fn frontier_bytes(&self) -> Vec<u8> {
        self.frontier
            .iter()
            .flat_map(|hash| *hash.as_bytes())
            .collect()
    }

    /// As stored; none when the bytes cannot belong to the size.
    pub fn from_parts(size: u64, frontier: &[u8]) -> Option<Self> {
        let (hashes, rest) = frontier.as_chunks::<32>();
        let matches = rest.is_empty() && hashes.len() == size.count_ones() as usize;
        matches.then(|| Self {
            size,
            frontier: hashes.iter().copied().map(Digest::new).collect(),
        })
    }

    fn of(tree: &Tree) -> Self {
        Self {
            size: tree.size(),
            frontier: tree.peaks().to_vec(),
        }
    }
}

/// Leaves that are verified to be in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Followed {
    /// Index of the first leaf.
    pub start: u64,
    /// Each leaf's exact bytes and what they say. Empty when the log was only cosigned again.
    pub leaves: Vec<(Vec<u8>, pb::LogEntry)>,
    /// The checkpoint, as received.
    pub checkpoint: Vec<u8>,
    /// The checkpoint's size: at least that of [`Followed::state`].
    pub size: u64,
    /// When the quorum last stood by the checkpoint.
    pub witnessed_at: Millis,
    /// How far the log has been followed with these leaves.
    pub state: FollowState,
}

/// Why leaves were not taken.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The stored state cannot be one.
    #[error("the stored frontier does not belong to the stored size")]
    State,
    /// The audit service refused, or cannot be reached.
    #[error("the log cannot be followed")]
    Call(#[source] CallError),
    /// The audit service ended the stream.
    #[error("the log's stream ended")]
    Ended,
    /// Leaves from another place than those that were due.
    #[error("leaves from {found} came where {expected} was due")]
    Gap {
        /// Index that was due.
        expected: u64,
        /// Index that came.
        found: u64,
    },
    /// A leaf is no entry.
    #[error("leaf {index} is no log entry")]
    Leaf {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        source: StatementError,
    },
    /// The checkpoint is not believed.
    #[error("the log's checkpoint is refused")]
    Unwitnessed(#[from] UnwitnessedError),
    /// The checkpoint does not cover the leaves beside it.
    #[error("a checkpoint of size {checkpoint} came with leaves up to {leaves}")]
    Behind {
        /// The checkpoint's size.
        checkpoint: u64,
        /// Leaves so far.
        leaves: u64,
    },
    /// The leaves are not those of the witnessed tree.
    #[error("the leaves up to {size} are not the beginning of the witnessed tree")]
    Root {
        /// How many leaves there are.
        size: u64,
        /// What does not fit.
        source: ProofError,
    },
}

impl FollowError {
    /// Whether the log was caught saying what does not hold, rather than being out of reach.
    pub fn is_forgery(&self) -> bool {
        !matches!(self, Self::Call(_) | Self::Ended | Self::State)
    }
}

impl From<Status> for FollowError {
    fn from(status: Status) -> Self {
        Self::Call(status.into())
    }
}

/// Follows the log from where it stands.
#[derive(Debug)]
pub struct Follower {
    client: LogServiceClient<Channel>,
    trust: SharedTrust,
    clock: SharedClock,
    tree: Tree,
    stream: Option<Streaming<FollowResponse>>,
    condition: Option<Condition>,
}

impl Follower {
    /// From a stored state, or from the log's beginning with the default one.
    ///
    /// # Errors
    /// [`FollowError::State`].
    pub fn new(
        channel: Channel,
        trust: SharedTrust,
        clock: SharedClock,
        state: FollowState,
    ) -> Result<Self, FollowError> {
        Ok(Self {
            client: LogServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
            trust,
            clock,
            tree: Tree::from_peaks(state.size, state.frontier).ok_or(FollowError::State)?,
            stream: None,
            condition: None,
        })
    }

    /// Ready only while the log is not hopelessly far away. Not for a service that the log itself waits for: a witness that
    /// nobody may call because the log is behind keeps it behind.
    #[must_use]
    pub fn with_condition(mut self, condition: Condition) -> Self {
        condition.hold_for(HOPELESS);
        self.condition = Some(condition);
        self
    }

    /// How far it is.
    pub fn state(&self) -> FollowState {
        FollowState::of(&self.tree)
    }

    /// Waits for the next verified leaves, or a newer checkpoint. After an error the next call connects again and asks for
    /// the same leaves.
    ///
    /// # Errors
    /// [`FollowError`].
    pub async fn next(&mut self) -> Result<Followed, FollowError> {
        let outcome = self.advance().await;
        if outcome.is_err() {
            self.stream = None;
        }
        outcome
    }

    async fn advance(&mut self) -> Result<Followed, FollowError> {
        let start = self.tree.size();
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let request = FollowRequest { start };
                none.insert(self.client.follow(request).await?.into_inner())
            }
        };
        let response = stream.message().await?.ok_or(FollowError::Ended)?;
        if !response.leaves.is_empty() && response.start != start {
            return Err(FollowError::Gap {
                expected: start,
                found: response.start,
            });
        }
        let mut tree = self.tree.clone();
        tree.append_entries(&response.leaves);
        let leaves = decode(start, response.leaves)?;
        let (checkpoint, witnessed) = self.believe(&response.checkpoint, start, &leaves)?;
        self.prove(&tree, &checkpoint).await?;
        self.tree = tree;
        Ok(Followed {
            start,
            leaves,
            checkpoint: response.checkpoint,
            size: checkpoint.head().size,
            witnessed_at: witnessed.as_of(),
            state: self.state(),
        })
    }

    /// Under the bundle that is in force, or under one that these very leaves bring: a bundle that changes the witnesses is
    /// cosigned by the new ones, and it is the root that vouches for it.
    fn believe(
        &self,
        checkpoint: &[u8],
        start: u64,
        leaves: &[(Vec<u8>, pb::LogEntry)],
    ) -> Result<(SignedCheckpoint, Witnessed), FollowError> {
        let now = self.clock.now();
        let current: Arc<Bundle> = self.trust.read().bundle().clone();
        let refused = match verify(checkpoint, &current, now, None) {
            Ok(believed) => return Ok(believed),
            Err(refused) => refused,
        };
        let mut bundles = (start..)
            .zip(leaves)
            .filter_map(|(index, (_, entry))| match &entry.event {
                Some(Event::Statement(statement)) if statement.r#type == pb::TrustBundle::TYPE => {
                    Some((index, statement))
                }
                _ => None,
            })
            .peekable();
        if bundles.peek().is_none() {
            return Err(refused.into());
        }
        let mut ahead: TrustState = self.trust.read().clone();
        for (index, statement) in bundles {
            // One that the root did not sign changes nothing here either.
            let _ = ahead.apply(statement, index);
        }
        Ok(verify(checkpoint, ahead.bundle(), now, None)?)
    }

    /// The tree is the checkpoint's, or its beginning.
    async fn prove(
        &mut self,
        tree: &Tree,
        checkpoint: &SignedCheckpoint,
    ) -> Result<(), FollowError> {
        let (old, new) = (tree.head(), checkpoint.head());
        if new.size < old.size {
            return Err(FollowError::Behind {
                checkpoint: new.size,
                leaves: old.size,
            });
        }
        let path = if old.size == 0 || old.size == new.size {
            Vec::new()
        } else {
            self.client
                .get_consistency_proof(GetConsistencyProofRequest {
                    old_size: old.size,
                    new_size: new.size,
                })
                .await?
                .into_inner()
                .path
        };
        let wrong = |source| FollowError::Root {
            size: old.size,
            source,
        };
        let path = path
            .iter()
            .map(|hash| Digest::try_from(hash.as_slice()).map_err(|_| wrong(ProofError::Length)))
            .collect::<Result<Vec<_>, _>>()?;
        verify_consistency(&old, &new, &path).map_err(wrong)
    }
}

fn decode(start: u64, leaves: Vec<Vec<u8>>) -> Result<Vec<(Vec<u8>, pb::LogEntry)>, FollowError> {
    (start..)
        .zip(leaves)
        .map(|(index, bytes)| {
            let entry = decode_strict("log-entry", &bytes)
                .map_err(|source| FollowError::Leaf { index, source })?;
            Ok((bytes, entry))
        })
        .collect()
}

/// Follows for as long as it is polled: connects again after failures, and gives the same leaves again until `apply` has
/// taken them in. `apply` stores [`Followed::state`] with what it changed, which makes it right to be called again after a
/// crash.
pub async fn run<F, R, E>(mut follower: Follower, mut apply: F)
where
    F: FnMut(Arc<Followed>) -> R,
    R: Future<Output = Result<(), E>>,
    E: std::error::Error + 'static,
{
    let mut backoff = Backoff::new();
    loop {
        let followed = match follower.next().await {
            Ok(followed) => Arc::new(followed),
            Err(error) => {
                if error.is_forgery() {
                    tracing::error!(reason = %LOG_UNVERIFIED, causes = %Causes(&error), "the log is not believed");
                } else {
                    tracing::debug!(causes = %Causes(&error), "the log is out of reach");
                }
                backoff.pause().await;
                continue;
            }
        };
        backoff.reset();
        while let Err(error) = apply(followed.clone()).await {
            tracing::error!(start = followed.start, causes = %Causes(&error), "leaves were not taken in");
            backoff.pause().await;
        }
        backoff.reset();
        metrics::FOLLOWER_AGE.since(Some(followed.witnessed_at));
        metrics::FOLLOWER_BEHIND.set(followed.size.saturating_sub(followed.state.size));
        if let Some(condition) = &follower.condition {
            condition.hold_for(HOPELESS);
        }
    }
}

//! Asking witnesses for cosignatures: one task a witness, so that a slow one delays no other.

use core::time::Duration;

use greffe_api::escrow::witness_service_client::WitnessServiceClient;
use greffe_api::escrow::{AddCheckpointRequest, AddCheckpointResponse};
use greffe_service_kit::errors::{CallError, Causes};
use greffe_service_kit::tls::Channel;
use greffe_tlog::{CosignerKey, NoteSignature, SignedCheckpoint};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::grow::Log;
use crate::state::LOG_FORKED;
use crate::tiles::Tiles;

/// Shortest and longest pause before a witness that failed is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A witness that keeps naming other sizes is left alone for a while.
const MOST_CONFLICTS: usize = 3;

/// What witnesses are asked for now.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// Distinguishes asking again for the same checkpoint.
    pub(crate) round: u64,
    /// What to cosign, with the log's signature only.
    pub(crate) checkpoint: SignedCheckpoint,
}

/// What a witness said.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Its cosignature, verified.
    Cosigned {
        witness: Box<CosignerKey>,
        round: u64,
        line: NoteSignature,
    },
    /// It has cosigned a larger tree than this log has signed.
    Behind {
        witness: String,
        known: u64,
        size: u64,
    },
    /// It has cosigned another history.
    Forked { witness: String },
}

/// One witness.
pub(crate) struct WitnessTask {
    pub(crate) key: CosignerKey,
    pub(crate) channel: Channel,
    pub(crate) tiles: Tiles,
    pub(crate) patience: Duration,
    pub(crate) asks: watch::Receiver<Option<Ask>>,
    pub(crate) answers: mpsc::Sender<Answer>,
}

/// Why a witness gave nothing this time.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("no answer in time")]
    Deadline,
    #[error("refused or unreachable")]
    Call(#[source] CallError),
    #[error("no valid cosignature of this witness in its answer")]
    False,
    #[error("names another size each time it is asked")]
    Unsteady,
    #[error("the consistency proof cannot be made")]
    Proof(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl WitnessTask {
    /// Asks for each new checkpoint until nobody asks any more; a failure is tried again, with growing pauses.
    pub(crate) async fn run(mut self) {
        let (mut known, mut pause) = (0, PAUSES.0);
        while self.asks.changed().await.is_ok() {
            loop {
                let Some(ask) = self.asks.borrow_and_update().clone() else {
                    break;
                };
                match self.ask(&ask, &mut known).await {
                    Ok(answer) => {
                        pause = PAUSES.0;
                        if self.answers.send(answer).await.is_err() {
                            return;
                        }
                        break;
                    }
                    Err(error) => {
                        tracing::warn!(witness = self.key.name(), causes = %Causes(&error), "no cosignature");
                        sleep(pause).await;
                        pause = (pause * 2).min(PAUSES.1);
                    }
                }
            }
        }
    }

    async fn ask(&self, ask: &Ask, known: &mut u64) -> Result<Answer, Unanswered> {
        let size = ask.checkpoint.head().size;
        for _ in 0..MOST_CONFLICTS {
            if *known > size {
                return Ok(Answer::Behind {
                    witness: self.key.name().to_owned(),
                    known: *known,
                    size,
                });
            }
            let request = self.request(ask, *known).await?;
            let mut client = WitnessServiceClient::new(self.channel.clone());
            let call = timeout(self.patience, client.add_checkpoint(request));
            let answer = match call.await.map_err(|_| Unanswered::Deadline)? {
                Ok(answer) => answer.into_inner(),
                Err(status) => {
                    let error = CallError::from(status);
                    if error.is(LOG_FORKED) {
                        return Ok(Answer::Forked {
                            witness: self.key.name().to_owned(),
                        });
                    }
                    return Err(Unanswered::Call(error));
                }
            };
            if answer.conflict {
                *known = answer.known_size;
                continue;
            }
            let line = self.line(&ask.checkpoint, &answer)?;
            *known = size;
            return Ok(Answer::Cosigned {
                witness: Box::new(self.key.clone()),
                round: ask.round,
                line,
            });
        }
        Err(Unanswered::Unsteady)
    }

    async fn request(&self, ask: &Ask, known: u64) -> Result<AddCheckpointRequest, Unanswered> {
        let (tiles, size) = (self.tiles.clone(), ask.checkpoint.head().size);
        let proof = greffe_service_kit::blocking(move || Log::consistency(&tiles, known, size))
            .await
            .map_err(|error| Unanswered::Proof(error.into()))?
            .map_err(|error| Unanswered::Proof(error.into()))?;
        Ok(AddCheckpointRequest {
            old_size: known,
            proof: proof.iter().map(greffe_types::Digest::to_vec).collect(),
            checkpoint: ask.checkpoint.encode(),
        })
    }

    /// The witness's own line, if it verifies: a false one would spoil the checkpoint for everybody.
    fn line(
        &self,
        checkpoint: &SignedCheckpoint,
        answer: &AddCheckpointResponse,
    ) -> Result<NoteSignature, Unanswered> {
        let text = core::str::from_utf8(&answer.cosignature).map_err(|_| Unanswered::False)?;
        text.lines()
            .filter_map(|line| NoteSignature::parse(line).ok())
            .find(|line| {
                let mut with = checkpoint.clone();
                with.add(line.clone());
                matches!(self.key.newest(&with), Ok(Some(_)))
            })
            .ok_or(Unanswered::False)
    }
}

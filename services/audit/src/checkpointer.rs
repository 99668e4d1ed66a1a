//! The job that signs: one checkpoint at a time is signed, kept, shown to the witnesses, and published by their quorum.
//!
//! Signing waits at every start until enough witnesses have cosigned what was signed last: a quorum that has cosigned a
//! larger tree would be among them, so that a log restored from an old copy never signs a second history.

use core::future::pending;
use core::time::Duration;
use greffe_service_kit::db::Connection;
use std::sync::Arc;
use std::time::Instant;

use greffe_envelope::pb;
use greffe_envelope::trust::Bundle;
use greffe_service_kit::blocking;
use greffe_service_kit::boot::{Boot, SharedTrust};
use greffe_service_kit::db::Database;
use greffe_service_kit::errors::Causes;
use greffe_service_kit::files::FileError;
use greffe_service_kit::telemetry::metrics;
use greffe_tlog::{CosignerKey, Freshness, NoteSignature, Quorum, SignedCheckpoint, TILE_WIDTH};
use greffe_types::Millis;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant as Tick, sleep, sleep_until};

use crate::config::AuditConfig;
use crate::grow::{GrowError, Log};
use crate::load::{Loaded, trusted_statement};
use crate::state::{LOG_BEHIND_CHECKPOINT, LOG_DAMAGED, LOG_FORKED, Published, State, halt};
use crate::store::{self, Kind, StoreError};
use crate::tiles::Tiles;
use crate::witnesses::{Answer, Ask, WitnessTask};

/// Most leaves that one checkpoint adds.
const MOST_LEAVES: u64 = 4096;
/// Most bytes of leaves read for one checkpoint.
const MOST_BYTES: usize = 64 << 20;
/// Pause after a disk or database failed.
const RETRY: Duration = Duration::from_secs(1);

/// Wakes the job.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    /// Leaves were added.
    pub(crate) grown: Notify,
    /// A fresher checkpoint is wanted.
    pub(crate) refresh: Notify,
}

/// Why an attempt to sign or publish failed.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error(transparent)]
    Grow(#[from] GrowError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("publishing the checkpoint's file")]
    File(#[from] FileError),
    #[error("a blocking task ended early")]
    Join(#[from] tokio::task::JoinError),
}

impl From<sqlx::Error> for JobError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl JobError {
    /// What contradicts itself is never signed; what could not be read or written is tried again.
    fn is_damage(&self) -> bool {
        match self {
            Self::Grow(error) => !error.is_temporary(),
            Self::Store(error) => matches!(error, StoreError::Damaged(_)),
            Self::File(_) => false,
            // The tree in memory went with it.
            Self::Join(_) => true,
        }
    }
}

impl JobError {
    /// Whether an fsync failed.
    const fn is_not_durable(&self) -> bool {
        matches!(
            self,
            Self::Grow(GrowError::Write(FileError::NotDurable { .. }))
                | Self::File(FileError::NotDurable { .. })
        )
    }
}

/// A checkpoint that is being shown to the witnesses.
struct Pending {
    round: u64,
    asked: Instant,
    /// With the cosignatures that have come, and, asked again, those of before.
    with: SignedCheckpoint,
    /// Who has cosigned in this round.
    fresh: Vec<CosignerKey>,
}

/// The job and everything it owns.
pub(crate) struct Checkpointer {
    boot: Boot,
    db: Database,
    config: AuditConfig,
    state: watch::Sender<State>,
    wakers: Arc<Wakers>,
    /// None while a blocking task has it.
    log: Option<Log>,
    tiles: Tiles,
    signed: SignedCheckpoint,
    pending: Option<Pending>,
    round: u64,
    asks: watch::Sender<Option<Ask>>,
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    met: Vec<CosignerKey>,
    tasks: JoinSet<()>,
    heard: Vec<CosignerKey>,
    /// Statements that come into force once the checkpoint over them is published.
    statements: Vec<(u64, pb::SignedStatement)>,
    refresh_wanted: bool,
    last_signed: Option<Tick>,
}

impl Checkpointer {
    pub(crate) fn new(
        boot: Boot,
        db: Database,
        config: AuditConfig,
        loaded: Loaded,
        state: watch::Sender<State>,
        wakers: Arc<Wakers>,
    ) -> Self {
        Self {
            boot,
            db,
            config,
            state,
            wakers,
            tiles: loaded.log.tiles().clone(),
            log: Some(loaded.log),
            signed: loaded.signed,
            pending: None,
            round: 0,
            asks: watch::Sender::new(None),
            answers: mpsc::channel(64),
            met: Vec::new(),
            tasks: JoinSet::new(),
            heard: Vec::new(),
            statements: loaded.statements,
            refresh_wanted: false,
            last_signed: None,
        }
    }

    /// Runs until it is dropped, or until the log has to halt. The witnesses' tasks end with it.
    pub(crate) async fn run(mut self) {
        self.meet_witnesses();
        self.ask();
        loop {
            if self.pending.is_none()
                && let Err(error) = self.sign_or_ask().await
            {
                self.failed(&error, "no checkpoint was signed").await;
            }
            if self.state.borrow().halted.is_some() {
                return;
            }
            let recosign = Tick::now() + self.config.recosign();
            tokio::select! {
                answer = self.answers.1.recv() => {
                    if let Some(answer) = answer {
                        self.answered(answer).await;
                    }
                }
                () = self.wakers.grown.notified(), if self.pending.is_none() => {}
                () = self.wakers.refresh.notified() => self.refresh_wanted = true,
                () = sleep_until(recosign) => self.refresh_wanted = true,
            }
        }
    }

    async fn sign_or_ask(&mut self) -> Result<(), JobError> {
        if self.may_sign() && self.sign_next().await? {
            return Ok(());
        }
        if self.refresh_wanted {
            self.ask();
        }
        Ok(())
    }

    /// Enough witnesses have been heard since the start: any quorum has one among them.
    fn may_sign(&self) -> bool {
        let (witnesses, required) = self.witnesses();
        let heard = witnesses.iter().filter(|key| self.heard.contains(key));
        heard.count() >= (witnesses.len() + 1).saturating_sub(required).max(required)
    }

    /// Signs over the leaves that are new; false when there is none.
    async fn sign_next(&mut self) -> Result<bool, JobError> {
        let old = self.signed.head().size;
        let count = store::count(self.db.read()).await?;
        if count <= old {
            return Ok(false);
        }
        // Gathers what comes within the interval into one checkpoint; a backlog does not wait.
        if let Some(last) = self.last_signed
            && count - old < MOST_LEAVES
        {
            sleep_until(last + self.config.interval()).await;
        }
        let end = store::count(self.db.read()).await?.min(old + MOST_LEAVES);
        let tail = old / TILE_WIDTH * TILE_WIDTH;
        let leaves = store::leaves(self.db.read(), tail, end, MOST_BYTES).await?;
        let statements: Vec<_> = leaves
            .iter()
            .filter(|leaf| leaf.index >= old)
            .filter_map(trusted_statement)
            .collect();
        let Some(mut log) = self.log.take() else {
            return Ok(false);
        };
        let (log, signed) = blocking(move || {
            let signed = log.draft(&leaves).and_then(|draft| log.sign(draft));
            (log, signed)
        })
        .await?;
        self.log = Some(log);
        let signed = signed?;
        // Before any witness sees it: what they know is never more than what is kept here. The tree has moved on, so this
        // is tried until it succeeds.
        while let Err(error) = self.keep(Kind::Signed, &signed).await {
            self.failed(&error.into(), "a signed checkpoint could not be kept")
                .await;
        }
        self.signed = signed;
        self.statements.extend(statements);
        self.last_signed = Some(Tick::now());
        self.ask();
        Ok(true)
    }

    async fn keep(&self, kind: Kind, checkpoint: &SignedCheckpoint) -> Result<(), sqlx::Error> {
        let (size, note) = (checkpoint.head().size, checkpoint.encode());
        self.db
            .run_tx("audit.checkpoint", async |tx: &mut Connection| {
                store::put_checkpoint(tx, kind, size, &note).await
            })
            .await
    }

    /// Shows what was signed last to every witness.
    fn ask(&mut self) {
        self.round += 1;
        self.refresh_wanted = false;
        let published = self.state.borrow().published.clone();
        let with = published
            .filter(|published| published.head() == self.signed.head())
            .map_or_else(
                || self.signed.clone(),
                |published| published.checkpoint.clone(),
            );
        self.pending = Some(Pending {
            round: self.round,
            asked: Instant::now(),
            with,
            fresh: Vec::new(),
        });
        self.asks.send_replace(Some(Ask {
            round: self.round,
            checkpoint: self.signed.clone(),
        }));
    }

    async fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Cosigned {
                witness,
                round,
                line,
            } => {
                let witness = *witness;
                metrics::AUDIT_WITNESS_AGE.since_for(witness.name(), Some(self.boot.clock.now()));
                if !self.heard.contains(&witness) {
                    self.heard.push(witness.clone());
                }
                self.cosigned(witness, round, line).await;
            }
            Answer::Behind {
                witness,
                known,
                size,
            } => halt(
                &self.state,
                LOG_BEHIND_CHECKPOINT,
                format!(
                    "witness {witness} has cosigned {known} leaves and this log has signed {size}: it was restored from an \
                     old copy. Nothing more is signed; restore the newest copy of the data folder and start again"
                ),
            ),
            Answer::Forked { witness } => halt(
                &self.state,
                LOG_FORKED,
                format!(
                    "witness {witness} has cosigned another history of this log and keeps the evidence. Nothing more is \
                     signed; find out which copy of the data folder is the true one"
                ),
            ),
        }
    }

    async fn cosigned(&mut self, witness: CosignerKey, round: u64, line: NoteSignature) {
        match &mut self.pending {
            Some(pending) if pending.round == round => {
                pending.with.add(line);
                pending.fresh.push(witness);
            }
            None if round == self.round => {
                // After the quorum: kept for whoever wants more than that, and wakes nobody.
                self.state.send_if_modified(|state| {
                    if let Some(published) = &mut state.published {
                        Arc::make_mut(published).checkpoint.add(line);
                    }
                    false
                });
                return;
            }
            _ => return,
        }
        while let Err(error) = self.publish().await {
            self.failed(&error, "a checkpoint could not be published")
                .await;
        }
    }

    /// Publishes what is pending once a quorum has cosigned in this round.
    async fn publish(&mut self) -> Result<(), JobError> {
        let (witnesses, required) = self.witnesses();
        let Some(pending) = &self.pending else {
            return Ok(());
        };
        let fresh = witnesses.iter().filter(|key| pending.fresh.contains(key));
        let Some(as_of) = quorum_time(witnesses.clone(), required, &pending.with) else {
            return Ok(());
        };
        if fresh.count() < required {
            return Ok(());
        }
        let published = Published {
            checkpoint: pending.with.clone(),
            as_of,
            asked: Some(pending.asked),
        };
        self.keep(Kind::Published, &published.checkpoint).await?;
        let older = self.state.borrow().size();
        let (tiles, note) = (self.tiles.clone(), published.checkpoint.encode());
        let size = published.head().size;
        blocking(move || {
            tiles.put_checkpoint(&note)?;
            tiles.remove_superseded(older, size);
            Ok::<_, FileError>(())
        })
        .await??;
        self.pending = None;
        self.state
            .send_modify(|state| state.published = Some(Arc::new(published)));
        self.apply_statements(size);
        Ok(())
    }

    /// Takes in what the published leaves say about trust: followers see it under this checkpoint too, never earlier.
    fn apply_statements(&mut self, size: u64) {
        let (now, later) = self
            .statements
            .drain(..)
            .partition(|(index, _)| *index < size);
        self.statements = later;
        apply(&self.boot.trust, &now);
        if !now.is_empty() && self.meet_witnesses() {
            self.refresh_wanted = true;
        }
    }

    /// Begins to ask the witnesses of every bundle so far: old ones still vouch to followers who know no newer bundle.
    fn meet_witnesses(&mut self) -> bool {
        let known: Vec<CosignerKey> = {
            let trust = self.boot.trust.read();
            (1..=trust.bundle().version())
                .filter_map(|version| trust.bundle_version(version))
                .flat_map(|bundle| cosigners(bundle))
                .collect()
        };
        let before = self.met.len();
        for key in known {
            if self.met.contains(&key) {
                continue;
            }
            match self.boot.channel(key.name()) {
                Ok(channel) => {
                    // From the start on, for one that never answers.
                    metrics::AUDIT_WITNESS_AGE.since_for(key.name(), Some(self.boot.clock.now()));
                    let task = WitnessTask {
                        key: key.clone(),
                        channel,
                        tiles: self.tiles.clone(),
                        patience: self.config.patience(),
                        asks: self.asks.subscribe(),
                        answers: self.answers.0.clone(),
                    };
                    self.tasks.spawn(task.run());
                }
                Err(error) => {
                    tracing::warn!(witness = key.name(), causes = %Causes(&error), "the witness cannot be asked");
                }
            }
            self.met.push(key);
        }
        self.met.len() > before
    }

    fn witnesses(&self) -> (Vec<CosignerKey>, usize) {
        let trust = self.boot.trust.read();
        let required = trust.bundle().message().cosigner_quorum as usize;
        (cosigners(trust.bundle()), required)
    }

    async fn failed(&self, error: &JobError, what: &'static str) {
        tracing::error!(causes = %Causes(error), "{what}");
        if error.is_not_durable() {
            // The process ends: nothing is tried again over what the disk may not have.
            self.db.disk().failed("the log's files");
            pending::<()>().await;
        }
        if error.is_damage() {
            halt(
                &self.state,
                LOG_DAMAGED,
                format!(
                    "{error}: leaves, tiles and tree contradict one another. Nothing more is signed; compare the data folder \
                     with a copy, then start again"
                ),
            );
        } else {
            sleep(RETRY).await;
            self.wakers.grown.notify_one();
        }
    }
}

/// Takes statements in; one that does not verify concerns nobody and is named in the log of this process.
pub(crate) fn apply(trust: &SharedTrust, statements: &[(u64, pb::SignedStatement)]) {
    let mut trust = trust.write();
    for (index, statement) in statements {
        if let Err(error) = trust.apply(statement, *index) {
            tracing::warn!(index, causes = %Causes(&error), "a logged statement is not trusted");
        }
    }
}

/// The witnesses of a bundle.
pub(crate) fn cosigners(bundle: &Bundle) -> Vec<CosignerKey> {
    let witnesses = bundle.message().witnesses.iter();
    witnesses
        .filter_map(|witness| {
            let key: &[u8; 32] = witness.key.as_slice().try_into().ok()?;
            CosignerKey::new(&witness.name, key).ok()
        })
        .collect()
}

/// When a quorum last stood by a checkpoint, whatever its age.
pub(crate) fn quorum_time(
    witnesses: Vec<CosignerKey>,
    required: usize,
    checkpoint: &SignedCheckpoint,
) -> Option<Millis> {
    let any = Freshness {
        now: Millis::new(u64::MAX),
        max_age: Duration::from_millis(u64::MAX),
        max_ahead: Duration::ZERO,
    };
    let quorum = Quorum::new(witnesses, required).ok()?;
    Some(quorum.check(checkpoint, &any).ok()?.as_of())
}

//! One look at the log: its newest checkpoint judged, and the entries that it adds taken in.

use std::path::PathBuf;
use std::time::Duration;

use greffe_envelope::pb;
use greffe_envelope::statement::decode_strict;
use greffe_envelope::trust::Bundle;
use greffe_service_kit::checkpoint::{UnwitnessedError, log_verifier, quorum, verify};
use greffe_tlog::{
    CheckpointError, Freshness, QuorumError, SignedCheckpoint, TreeHead, Witnessed,
    verify_consistency,
};
use greffe_types::{Digest, Millis};

use super::alarm::{self, Alarm};
use super::source::{Source, late, within};
use super::state::{State, claimed};
use super::topic::Topic;
use super::{Line, Shown};
use crate::commands::form::time;
use crate::commands::log::EntryView;
use crate::fail::{Failure, Result, chain};
use crate::output::narrate;

/// Entries taken in at once.
const PAGE: u32 = 1000;

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything that can be believed has been read.
    UpToDate,
    /// There is more to read, and it is time to see what the newest checkpoint is.
    More,
    /// Nothing more of this log is to be believed.
    Ended,
}

/// Why a look came to nothing.
#[derive(Debug)]
pub(super) enum Unseen {
    /// The log did not answer, or not with what was asked for. Whatever it says about that, it may answer later.
    Log(Failure),
    /// Something is wrong here, or what was pinned is not this log's.
    Here(Failure),
}

/// Why a look was broken off.
enum Broken {
    Alarm(Alarm),
    Log(Failure),
    Failure(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// A monitor; `now` is its clock, `show` takes what is to be printed.
pub(super) struct Monitor<S, N, P> {
    pub(super) source: S,
    pub(super) state: State,
    pub(super) max_age: Duration,
    /// How long an answer may take.
    pub(super) patience: Duration,
    pub(super) now: N,
    pub(super) show: P,
    /// Alarms of this run.
    pub(super) raised: Vec<Alarm>,
    /// Reasons of alarms that have not passed yet: they are raised once.
    pub(super) standing: Vec<&'static str>,
    /// When the newest checkpoint was last recent, and what it covers was read or came fast enough.
    pub(super) fresh: Millis,
}

impl<S: Source, N: Fn() -> Millis, P: FnMut(Line) -> Result<()>> Monitor<S, N, P> {
    /// Looks once.
    ///
    /// # Errors
    /// When the log cannot be asked, or what was seen cannot be printed or stored.
    pub(super) async fn round(&mut self) -> Result<Outcome, Unseen> {
        let mut standing = Vec::new();
        let outcome = match self.look(&mut standing).await {
            Ok(outcome) => outcome,
            Err(Broken::Log(failure)) => return Err(Unseen::Log(failure)),
            Err(Broken::Failure(failure)) => return Err(Unseen::Here(failure)),
            Err(Broken::Alarm(alarm)) if alarm.passes() => {
                standing.push(alarm.reason);
                self.raise_once(alarm).map_err(Unseen::Here)?;
                Outcome::UpToDate
            }
            Err(Broken::Alarm(alarm)) => {
                self.raise(alarm).map_err(Unseen::Here)?;
                Outcome::Ended
            }
        };
        let before = core::mem::replace(&mut self.standing, standing);
        for reason in before
            .iter()
            .filter(|reason| !self.standing.contains(reason))
        {
            narrate(format_args!("{reason} has passed"));
        }
        Ok(outcome)
    }

    /// The log could not be asked: after a while that is no better than a log that stands still.
    pub(super) fn unreachable(&mut self, failure: &Failure) -> Result<()> {
        if self.overdue() {
            let why = format!("it cannot be reached, {failure}");
            let alarm = self.stale(self.fresh, &why);
            self.raise_once(alarm)?;
        }
        Ok(())
    }

    fn overdue(&self) -> bool {
        self.fresh.plus(self.max_age) < (self.now)()
    }

    fn refreshed(&mut self) -> Result<()> {
        self.fresh = (self.now)();
        self.state.store_fresh(self.fresh)
    }

    async fn look(&mut self, standing: &mut Vec<&'static str>) -> Result<Outcome, Broken> {
        let began = (self.now)();
        let asked = self.source.checkpoint();
        let note = within(self.patience, "the newest checkpoint", asked).await;
        let note = note.map_err(Broken::Log)?;
        let bundle = self.bundle_for(&note).await?;
        let signed = match log_verifier(&bundle)
            .map_err(UnwitnessedError::from)
            .and_then(|key| Ok(SignedCheckpoint::open(&note, &key)?))
        {
            Ok(signed) => signed,
            Err(error) => return Err(self.not_the_logs(&note, &error)),
        };
        self.continues(&signed, &note).await?;
        let witnessed = self.witnessed(&signed, &note, &bundle)?;
        let recent = witnessed.as_of().plus(self.max_age) >= (self.now)();
        if !recent {
            standing.push(alarm::STALE);
            let alarm = self.stale(
                witnessed.as_of(),
                "no quorum of witnesses has cosigned since",
            );
            self.raise_once(alarm)?;
        }
        let head = signed.head();
        if self.state.seen.as_ref().map(|(_, seen)| *seen) != Some(head) {
            // Before its entries are there: a log that withholds them, and shows another past after a restart, is found out.
            self.state.seen = Some((note.clone(), head));
            self.state.store()?;
        }
        let mut read = 0;
        while self.state.tree.size() < head.size {
            read += self.take_in(&head, &note).await?;
            // However much there is to read, the log is looked at in between.
            if began.plus(self.max_age / 2) < (self.now)() && self.state.tree.size() < head.size {
                if recent && read >= u64::from(PAGE) {
                    self.refreshed()?;
                } else if self.overdue() && !standing.contains(&alarm::STALE) {
                    standing.push(alarm::STALE);
                    let why = "it hands over its entries a few at a time";
                    let alarm = self.stale(self.fresh, why);
                    self.raise_once(alarm)?;
                }
                return Ok(Outcome::More);
            }
        }
        if recent {
            self.refreshed()?;
        }
        Ok(Outcome::UpToDate)
    }

    /// The bundle to judge a checkpoint by: the one in force at the last entry read or, when that does not bear it out, at the
    /// end of what the checkpoint covers. A bundle that changes keys is cosigned by the new ones; that the root signed it is
    /// all that it takes here, and its entry is proved when it is taken in.
    async fn bundle_for(&mut self, note: &[u8]) -> Result<Bundle, Broken> {
        let known = self.state.book.bundle().cloned();
        if let Some(known) = &known
            && verify(note, known, (self.now)(), None).is_ok()
        {
            return Ok(known.clone());
        }
        let end = claimed(note).map_or(0, |head| head.size);
        let mut ahead = self.state.book.clone();
        let mut start = self.state.tree.size();
        let began = (self.now)();
        while start < end {
            let leaves = self.entries(start).await?;
            if leaves.is_empty() {
                break;
            }
            // Nobody has vouched for that size yet: entries may come for ever.
            if began.plus(self.max_age) < (self.now)() {
                return Err(Broken::Log(late(format_args!(
                    "the log shows a checkpoint of {end} entries that no known witnesses have cosigned, and has handed over \
                     {start} of them in {} s: if it is that long, give it more time with --max-age",
                    self.max_age.as_secs()
                ))));
            }
            for leaf in leaves {
                if let Ok(entry) = decode_strict::<pb::LogEntry>("log entry", &leaf) {
                    ahead.look_ahead(start, &entry);
                }
                start += 1;
            }
        }
        let found = ahead.bundle().cloned().or(known);
        found.ok_or_else(|| {
            Broken::Failure(Failure::refused(
                "TRUST_UNKNOWN",
                "the log has no trust bundle of this root yet: nothing in it can be judged; publish the bundle, or name the right connection",
            ))
        })
    }

    fn not_the_logs(&self, note: &[u8], error: &UnwitnessedError) -> Broken {
        let reason = match error {
            UnwitnessedError::Checkpoint(CheckpointError::Origin) => alarm::ORIGIN,
            _ => alarm::CHECKPOINT,
        };
        let message = format_args!(
            "what was handed over as the newest checkpoint is not the log's: {}; ask who answers in its place",
            chain(error)
        );
        self.with_evidence(Alarm::new(reason, message), &[note])
    }

    /// Demands that a checkpoint of the log continues the last one.
    async fn continues(&mut self, signed: &SignedCheckpoint, note: &[u8]) -> Result<(), Broken> {
        let Some((seen_note, seen)) = self.state.seen.clone() else {
            return Ok(());
        };
        let head = signed.head();
        if head.size < seen.size {
            let message = format_args!(
                "the log has {} entries, it had {}: it was cut, or restored from an old copy; stop whoever goes by it, keep both notes, and compare with the witnesses",
                head.size, seen.size
            );
            let alarm = Alarm::new(alarm::ROLLED_BACK, message);
            return Err(self.with_evidence(alarm, &[&seen_note, note]));
        }
        let proof = match (seen.size, head.size) {
            (0, _) => Vec::new(),
            (old, new) if old == new => Vec::new(),
            (old, new) => self.consistency(old, new).await?,
        };
        verify_consistency(&seen, &head, &proof).map_err(|error| {
            let message = format_args!(
                "the log of {} entries does not continue the one of {} that it signed before, {error}: it has been forked; stop whoever goes by it, keep both notes, and compare with the witnesses",
                head.size, seen.size
            );
            self.with_evidence(Alarm::new(alarm::FORKED, message), &[&seen_note, note])
        })
    }

    async fn entries(&mut self, start: u64) -> Result<Vec<Vec<u8>>, Broken> {
        let asked = self.source.entries(start, PAGE);
        let leaves = within(self.patience, "entries", asked).await;
        leaves.map_err(Broken::Log)
    }

    async fn consistency(&mut self, old: u64, new: u64) -> Result<Vec<Digest>, Broken> {
        let asked = self.source.consistency(old, new);
        let proof = within(self.patience, "a proof of consistency", asked).await;
        proof.map_err(Broken::Log)
    }

    /// A quorum has cosigned, at whatever time.
    fn witnessed(
        &self,
        signed: &SignedCheckpoint,
        note: &[u8],
        bundle: &Bundle,
    ) -> Result<Witnessed, Broken> {
        let now = (self.now)();
        let any_age = Freshness {
            now,
            max_age: Duration::from_millis(now.get()),
            max_ahead: greffe_service_kit::checkpoint::MAX_AHEAD,
        };
        let checked = quorum(bundle).and_then(|quorum| Ok(quorum.check(signed, &any_age)?));
        checked.map_err(|error| {
            let reason = match &error {
                UnwitnessedError::Quorum(QuorumError::False(_)) => alarm::COSIGNATURE,
                _ => alarm::WITNESSES,
            };
            let message = format_args!(
                "the checkpoint of {} entries lacks the quorum of witnesses: {}; ask the escrow nodes why they did not cosign it",
                signed.head().size,
                chain(&error)
            );
            let alarm = Alarm::new(reason, message);
            // Each look would bring another note, and fill the disk: what stands has its evidence.
            if self.standing.contains(&reason) {
                Broken::Alarm(alarm)
            } else {
                self.with_evidence(alarm, &[note])
            }
        })
    }

    fn stale(&self, since: Millis, why: &str) -> Alarm {
        let message = format_args!(
            "the newest checkpoint that can be believed is of {}, older than {} s: {why}; see that the audit service and the witnesses run and reach each other",
            time(since.get()),
            self.max_age.as_secs()
        );
        Alarm::new(alarm::STALE, message)
    }

    /// Takes in the next entries, once they are proved to be the checkpoint's; how many.
    async fn take_in(&mut self, head: &TreeHead, note: &[u8]) -> Result<u64, Broken> {
        let start = self.state.tree.size();
        let mut leaves = self.entries(start).await?;
        let missing = usize::try_from(head.size - start).unwrap_or(usize::MAX);
        leaves.truncate(missing);
        if leaves.is_empty() {
            let message = format_args!(
                "the checkpoint covers {} entries, and entry {start} is not handed over; ask the log's operators for it",
                head.size
            );
            return Err(self.with_evidence(Alarm::new(alarm::WITHHELD, message), &[note]));
        }
        let mut tree = self.state.tree.clone();
        tree.append_entries(&leaves);
        let proof = if tree.size() == head.size {
            Vec::new()
        } else {
            self.consistency(tree.size(), head.size).await?
        };
        if let Err(error) = verify_consistency(&tree.head(), head, &proof) {
            let message = format_args!(
                "the entries from {start} to {} that were handed over are not those of the checkpoint of {}: {error}; ask who answers in the log's place",
                tree.size() - 1,
                head.size
            );
            return Err(self.with_evidence(Alarm::new(alarm::ENTRIES, message), &[note]));
        }
        for (leaf, index) in leaves.iter().zip(start..) {
            self.read(index, leaf)?;
        }
        self.state.tree = tree;
        self.state.store()?;
        Ok(leaves.len() as u64)
    }

    fn read(&mut self, index: u64, leaf: &[u8]) -> Result<()> {
        let entry: pb::LogEntry = match decode_strict("log entry", leaf) {
            Ok(entry) => entry,
            Err(error) => {
                let message = format_args!("it is none: {}; ask who wrote it", chain(&error));
                return self.raise(Alarm::entry(alarm::MALFORMED, index, message));
            }
        };
        let alarm = self.state.book.read(index, &entry);
        (self.show)(Line::Entry(Shown {
            topic: Topic::of(entry.event.as_ref()),
            entry: EntryView::new(index, &entry),
        }))?;
        alarm.map_or(Ok(()), |alarm| self.raise(alarm))
    }

    fn with_evidence(&self, mut alarm: Alarm, notes: &[&[u8]]) -> Broken {
        let kept: Result<Vec<PathBuf>> = notes.iter().map(|note| self.state.keep(note)).collect();
        match kept {
            Ok(kept) => alarm.evidence = kept,
            // The alarm matters more than that its evidence could not be kept.
            Err(failure) => alarm
                .message
                .push_str(&format!("; no evidence is kept: {failure}")),
        }
        Broken::Alarm(alarm)
    }

    fn raise_once(&mut self, alarm: Alarm) -> Result<()> {
        if self.standing.contains(&alarm.reason) {
            return Ok(());
        }
        self.standing.push(alarm.reason);
        self.raise(alarm)
    }

    fn raise(&mut self, alarm: Alarm) -> Result<()> {
        self.raised.push(alarm.clone());
        (self.show)(Line::Alarm(alarm))
    }
}

//! Retention clocks of one record: when each ends, which one wins, and what contradicts it.

use std::collections::BTreeMap;

use core::fmt;

use greffe_types::{Digest, Millis};

use crate::{ClassError, Clock, Evidence, Pack, RecordClass, Start, calendar};

/// Events that have happened, such as `account-closed`, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Events(BTreeMap<String, Millis>);

/// Whether a clock says "not before" or "not after".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockKind {
    /// Nothing is destroyed before its end.
    Minimum,
    /// The record should be destroyed by its end.
    Maximum,
}

/// When a clock ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockEnd {
    /// At this instant.
    At(Millis),
    /// Its event has not happened: at this instant at the earliest (minima only).
    NotBefore(Millis),
    /// Its event has not happened (maxima only).
    Open,
}

/// One clock of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockLine {
    /// Minimum or maximum.
    pub kind: ClockKind,
    /// Calendar years.
    pub years: u16,
    /// What starts it.
    pub start: Start,
    /// When it ends.
    pub end: ClockEnd,
    /// The rule it comes from.
    pub citation: String,
    /// How well the rule has been checked.
    pub evidence: Evidence,
}

/// A maximum that ends before the record may be destroyed: for legal to settle, never chosen silently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{minimum} keeps it until {}, after the maximum of {maximum} at {}",
    calendar::display(*.keep_until),
    calendar::display(*.destroy_by)
)]
pub struct Conflict {
    /// Citation of the longest minimum, or "extension".
    pub minimum: String,
    /// Until when it keeps the record.
    pub keep_until: Millis,
    /// Citation of the shortest maximum.
    pub maximum: String,
    /// By when that one wants it destroyed.
    pub destroy_by: Millis,
}

/// Every clock of a record, and what follows from them. Its `Display` is what `policy explain` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Pack id.
    pub pack: String,
    /// Pack digest.
    pub digest: Digest,
    /// Record class.
    pub class: String,
    /// When the archive had the record.
    pub archived_at: Millis,
    /// Minima, then maxima, in the pack's order.
    pub clocks: Vec<ClockLine>,
    /// Index into `clocks` of the minimum that ends last.
    pub winner: usize,
    /// The end of that minimum.
    pub retain_until: Millis,
    /// Events without which the record stays, whatever the clocks say.
    pub awaiting: Vec<String>,
    /// The contradiction, if there is one.
    pub conflict: Option<Conflict>,
}

/// Why a retention date cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// The pack does not know the class.
    #[error("no retention without a known record class")]
    Class(#[from] ClassError),
    /// A date beyond the year 9999.
    #[error("a date beyond the year 9999, counted from {0}")]
    Date(Millis),
}

impl RetentionError {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Class(error) => error.reason(),
            Self::Date(_) => "DATE_OUT_OF_RANGE",
        }
    }
}

impl Events {
    /// Nothing has happened.
    pub const fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// Notes an event. When it is noted twice, the later instant counts: retention only grows.
    #[must_use]
    pub fn with(mut self, event: impl Into<String>, at: Millis) -> Self {
        let known = self.0.entry(event.into()).or_insert(at);
        *known = (*known).max(at);
        self
    }

    fn at(&self, event: &str) -> Option<Millis> {
        self.0.get(event).copied()
    }
}

impl Pack {
    /// Until when a record of this class must be kept: pinned in its receipt and its write-once storage at ingest. A clock
    /// that waits for an event counts as if the event happened at once, the earliest it can; [`crate::decide`] keeps the
    /// record until the event has really happened.
    ///
    /// # Errors
    /// When the class is unknown, or a date lies beyond the year 9999.
    pub fn retain_until(&self, class: &str, archived_at: Millis) -> Result<Millis, RetentionError> {
        Ok(self
            .explain(class, archived_at, &Events::none())?
            .retain_until)
    }

    /// Until when a record of this class must be easily accessible.
    ///
    /// # Errors
    /// As [`Self::retain_until`].
    pub fn hot_until(&self, class: &str, archived_at: Millis) -> Result<Millis, RetentionError> {
        let class = self.class(class)?;
        calendar::years_later(archived_at, class.hot_years).ok_or(RetentionError::Date(archived_at))
    }

    /// Every clock of a record, its citation, and the winner.
    ///
    /// # Errors
    /// As [`Self::retain_until`].
    pub fn explain(
        &self,
        class: &str,
        archived_at: Millis,
        events: &Events,
    ) -> Result<Explanation, RetentionError> {
        let class = self.class(class)?;
        let clocks = self.clock_lines(class, archived_at, events)?;
        let (winner, retain_until) = latest_minimum(&clocks);
        let awaiting = clocks
            .iter()
            .filter_map(|clock| match (&clock.start, clock.end) {
                (Start::Event(event), ClockEnd::NotBefore(_)) => Some(event.clone()),
                _ => None,
            })
            .collect();
        let conflict = conflict(&clocks, &clocks[winner].citation, retain_until);
        Ok(Explanation {
            pack: self.id().to_owned(),
            digest: self.digest(),
            class: class.name.clone(),
            archived_at,
            clocks,
            winner,
            retain_until,
            awaiting,
            conflict,
        })
    }

    fn clock_lines(
        &self,
        class: &RecordClass,
        archived_at: Millis,
        events: &Events,
    ) -> Result<Vec<ClockLine>, RetentionError> {
        let minima = class.minima.iter().map(|c| (ClockKind::Minimum, c));
        let maxima = class.maxima.iter().map(|c| (ClockKind::Maximum, c));
        minima
            .chain(maxima)
            .map(|(kind, clock)| {
                Ok(ClockLine {
                    kind,
                    years: clock.years,
                    start: clock.start.clone(),
                    end: self
                        .end(kind, clock, archived_at, events)
                        .ok_or(RetentionError::Date(archived_at))?,
                    citation: clock.citation.clone(),
                    evidence: clock.evidence,
                })
            })
            .collect()
    }

    fn end(
        &self,
        kind: ClockKind,
        clock: &Clock,
        archived_at: Millis,
        events: &Events,
    ) -> Option<ClockEnd> {
        let start = match &clock.start {
            Start::Archived => archived_at,
            Start::FiscalYearEnd => {
                let (month, day) = self.model.fiscal_year_end?;
                calendar::fiscal_year_end(archived_at, month, day)?
            }
            Start::Event(event) => match (events.at(event), kind) {
                (Some(at), _) => at,
                (None, ClockKind::Minimum) => {
                    return calendar::years_later(archived_at, clock.years)
                        .map(ClockEnd::NotBefore);
                }
                (None, ClockKind::Maximum) => return Some(ClockEnd::Open),
            },
        };
        calendar::years_later(start, clock.years).map(ClockEnd::At)
    }
}

/// The minimum that ends last: its index and end. Of equals the first.
fn latest_minimum(clocks: &[ClockLine]) -> (usize, Millis) {
    let mut best = (0, Millis::new(0));
    for (index, clock) in clocks.iter().enumerate() {
        if let (ClockKind::Minimum, ClockEnd::At(end) | ClockEnd::NotBefore(end)) =
            (clock.kind, clock.end)
            && end > best.1
        {
            best = (index, end);
        }
    }
    best
}

/// The contradiction between keeping until an instant and the maximum that ends first.
pub(crate) fn conflict(
    clocks: &[ClockLine],
    minimum: &str,
    keep_until: Millis,
) -> Option<Conflict> {
    let earliest = clocks
        .iter()
        .filter_map(|clock| match (clock.kind, clock.end) {
            (ClockKind::Maximum, ClockEnd::At(end)) => Some((end, &clock.citation)),
            _ => None,
        });
    let (destroy_by, maximum) = earliest.min()?;
    (destroy_by < keep_until).then(|| Conflict {
        minimum: minimum.to_owned(),
        keep_until,
        maximum: maximum.clone(),
        destroy_by,
    })
}

impl fmt::Display for ClockLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ClockKind::Minimum => "at least",
            ClockKind::Maximum => "at most",
        };
        write!(f, "{kind} {} y from {}: ", self.years, self.start)?;
        match self.end {
            ClockEnd::At(end) => f.write_str(&calendar::display(end))?,
            ClockEnd::NotBefore(end) => {
                write!(
                    f,
                    "not before {}, awaiting the event",
                    calendar::display(end)
                )?;
            }
            ClockEnd::Open => f.write_str("awaiting the event")?,
        }
        write!(f, " [{}; {}]", self.citation, self.evidence)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pack {} (digest {})", self.pack, self.digest)?;
        writeln!(
            f,
            "class {}, archived at {}",
            self.class,
            calendar::display(self.archived_at)
        )?;
        for (index, clock) in self.clocks.iter().enumerate() {
            let mark = if index == self.winner { '*' } else { ' ' };
            writeln!(f, "{mark} {clock}")?;
        }
        let winner = &self.clocks[self.winner];
        writeln!(
            f,
            "kept until {} by {}",
            calendar::display(self.retain_until),
            winner.citation
        )?;
        for event in &self.awaiting {
            writeln!(f, "and in any case until the event {event} has happened")?;
        }
        if let Some(conflict) = &self.conflict {
            writeln!(f, "CONFLICT for legal: {conflict}")?;
        }
        f.write_str("designed to help meet these rules; no claim of conformity")
    }
}

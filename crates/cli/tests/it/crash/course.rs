//! How a life goes on over a disk that fails again and again: no fault before the last one has been recovered from, and what
//! callers were told belongs to the last fault before.

use std::collections::BTreeSet;

use greffe_testkit::faults::{Disk, Mode};

use super::machine::Machine;
use super::points::has_to_end;

/// A service whose disk fails.
struct Failing<'a> {
    machine: &'a Machine,
    service: &'static str,
    disk: &'a Disk,
    mode: Mode,
}

/// The course of a life.
pub(super) struct Course<'a> {
    failing: Option<Failing<'a>>,
    /// Faults that were recovered from.
    recovered: usize,
    /// What was refused before the first fault, since that one, since the next.
    refused: Vec<BTreeSet<String>>,
}

impl<'a> Course<'a> {
    /// Of a life without faults.
    pub(super) const fn quiet() -> Self {
        Self {
            failing: None,
            recovered: 0,
            refused: Vec::new(),
        }
    }

    /// Of a life over a service whose disk fails.
    pub(super) const fn failing(
        machine: &'a Machine,
        service: &'static str,
        disk: &'a Disk,
        mode: Mode,
    ) -> Self {
        Self {
            failing: Some(Failing {
                machine,
                service,
                disk,
                mode,
            }),
            recovered: 0,
            refused: Vec::new(),
        }
    }

    /// Whether there was a fault that has not been recovered from.
    pub(super) fn is_held(&self) -> bool {
        let failing = self.failing.as_ref();
        failing.is_some_and(|failing| failing.disk.is_held())
    }

    /// Something was refused.
    pub(super) fn refused(&mut self, reason: &str) {
        let faults = self.recovered + usize::from(self.is_held());
        if self.refused.len() <= faults {
            self.refused.resize_with(faults + 1, BTreeSet::new);
        }
        self.refused[faults].insert(reason.to_owned());
    }

    /// Something was done that was asked for after a fault: where the process is back, or did not have to end, it was recovered
    /// from.
    pub(super) fn done_after_fault(&mut self) {
        let Some(failing) = &self.failing else { return };
        let trace = failing.disk.trace();
        let Some(last) = trace.faults.last() else {
            return;
        };
        let ended = trace.processes > last.process + 1;
        let goes_on = ended || !has_to_end(failing.mode, &trace, last);
        if goes_on && failing.machine.is_up(failing.service) {
            self.recovered += 1;
            failing.disk.release();
        }
    }

    /// What was refused before the first fault, since that one, since the next; to the end of the life.
    pub(super) fn into_refused(self) -> Vec<BTreeSet<String>> {
        self.refused
    }
}

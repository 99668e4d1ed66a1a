//! A process's disk: what was written and not made durable is lost or torn with the process, and acts fail as they are told to.
//!
//! Files are real ones in memory. What a crash takes back is kept here: bytes before their fsync, names before the fsync of
//! their folder. A database is taken at its word: what it committed is there, what it did not is not.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use greffe_service_kit::simulation::{Act, Verdict};

use crate::rng::Rng;

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Every write fails for want of room.
    Full,
    /// Some writes and fsyncs fail.
    Faulty,
}

/// What a process does to its disk, and what of it has become durable.
#[derive(Debug)]
pub(crate) struct Disk(Mutex<State>);

#[derive(Debug)]
struct State {
    rng: Rng,
    trouble: Option<Trouble>,
    /// Acts until the process dies at one.
    countdown: Option<u64>,
    dead: bool,
    /// Files whose bytes are not durable.
    unsynced: BTreeSet<PathBuf>,
    /// Names that are not durable, with what they stood for before, in order.
    names: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Disk {
    /// A sound one.
    pub(crate) fn new(rng: Rng) -> Self {
        Self(Mutex::new(State {
            rng,
            trouble: None,
            countdown: None,
            dead: false,
            unsynced: BTreeSet::new(),
            names: Vec::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it faulty, or sound again.
    pub(crate) fn set(&self, trouble: Option<Trouble>) {
        self.state().trouble = trouble;
    }

    /// Has the process die at one of the next acts.
    pub(crate) fn die_in(&self, acts: u64) {
        self.state().countdown.get_or_insert(acts);
    }

    /// Whether it has died.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// No act is done any more.
    pub(crate) fn kill(&self) {
        self.state().dead = true;
    }

    /// What becomes of an act.
    pub(crate) fn act(&self, act: Act<'_>) -> Verdict {
        self.state().act(act)
    }

    /// Takes back what was not durable, as far as chance wants it, and begins anew.
    pub(crate) fn after_power_cut(&self) {
        let mut state = self.state();
        state.lose();
        state.dead = false;
        state.countdown = None;
    }
}

impl State {
    fn act(&mut self, act: Act<'_>) -> Verdict {
        if self.dead {
            return Verdict::Dead;
        }
        match &mut self.countdown {
            Some(0) => {
                self.dead = true;
                return Verdict::Dead;
            }
            Some(left) => *left -= 1,
            None => {}
        }
        if let Some(error) = self.fault(act) {
            return Verdict::Fail(error);
        }
        match act {
            Act::Write(path) => {
                self.unsynced.insert(path.to_owned());
            }
            Act::Sync(path) => {
                self.unsynced.remove(path);
            }
            Act::Name { from, to } => {
                self.names.push((to.to_owned(), fs::read(to).ok()));
                if self.unsynced.remove(from) {
                    self.unsynced.insert(to.to_owned());
                }
            }
            Act::Remove(path) => self.names.push((path.to_owned(), fs::read(path).ok())),
            Act::SyncFolder(folder) => self.names.retain(|(name, _)| name.parent() != Some(folder)),
            Act::Begin(_) | Act::Committed(_) => {}
        }
        Verdict::Go
    }

    fn fault(&mut self, act: Act<'_>) -> Option<io::Error> {
        let number = match (self.trouble?, act) {
            (Trouble::Full, Act::Write(_) | Act::Begin(_)) => no_space(),
            (
                Trouble::Faulty,
                Act::Write(_) | Act::Sync(_) | Act::Begin(_) | Act::SyncFolder(_),
            ) if self.rng.happens(300) => 5,
            _ => return None,
        };
        Some(io::Error::from_raw_os_error(number))
    }

    fn lose(&mut self) {
        for (name, before) in core::mem::take(&mut self.names).into_iter().rev() {
            if self.rng.happens(500) {
                continue;
            }
            let _ = fs::remove_file(&name);
            match before {
                Some(bytes) => write(&name, &bytes),
                None => {
                    self.unsynced.remove(&name);
                }
            }
        }
        for path in core::mem::take(&mut self.unsynced) {
            let Ok(bytes) = fs::read(&path) else {
                continue;
            };
            let kept = self.rng.below(bytes.len() as u64 + 1);
            let kept = usize::try_from(kept).unwrap_or_default();
            let _ = fs::remove_file(&path);
            write(&path, &bytes[..kept]);
        }
    }
}

/// ENOSPC
const fn no_space() -> i32 {
    28
}

fn write(path: &Path, bytes: &[u8]) {
    // What cannot be put back is lost, which a disk may do too.
    if fs::write(path, bytes).is_ok() {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o444));
    }
}

#[cfg(test)]
mod tests {
    use greffe_service_kit::files::{replace, write_once};
    use greffe_service_kit::simulation;

    use super::*;
    use std::sync::Arc;

    struct Alone(Disk);

    impl simulation::Hooks for Alone {
        fn serve(
            &self,
            _: &greffe_service_kit::tls::SpiffeId,
            _: simulation::Handler,
        ) -> Box<dyn Send + Sync> {
            Box::new(())
        }

        fn call(
            &self,
            _: &greffe_service_kit::tls::SpiffeId,
            _: &greffe_service_kit::tls::SpiffeId,
            _: http::Request<tonic::body::Body>,
        ) -> simulation::Answer<Result<http::Response<tonic::body::Body>, tonic::Status>> {
            Box::pin(async { Err(tonic::Status::unavailable("alone")) })
        }

        fn act(&self, act: Act<'_>) -> Verdict {
            self.0.act(act)
        }
    }

    #[test]
    fn a_file_is_whole_or_not_there_wherever_the_power_is_cut() {
        let mut outcomes = BTreeSet::new();
        for cut in 0..8 {
            for seed in 0..8 {
                let folder = tempfile::tempdir().unwrap();
                let hooks = Arc::new(Alone(Disk::new(Rng::new(seed, 1))));
                let path = folder.path().join("object");
                simulation::enter(Some(hooks.clone()));
                replace(&path, b"old bytes").unwrap();
                hooks.0.die_in(cut);
                let done = replace(&path, b"new bytes").is_ok();
                let once = write_once(&folder.path().join("other"), b"once").is_ok();
                simulation::enter(None);
                hooks.0.after_power_cut();
                let found = fs::read(&path).unwrap();
                assert!(
                    found == b"new bytes" || !done && found == b"old bytes",
                    "{cut}"
                );
                let other = fs::read(folder.path().join("other")).ok();
                assert!(
                    other.as_deref() == Some(b"once") || !once && other.is_none(),
                    "{cut}"
                );
                outcomes.insert((done, found));
            }
        }
        assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    }

    #[test]
    fn a_name_without_an_fsync_of_its_bytes_may_be_torn() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("tmp"), folder.path().join("object"));
        let torn = (0..20).any(|seed| {
            let disk = Disk::new(Rng::new(seed, 1));
            let _ = fs::remove_file(&to);
            disk.act(Act::Write(&from));
            fs::write(&from, b"bytes").unwrap();
            disk.act(Act::Name {
                from: &from,
                to: &to,
            });
            fs::rename(&from, &to).unwrap();
            disk.act(Act::SyncFolder(folder.path()));
            disk.after_power_cut();
            fs::read(&to).unwrap() != b"bytes"
        });
        assert!(torn);
    }
}

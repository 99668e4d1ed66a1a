//! A process that keeps what is in its memory to itself: no core dump, and no other process of its user looks into it.
//!
//! Keys, shares and what is opened with them are in memory while they are used. A crash must not write them to a disk or hand
//! them to a collector of crashes, and whoever gets to run something under the same user must not read them there. Who has the
//! machine's root, or CAP_SYS_PTRACE, is not kept out, and swap is not ours to switch off: `deploy/README.md` says what is.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// Why a process cannot keep its memory to itself.
#[derive(Debug, thiserror::Error)]
#[error("this process cannot {what}, and does not run without: {source}")]
pub struct HardenError {
    what: &'static str,
    source: Errno,
}

/// From here on a crash of this process leaves no core behind, neither as a file nor through a program that the system hands cores
/// to, and only who may look into every process looks into this one. What it starts has to say so for itself.
///
/// # Errors
/// When the system does not let it.
pub fn process() -> Result<(), HardenError> {
    let cannot = |what| move |source| HardenError { what, source };
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(cannot("give up its core dumps"))?;
    // Not the limit but this keeps a core from a program that `core_pattern` names, and /proc/PID/mem from its user.
    prctl::set_dumpable(false).map_err(cannot("keep others of its user out of its memory"))
}

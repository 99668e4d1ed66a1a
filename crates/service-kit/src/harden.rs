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

/// How much of the stack is overwritten after secrets were computed with on it: far more than the arithmetic takes, and half of what
/// a thread has.
const STACK: usize = 1 << 20;

/// Does work with secrets, and overwrites what it has left on the stack. What holds a secret wipes itself when it is dropped, but a
/// value that is moved or computed with leaves copies where it was, and the thread lives on.
///
/// What the work gives is its caller's to wipe: a secret in it belongs into a box, of which only the address is moved.
pub fn wiping_stack<T>(work: impl FnOnce() -> T) -> T {
    let done = apart(work);
    wipe_stack();
    done
}

/// In a frame below its caller's, where [`wipe_stack`] has its own next.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn wipe_stack() {
    let mut room = [0_u8; STACK];
    // Somebody might look at it, as far as the compiler knows: so it is written.
    core::hint::black_box(&mut room);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::hint::black_box;
    use std::os::unix::fs::FileExt as _;

    /// What is never written down as it is, but by [`lay`].
    const MASKED: [u8; 32] = *b"a secret that work leaves behind";
    const MASK: u8 = 0x5a;

    /// Leaves a secret on the stack, as what computes with one does.
    #[inline(never)]
    fn lay() -> u8 {
        let mut room = [0_u8; 4096];
        for (at, byte) in room.iter_mut().enumerate() {
            *byte = MASKED[at % MASKED.len()] ^ MASK;
        }
        black_box(&room)[black_box(7)]
    }

    /// How often the secret lies in the memory around an address of this thread's stack, below it.
    fn laid(around: usize) -> usize {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let ranges = maps.lines().filter_map(|line| {
            let (from, to) = line.split(' ').next()?.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            Some(number(from)?..number(to)?)
        });
        let stack = ranges
            .into_iter()
            .find(|range| range.contains(&around))
            .unwrap();
        let from = stack.start.max(around.saturating_sub(STACK));
        let mut bytes = vec![0; around - from];
        let memory = File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut bytes, from as u64).unwrap();
        let is_secret = |window: &&[u8]| window.iter().zip(MASKED).all(|(a, b)| a ^ MASK == b);
        bytes.windows(MASKED.len()).filter(is_secret).count()
    }

    #[test]
    fn attack_34_what_work_leaves_on_the_stack_is_overwritten() {
        let here = 0_u8;
        let around = std::ptr::from_ref(black_box(&here)).addr();
        assert_eq!(wiping_stack(lay), MASKED[7] ^ MASK);
        assert_eq!(laid(around), 0);
        // The same search finds what is not overwritten.
        lay();
        assert!(laid(around) > 0);
    }
}

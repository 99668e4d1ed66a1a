//! The operating system's randomness as the generator that keys and answers are made with.

use getrandom::SysRng;
use rand_core::UnwrapErr;

/// Reads the operating system for every byte. A system without randomness ends the call that needed it: nothing can be
/// answered without.
pub const fn system() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

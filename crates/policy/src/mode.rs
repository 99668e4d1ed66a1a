//! Who can read a conversation, numbered as the protobuf `Mode` is.

use core::fmt;
use core::str::FromStr;

/// The mode of a conversation; it only ever moves upward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// The members.
    Private = 1,
    /// The members; a named reader under a released order.
    Journaled = 2,
    /// As journaled, plus the supervision desk under a standing order.
    Supervised = 3,
}

/// A mode that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such mode: {0:?}")]
pub struct ModeError(pub String);

impl Mode {
    /// Its name, as packs write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Journaled => "journaled",
            Self::Supervised => "supervised",
        }
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        match text {
            "private" => Ok(Self::Private),
            "journaled" => Ok(Self::Journaled),
            "supervised" => Ok(Self::Supervised),
            other => Err(ModeError(other.to_owned())),
        }
    }
}

impl TryFrom<i32> for Mode {
    type Error = ModeError;

    /// From the protobuf number; 0 (unspecified) is refused like any other unknown one.
    fn try_from(number: i32) -> Result<Self, ModeError> {
        match number {
            1 => Ok(Self::Private),
            2 => Ok(Self::Journaled),
            3 => Ok(Self::Supervised),
            other => Err(ModeError(other.to_string())),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for mode in [Mode::Private, Mode::Journaled, Mode::Supervised] {
            assert_eq!(mode.as_str().parse(), Ok(mode));
            assert_eq!(mode.to_string(), mode.as_str());
            assert_eq!(Mode::try_from(mode as i32), Ok(mode));
        }
        assert!(Mode::try_from(0).is_err());
        assert!("Private".parse::<Mode>().is_err());
    }
}

//! Archive phases: after the first years a record is intermediate, and some packs then let it be read for a case only.

use greffe_types::{MatterId, Millis};

use crate::{Pack, Permit, Read, RetentionError};

/// The phase of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// In the class's hot years.
    Active,
    /// After them.
    Intermediate,
}

/// Why a record may not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadRefused {
    /// It is in the intermediate phase and no case was given.
    #[error("in the intermediate phase a record is read for a case only")]
    NoCase,
    /// Its phase cannot be computed.
    #[error("the record's phase cannot be computed")]
    Retention(#[from] RetentionError),
}

impl ReadRefused {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoCase => "INTERMEDIATE_NEEDS_CASE",
            Self::Retention(error) => error.reason(),
        }
    }
}

impl Pack {
    /// The phase of a record.
    ///
    /// # Errors
    /// When the class is unknown or a date is out of range.
    pub fn phase(
        &self,
        class: &str,
        archived_at: Millis,
        now: Millis,
    ) -> Result<Phase, RetentionError> {
        let hot_until = self.hot_until(class, archived_at)?;
        Ok(if now < hot_until {
            Phase::Active
        } else {
            Phase::Intermediate
        })
    }

    /// Permits reading a record, for a case where its phase asks for one.
    ///
    /// # Errors
    /// When a case is needed and not given, or the phase cannot be computed.
    pub fn permit_read(
        &self,
        class: &str,
        archived_at: Millis,
        now: Millis,
        matter: Option<MatterId>,
    ) -> Result<Permit<Read>, ReadRefused> {
        let phase = self.phase(class, archived_at, now)?;
        if self.model.intermediate_needs_case && phase == Phase::Intermediate && matter.is_none() {
            return Err(ReadRefused::NoCase);
        }
        Ok(Permit::new(Read { matter }))
    }
}

//! From policy packs to decisions: what is kept and until when, who may open, destroy or call, and what people are told.
//!
//! A **pack** (`policies/packs/<id>/`) holds the values of a sector: record classes with their retention clocks and the
//! rule each comes from, modes, approvals, notices. It is parsed strictly and refused when it contradicts itself; its
//! digest covers every byte of it and of its notices, so what a tenant's root signed off is what is applied.
//!
//! Decisions are pure: the time is a parameter, and for destruction it is a [`TrustedNow`] that witnesses agree with.
//! What a decision allows is handed out as a [`Permit`], which only this crate can make:
//!
//! ```compile_fail
//! // A permit has no public constructor: `Permit::new` is private to the crate.
//! let forged = greffe_policy::Permit::new(greffe_policy::Read { matter: None });
//! ```
//!
//! Signatures are not checked here. Callers verify them against the trust bundle's roster and pass the people on as
//! [`Signer`]s.

mod access;
mod calendar;
mod disposition;
mod extension;
mod hold;
mod mode;
mod notice;
mod pack;
mod people;
mod permit;
mod phase;
mod release;
mod retention;
mod trusted_time;

pub use access::{ACTS, AccessError, AccessRules, CallRefused, Caller, CallerKind, ServiceKind};
pub use disposition::{Disposition, DispositionCase, KeepReason, decide};
pub use extension::{ExtendError, Extension, extend};
pub use hold::{
    HoldError, HoldLedger, HoldRelease, HoldSet, ReleaseHoldError, StandingHold, release_hold,
};
pub use mode::{Mode, ModeError};
pub use notice::{Holder, Notice, NoticeError, NoticeValues, POINTS};
pub use pack::{
    ApprovalRule, ApprovalRuleError, ClassError, Clock, Evidence, FolderError, HoldReleaseRule,
    LintError, Pack, PackError, PackTexts, RecordClass, Start, load_folder,
};
pub use people::{ACT_MAX_AGE, MAX_SIGNERS, MAX_SKEW, QuorumError, Role, RoleError, Signer};
pub use permit::{Action, Call, Dispose, Extend, Perform, Permit, Read, Release, ReleaseHold};
pub use phase::{Phase, ReadRefused};
pub use release::{MAX_RECORDS, ReleaseCase, ReleaseError, permit_release};
pub use retention::{
    ClockEnd, ClockKind, ClockLine, Conflict, Events, Explanation, RetentionError,
};
pub use trusted_time::{CLOCK_TOLERANCE, ClockError, TrustedNow};

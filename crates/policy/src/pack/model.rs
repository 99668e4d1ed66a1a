//! What a checked pack is made of.

use std::collections::BTreeMap;

use core::fmt;
use core::time::Duration;

use crate::{Mode, Role, RoleError};

/// The fields of a pack, each valid.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) id: String,
    pub(crate) version: u32,
    pub(crate) title: String,
    pub(crate) languages: Vec<String>,
    /// Index into `classes`.
    pub(crate) message_class: usize,
    /// Index into `classes`.
    pub(crate) unclassified_class: Option<usize>,
    pub(crate) intermediate_needs_case: bool,
    /// Month and day; present when a clock starts from it.
    pub(crate) fiscal_year_end: Option<(i8, i8)>,
    pub(crate) purpose: BTreeMap<String, String>,
    pub(crate) legal_basis: BTreeMap<String, String>,
    pub(crate) modes: BTreeMap<Mode, BTreeMap<String, String>>,
    pub(crate) private_notice: Option<BTreeMap<String, String>>,
    pub(crate) approval: ApprovalRule,
    pub(crate) approval_titles: Vec<BTreeMap<String, String>>,
    pub(crate) disposition_roles: Vec<Role>,
    pub(crate) hold_release: HoldReleaseRule,
    pub(crate) classes: Vec<RecordClass>,
}

/// A class of records and its retention clocks.
#[derive(Debug, Clone)]
pub struct RecordClass {
    pub(crate) name: String,
    pub(crate) title: BTreeMap<String, String>,
    pub(crate) retention: BTreeMap<String, String>,
    pub(crate) hot_years: u16,
    pub(crate) minima: Vec<Clock>,
    pub(crate) maxima: Vec<Clock>,
}

impl RecordClass {
    /// Its name, as headers write it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its title in one of the pack's languages.
    pub fn title(&self, language: &str) -> Option<&str> {
        self.title.get(language).map(String::as_str)
    }

    /// Calendar years in which it must be easily accessible.
    pub const fn hot_years(&self) -> u16 {
        self.hot_years
    }

    /// Clocks before whose end nothing is destroyed; at least one.
    pub fn minima(&self) -> &[Clock] {
        &self.minima
    }

    /// Clocks by whose end a record should be destroyed.
    pub fn maxima(&self) -> &[Clock] {
        &self.maxima
    }
}

/// A retention clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// Calendar years from its start; 0 only from an event.
    pub years: u16,
    /// What starts it.
    pub start: Start,
    /// The rule it comes from.
    pub citation: String,
    /// How well the rule has been checked.
    pub evidence: Evidence,
}

/// What starts a clock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Start {
    /// The archive's receipt.
    Archived,
    /// The end of the financial year in which the record was archived.
    FiscalYearEnd,
    /// An event, such as `account-closed`; until it happens the record stays.
    Event(String),
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archived => f.write_str("archived"),
            Self::FiscalYearEnd => f.write_str("fiscal-year-end"),
            Self::Event(event) => write!(f, "event:{event}"),
        }
    }
}

/// How well a rule has been checked: the product claims conformity on none but the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The primary text was read.
    Primary,
    /// A summary was read.
    Secondary,
    /// General knowledge, unverified.
    General,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary text",
            Self::Secondary => "secondary source",
            Self::General => "unverified",
        })
    }
}

/// What an order's approvals have to meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRule {
    minimum: u32,
    required_roles: Vec<Role>,
    bulk_threshold: u32,
}

/// Why an approval rule was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalRuleError {
    /// Fewer than two people, or fewer than there are required roles, or more than 64.
    #[error(
        "an order needs at least two approvers, and as many as there are required roles, and at most 64"
    )]
    Minimum,
    /// No role is required, or one is named twice.
    #[error("at least one role is required, and each only once")]
    Roles,
    /// A role that does not exist.
    #[error("a required role does not exist")]
    Role(#[from] RoleError),
}

impl ApprovalRule {
    /// A rule from its parts, as a trust bundle or a pack states them.
    ///
    /// # Errors
    /// When one person alone could meet it, or when nobody could.
    pub fn new<R: AsRef<str>>(
        minimum: u32,
        required_roles: &[R],
        bulk_threshold: u32,
    ) -> Result<Self, ApprovalRuleError> {
        let mut roles = Vec::with_capacity(required_roles.len());
        for role in required_roles {
            let role: Role = role.as_ref().parse()?;
            if roles.contains(&role) {
                return Err(ApprovalRuleError::Roles);
            }
            roles.push(role);
        }
        if roles.is_empty() {
            return Err(ApprovalRuleError::Roles);
        }
        // One below the limit of signers, because a bulk order needs one more.
        if minimum < 2 || (minimum as usize) < roles.len() || minimum as usize >= crate::MAX_SIGNERS
        {
            return Err(ApprovalRuleError::Minimum);
        }
        Ok(Self {
            minimum,
            required_roles: roles,
            bulk_threshold,
        })
    }

    /// Different people who have to approve; at least 2.
    pub const fn minimum(&self) -> u32 {
        self.minimum
    }

    /// Roles that each need a person of their own among the approvers.
    pub fn required_roles(&self) -> &[Role] {
        &self.required_roles
    }

    /// Orders over more records than this need one more approver.
    pub const fn bulk_threshold(&self) -> u32 {
        self.bulk_threshold
    }

    /// Whether this rule asks for as many people, the same roles and as small a bulk: a trust bundle's must, of its pack's.
    pub fn is_at_least(&self, other: &Self) -> bool {
        self.minimum >= other.minimum
            && self.bulk_threshold <= other.bulk_threshold
            && other
                .required_roles
                .iter()
                .all(|role| self.required_roles.contains(role))
    }
}

/// What releasing a hold needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldReleaseRule {
    pub(crate) roles: Vec<Role>,
    pub(crate) cooling_off: Duration,
}

impl HoldReleaseRule {
    /// Roles that each need a person of their own.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// How long a released hold goes on holding.
    pub const fn cooling_off(&self) -> Duration {
        self.cooling_off
    }
}

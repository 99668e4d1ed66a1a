//! People who sign acts: their roles, and whether a set of them is the quorum a rule asks for.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use greffe_types::{Millis, TimeRange};

/// No rule needs more signers; a longer list is refused before any work is done.
pub const MAX_SIGNERS: usize = 64;

/// How far ahead of ours a signer's clock may be.
pub const MAX_SKEW: Duration = Duration::from_secs(300);

/// How old a signature under an act may be when it is brought: collecting the others takes days.
pub const ACT_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a person of the roster may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Searches headers, reads the log.
    Auditor,
    /// Approves orders.
    Approver,
    /// Compliance, or the data protection officer where a pack says so.
    Compliance,
    /// The legal department.
    Legal,
    /// Keeps the records: retention and disposition.
    RecordsManager,
    /// Opens released records.
    Reader,
    /// Runs the system; approves nothing by virtue of that.
    Administrator,
    /// Asks for orders.
    Requester,
}

/// A role that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such role: {0:?}")]
pub struct RoleError(pub String);

impl Role {
    /// Every role.
    pub const ALL: [Self; 8] = [
        Self::Auditor,
        Self::Approver,
        Self::Compliance,
        Self::Legal,
        Self::RecordsManager,
        Self::Reader,
        Self::Administrator,
        Self::Requester,
    ];

    /// Its name in the roster.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auditor => "auditor",
            Self::Approver => "approver",
            Self::Compliance => "compliance",
            Self::Legal => "legal",
            Self::RecordsManager => "records-manager",
            Self::Reader => "reader",
            Self::Administrator => "administrator",
            Self::Requester => "requester",
        }
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| RoleError(text.to_owned()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A person whose signature over the very subject of the decision has been verified, as the roster knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The person's name in the roster.
    pub person: String,
    /// Their roles in the roster.
    pub roles: Vec<Role>,
    /// When the roster's entry is valid.
    pub valid: TimeRange,
    /// Whether the roster says that they may no longer act.
    pub revoked: bool,
    /// When they signed, by their own clock.
    pub at: Millis,
}

/// Why signatures do not make a quorum. One bad signature refuses the whole set: nothing is picked from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// Fewer different people than the rule asks for.
    #[error("{have} of {need} approvals")]
    TooFew {
        /// Different people who signed.
        have: usize,
        /// Different people needed.
        need: usize,
    },
    /// No way to give each required role a person of its own.
    #[error("no approver of their own for the role {0}")]
    MissingRole(Role),
    /// The same person signed twice.
    #[error("{0:?} signed twice")]
    Twice(String),
    /// The person who asked also approved.
    #[error("{0:?} asked and cannot approve")]
    SelfApproval(String),
    /// The person has no role that may approve this.
    #[error("{0:?} has no role that approves this")]
    NotAnApprover(String),
    /// The roster says that the person may no longer act.
    #[error("{0:?} is revoked")]
    Revoked(String),
    /// Signed, or decided, outside the roster entry's validity.
    #[error("{0:?} is outside the validity of their roster entry")]
    OutsideValidity(String),
    /// Signed after the time of the decision.
    #[error("{0:?} signed in the future")]
    InTheFuture(String),
    /// Signed before there was anything to approve.
    #[error("{0:?} signed before this could be approved")]
    TooEarly(String),
    /// More than [`MAX_SIGNERS`] signatures.
    #[error("{0} signatures are too many")]
    TooMany(usize),
}

impl QuorumError {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooFew { .. } => "APPROVALS_TOO_FEW",
            Self::MissingRole(_) => "APPROVALS_ROLE_MISSING",
            Self::Twice(_) => "APPROVALS_SAME_PERSON",
            Self::SelfApproval(_) => "APPROVALS_SELF",
            Self::NotAnApprover(_) => "APPROVALS_NOT_AN_APPROVER",
            Self::Revoked(_) => "APPROVALS_REVOKED",
            Self::OutsideValidity(_) => "APPROVALS_OUTSIDE_VALIDITY",
            Self::InTheFuture(_) => "APPROVALS_IN_THE_FUTURE",
            Self::TooEarly(_) => "APPROVALS_TOO_EARLY",
            Self::TooMany(_) => "APPROVALS_TOO_MANY",
        }
    }
}

/// What a set of signers has to meet.
pub(crate) struct Quorum<'a> {
    /// Different people needed.
    pub(crate) minimum: usize,
    /// Roles that each need a different person.
    pub(crate) required: &'a [Role],
    /// A further role whose holders count towards the minimum.
    pub(crate) also: Option<Role>,
    /// The person who asked; none of the signers may be that one.
    pub(crate) requester: Option<&'a str>,
    /// Nothing could be approved before this instant.
    pub(crate) earliest: Millis,
    /// The time of the decision.
    pub(crate) now: Millis,
}

impl Quorum<'_> {
    /// Checks the signers and names them, sorted.
    pub(crate) fn check(&self, signers: &[Signer]) -> Result<Vec<String>, QuorumError> {
        if signers.len() > MAX_SIGNERS {
            return Err(QuorumError::TooMany(signers.len()));
        }
        let mut names: Vec<String> = Vec::with_capacity(signers.len());
        for signer in signers {
            self.check_one(signer)?;
            if names.contains(&signer.person) {
                return Err(QuorumError::Twice(signer.person.clone()));
            }
            names.push(signer.person.clone());
        }
        if names.len() < self.minimum {
            return Err(QuorumError::TooFew {
                have: names.len(),
                need: self.minimum,
            });
        }
        self.seat_roles(signers)?;
        names.sort();
        Ok(names)
    }

    fn check_one(&self, signer: &Signer) -> Result<(), QuorumError> {
        let person = || signer.person.clone();
        if self.requester == Some(signer.person.as_str()) {
            return Err(QuorumError::SelfApproval(person()));
        }
        if signer.revoked {
            return Err(QuorumError::Revoked(person()));
        }
        if !signer.valid.contains(signer.at) || !signer.valid.contains(self.now) {
            return Err(QuorumError::OutsideValidity(person()));
        }
        if signer.at > self.now.plus(MAX_SKEW) {
            return Err(QuorumError::InTheFuture(person()));
        }
        if signer.at < self.earliest {
            return Err(QuorumError::TooEarly(person()));
        }
        let counts = |role: &Role| self.required.contains(role) || self.also == Some(*role);
        if !signer.roles.iter().any(counts) {
            return Err(QuorumError::NotAnApprover(person()));
        }
        Ok(())
    }

    /// Gives each required role a different person: a matching by augmenting paths.
    fn seat_roles(&self, signers: &[Signer]) -> Result<(), QuorumError> {
        let mut seat_of: Vec<Option<usize>> = vec![None; signers.len()];
        for (index, role) in self.required.iter().enumerate() {
            let mut visited = vec![false; signers.len()];
            if !self.seat(index, signers, &mut seat_of, &mut visited) {
                return Err(QuorumError::MissingRole(*role));
            }
        }
        Ok(())
    }

    fn seat(
        &self,
        role: usize,
        signers: &[Signer],
        seat_of: &mut [Option<usize>],
        visited: &mut [bool],
    ) -> bool {
        for (index, signer) in signers.iter().enumerate() {
            if visited[index] || !signer.roles.contains(&self.required[role]) {
                continue;
            }
            visited[index] = true;
            let free = match seat_of[index] {
                None => true,
                Some(other) => self.seat(other, signers, seat_of, visited),
            };
            if free {
                seat_of[index] = Some(role);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(person: &str, roles: &[Role]) -> Signer {
        Signer {
            person: person.to_owned(),
            roles: roles.to_vec(),
            valid: TimeRange::new(Millis::new(100), Millis::new(10_000_000)).expect("not empty"),
            revoked: false,
            at: Millis::new(1_000),
        }
    }

    fn check(required: &[Role], signers: &[Signer]) -> Result<Vec<String>, QuorumError> {
        Quorum {
            minimum: 2,
            required,
            also: Some(Role::Approver),
            requester: Some("rita"),
            earliest: Millis::new(500),
            now: Millis::new(2_000),
        }
        .check(signers)
    }

    #[test]
    fn signatures_under_an_act_may_be_collected_for_thirty_days() {
        let day = 86_400;
        assert_eq!(ACT_MAX_AGE.as_secs(), 30 * day);
    }

    #[test]
    fn role_names_round_trip() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }

    #[test]
    fn each_required_role_takes_a_different_person() {
        let both = signer("ann", &[Role::Compliance, Role::Legal]);
        let plain = signer("bob", &[Role::Approver]);
        let legal = signer("cleo", &[Role::Legal]);
        let required = [Role::Compliance, Role::Legal];
        assert_eq!(
            check(&required, &[both.clone(), plain]),
            Err(QuorumError::MissingRole(Role::Legal))
        );
        // Ann has to give up legal, which only the augmenting path finds in either order.
        assert_eq!(
            check(&required, &[both.clone(), legal.clone()]),
            Ok(vec!["ann".to_owned(), "cleo".to_owned()])
        );
        assert!(check(&[Role::Legal, Role::Compliance], &[both, legal]).is_ok());
    }

    #[test]
    fn one_bad_signature_refuses_the_set() {
        let good = [
            signer("ann", &[Role::Compliance]),
            signer("bob", &[Role::Approver]),
        ];
        assert!(check(&[Role::Compliance], &good).is_ok());
        let refused = |change: fn(&mut Signer)| {
            let mut extra = signer("dan", &[Role::Approver]);
            change(&mut extra);
            let mut set = good.to_vec();
            set.push(extra);
            check(&[Role::Compliance], &set)
                .expect_err("must refuse")
                .reason()
        };
        assert_eq!(refused(|s| s.revoked = true), "APPROVALS_REVOKED");
        assert_eq!(
            refused(|s| s.person = "ann".into()),
            "APPROVALS_SAME_PERSON"
        );
        assert_eq!(refused(|s| s.person = "rita".into()), "APPROVALS_SELF");
        assert_eq!(refused(|s| s.at = Millis::new(499)), "APPROVALS_TOO_EARLY");
        assert_eq!(
            refused(|s| s.at = Millis::new(400_000)),
            "APPROVALS_IN_THE_FUTURE"
        );
        assert_eq!(
            refused(|s| s.roles = vec![Role::Administrator]),
            "APPROVALS_NOT_AN_APPROVER"
        );
        assert_eq!(
            refused(|s| {
                s.valid = TimeRange::new(Millis::new(100), Millis::new(1_500)).expect("not empty");
            }),
            "APPROVALS_OUTSIDE_VALIDITY"
        );
        assert_eq!(
            check(&[Role::Compliance], &good[..1]),
            Err(QuorumError::TooFew { have: 1, need: 2 })
        );
    }

    #[test]
    fn a_signers_clock_may_be_five_minutes_ahead() {
        let ahead_by = |millis: u64| {
            let mut bob = signer("bob", &[Role::Approver]);
            bob.at = Millis::new(2_000 + millis);
            check(
                &[Role::Compliance],
                &[signer("ann", &[Role::Compliance]), bob],
            )
        };
        assert!(ahead_by(300_000).is_ok());
        assert_eq!(
            ahead_by(300_001),
            Err(QuorumError::InTheFuture("bob".into()))
        );
    }
}

//! The stable reasons of refusals: other programs and the audit log go by them.

use greffe_policy::{
    ClassError, ClockError, ExtendError, KeepReason, LintError, Mode, NoticeError, Pack, PackError,
    PackTexts, QuorumError, ReadRefused, ReleaseError, ReleaseHoldError, RetentionError, Role,
    StandingHold,
};
use greffe_types::Millis;

use crate::support::{hold_id, matter};

const NOW: Millis = Millis::new(1);

fn ann() -> String {
    "ann".to_owned()
}

fn class() -> RetentionError {
    RetentionError::Class(ClassError {
        pack: "us-broker-dealer".into(),
        class: "tweet".into(),
    })
}

#[test]
fn each_way_of_failing_a_quorum_has_a_reason() {
    for (error, reason) in [
        (
            QuorumError::TooFew { have: 1, need: 2 },
            "APPROVALS_TOO_FEW",
        ),
        (
            QuorumError::MissingRole(Role::Legal),
            "APPROVALS_ROLE_MISSING",
        ),
        (QuorumError::Twice(ann()), "APPROVALS_SAME_PERSON"),
        (QuorumError::SelfApproval(ann()), "APPROVALS_SELF"),
        (
            QuorumError::NotAnApprover(ann()),
            "APPROVALS_NOT_AN_APPROVER",
        ),
        (QuorumError::Revoked(ann()), "APPROVALS_REVOKED"),
        (
            QuorumError::OutsideValidity(ann()),
            "APPROVALS_OUTSIDE_VALIDITY",
        ),
        (QuorumError::InTheFuture(ann()), "APPROVALS_IN_THE_FUTURE"),
        (QuorumError::TooEarly(ann()), "APPROVALS_TOO_EARLY"),
        (QuorumError::TooMany(65), "APPROVALS_TOO_MANY"),
    ] {
        assert_eq!(error.reason(), reason);
        // What is built on a quorum gives the quorum's reason.
        assert_eq!(ExtendError::Quorum(error.clone()).reason(), reason);
        assert_eq!(ReleaseHoldError::Quorum(error.clone()).reason(), reason);
        assert_eq!(ReleaseError::Quorum(error).reason(), reason);
    }
}

#[test]
fn each_way_of_failing_to_date_a_record_has_a_reason() {
    for (error, reason) in [
        (class(), "RECORD_CLASS_UNKNOWN"),
        (RetentionError::Date(NOW), "DATE_OUT_OF_RANGE"),
    ] {
        assert_eq!(error.reason(), reason);
        assert_eq!(ExtendError::Retention(error.clone()).reason(), reason);
        assert_eq!(ReadRefused::Retention(error).reason(), reason);
    }
}

#[test]
fn each_other_refusal_has_a_reason_of_its_own() {
    let held = StandingHold {
        id: hold_id(1),
        matter: matter(1),
        release_effective_at: None,
    };
    let syntax = Pack::from_texts(PackTexts::default()).expect_err("must refuse");
    let disagreement = ClockError::Disagreement {
        agreeing: 0,
        needed: 1,
    };
    let language = NoticeError::Language {
        language: "de".into(),
        offered: "en".into(),
    };
    let shorter = ExtendError::NotLonger {
        current: NOW,
        to: NOW,
    };
    for (given, reason) in [
        (
            KeepReason::RetainedUntil(NOW).reason(),
            "RETENTION_NOT_OVER",
        ),
        (
            KeepReason::Awaiting("account-closed".into()).reason(),
            "RETENTION_AWAITS_EVENT",
        ),
        (KeepReason::Held(held).reason(), "RECORD_HELD"),
        (language.reason(), "NOTICE_LANGUAGE"),
        (
            NoticeError::Mode(Mode::Private).reason(),
            "MODE_NOT_ALLOWED",
        ),
        (NoticeError::Value("contact").reason(), "NOTICE_VALUE"),
        (syntax.reason(), "PACK_SYNTAX"),
        (
            PackError::Lint(LintError::Bytes("pack.toml".into())).reason(),
            "PACK_LINT",
        ),
        (PackError::Canonical.reason(), "PACK_CANONICAL"),
        (ReadRefused::NoCase.reason(), "INTERMEDIATE_NEEDS_CASE"),
        (ClockError::NoQuorum.reason(), "CLOCK_NO_QUORUM"),
        (disagreement.reason(), "CLOCK_DISAGREEMENT"),
        (shorter.reason(), "RETENTION_SHORTENED"),
        (ReleaseError::Records(0).reason(), "ORDER_RECORDS"),
        (ReleaseError::Window.reason(), "ORDER_WINDOW"),
    ] {
        assert_eq!(given, reason);
    }
}

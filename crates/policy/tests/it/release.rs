//! Releasing an order: attack 21 by hand, and random sets of approvers against an oracle that tries every seating.

use greffe_policy::{
    ApprovalRule, MAX_RECORDS, MAX_SIGNERS, ReleaseCase, ReleaseError, Role, Signer, permit_release,
};
use greffe_types::{Millis, TimeRange};
use proptest::prelude::*;

use crate::support::{record, signer};

const NOW: Millis = Millis::new(1_800_000_000_000);

fn window() -> TimeRange {
    TimeRange::new(Millis::new(NOW.get() - 1), Millis::new(NOW.get() + 1)).expect("not empty")
}

fn release(rule: &ApprovalRule, records: u64, approvals: &[Signer]) -> Result<u64, ReleaseError> {
    permit_release(
        rule,
        &ReleaseCase {
            order: record(1),
            requester: "rita",
            records,
            window: window(),
            now: NOW,
            approvals,
        },
    )
    .map(|permit| {
        let release = permit.into_inner();
        assert_eq!(release.order, record(1));
        assert_eq!(release.expiry, window().not_after());
        assert_eq!(release.approvers.len(), approvals.len());
        release.records
    })
}

/// One approval short, the same person twice, self-approval, an expired, revoked or not yet valid approver.
#[test]
fn attack_21_no_release_without_enough_different_valid_approvers() {
    let rule = ApprovalRule::new(3, &["compliance", "legal"], 100).expect("valid");
    let good = [
        signer("ann", &[Role::Compliance], NOW),
        signer("bob", &[Role::Legal], NOW),
        signer("cleo", &[Role::Approver], NOW),
    ];
    assert_eq!(release(&rule, 100, &good), Ok(100));
    let reason = |records, set: &[Signer]| {
        release(&rule, records, set)
            .expect_err("must refuse")
            .reason()
    };
    assert_eq!(reason(100, &good[..2]), "APPROVALS_TOO_FEW");
    assert_eq!(reason(101, &good), "APPROVALS_TOO_FEW");
    assert_eq!(reason(0, &good), "ORDER_RECORDS");
    assert_eq!(reason(MAX_RECORDS + 1, &good), "ORDER_RECORDS");
    let changed = |change: &dyn Fn(&mut Signer)| {
        let mut set = good.clone();
        change(&mut set[2]);
        reason(100, &set)
    };
    assert_eq!(
        changed(&|s| s.person = "ann".into()),
        "APPROVALS_SAME_PERSON"
    );
    assert_eq!(changed(&|s| s.person = "rita".into()), "APPROVALS_SELF");
    assert_eq!(changed(&|s| s.revoked = true), "APPROVALS_REVOKED");
    let until_now = TimeRange::new(Millis::new(0), NOW).expect("not empty");
    let earlier = Millis::new(NOW.get() - 1);
    assert_eq!(
        changed(&|s| (s.valid, s.at) = (until_now, earlier)),
        "APPROVALS_OUTSIDE_VALIDITY"
    );
    let from_now = TimeRange::new(NOW, Millis::new(u64::MAX)).expect("not empty");
    assert_eq!(
        changed(&|s| (s.valid, s.at) = (from_now, earlier)),
        "APPROVALS_OUTSIDE_VALIDITY"
    );
    let many: Vec<Signer> = (0..=MAX_SIGNERS)
        .map(|n| signer(&format!("p{n}"), &[Role::Compliance, Role::Legal], NOW))
        .collect();
    assert_eq!(reason(1, &many), "APPROVALS_TOO_MANY");
    assert_eq!(release(&rule, 1, &many[1..]), Ok(1));
}

#[test]
fn an_order_stands_in_its_window_only() {
    let rule = ApprovalRule::new(2, &["compliance"], 100).expect("valid");
    let approvals = [
        signer("ann", &[Role::Compliance], Millis::new(5)),
        signer("bob", &[Role::Approver], Millis::new(5)),
    ];
    let at = |now: u64| {
        permit_release(
            &rule,
            &ReleaseCase {
                order: record(1),
                requester: "rita",
                records: 1,
                window: TimeRange::new(Millis::new(10), Millis::new(20)).expect("not empty"),
                now: Millis::new(now),
                approvals: &approvals,
            },
        )
        .is_ok()
    };
    assert_eq!([9, 10, 19, 20].map(at), [false, true, true, false]);
}

const REQUIRED: [Role; 3] = [Role::Compliance, Role::Legal, Role::RecordsManager];
const HELD: [Role; 5] = [
    Role::Compliance,
    Role::Legal,
    Role::RecordsManager,
    Role::Approver,
    Role::Administrator,
];

/// Whether some seating gives each required role a person of its own, by trying them all.
fn seatable(required: &[Role], people: &[Vec<Role>], taken: &mut Vec<usize>) -> bool {
    let Some((role, rest)) = required.split_first() else {
        return true;
    };
    (0..people.len()).any(|index| {
        if taken.contains(&index) || !people[index].contains(role) {
            return false;
        }
        taken.push(index);
        let seated = seatable(rest, people, taken);
        taken.pop();
        seated
    })
}

proptest! {
    /// A release is permitted exactly when the people are enough, each may approve, and the roles can be seated.
    #[test]
    fn releases_agree_with_the_oracle(
        people in proptest::collection::vec(proptest::sample::subsequence(HELD.to_vec(), 0..=3), 0..6),
        required in 1_usize..=3,
        records in 1_u64..=20,
    ) {
        let required = &REQUIRED[..required];
        let names: Vec<&str> = required.iter().map(|role| role.as_str()).collect();
        let rule = ApprovalRule::new(3, &names, 10).expect("valid");
        let approvals: Vec<Signer> = people
            .iter()
            .enumerate()
            .map(|(index, roles)| signer(&format!("person-{index}"), roles, NOW))
            .collect();
        let may_approve = |roles: &Vec<Role>| roles.iter().any(|role| *role == Role::Approver || required.contains(role));
        let expected = people.len() >= 3 + usize::from(records > 10)
            && people.iter().all(may_approve)
            && seatable(required, &people, &mut Vec::new());
        prop_assert_eq!(release(&rule, records, &approvals).is_ok(), expected);
    }
}

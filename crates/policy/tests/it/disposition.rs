//! Nothing is destroyed early, while held, or by one person; control row 2 and attack 57.

use std::collections::BTreeMap;

use greffe_policy::{
    Disposition, DispositionCase, Events, ExtendError, Extension, HoldLedger, HoldRelease, HoldSet,
    KeepReason, QuorumError, Role, Signer, StandingHold, TrustedNow, decide, extend, release_hold,
};
use greffe_types::Millis;
use proptest::prelude::*;

use crate::support::{at, hold_id, matter, pack, record, signer, witnessed};

const YEAR: u64 = 366 * 86_400_000;

fn both(when: Millis) -> Vec<Signer> {
    vec![
        signer("max", &[Role::RecordsManager], when),
        signer("lea", &[Role::Legal], when),
    ]
}

fn case<'a>(
    class: &'a str,
    archived_at: Millis,
    events: &'a Events,
    holds: &'a HoldSet,
    approvals: &'a [Signer],
) -> DispositionCase<'a> {
    let pack = pack("us-broker-dealer");
    DispositionCase {
        pack,
        record: record(1),
        class,
        archived_at,
        retain_until: pack.retain_until(class, archived_at).expect("known class"),
        events,
        holds,
        requester: "rita",
        approvals,
    }
}

#[test]
fn a_record_goes_when_its_clock_has_run_and_two_people_say_so() {
    let archived_at = at("2026-11-23T06:00:00Z");
    let end = at("2029-11-23T06:00:00Z");
    let (events, holds, approvals) = (Events::none(), HoldSet::default(), both(end));
    let case = case("communication", archived_at, &events, &holds, &approvals);
    let before = Millis::new(end.get() - 1);
    assert_eq!(
        decide(&case, witnessed(before)),
        Ok(Disposition::Keep(vec![KeepReason::RetainedUntil(end)]))
    );
    let Ok(Disposition::Dispose(permit)) = decide(&case, witnessed(end)) else {
        panic!("must be permitted");
    };
    assert_eq!(permit.what().record, record(1));
    assert_eq!(permit.into_inner().approvers, ["lea", "max"]);
}

#[test]
fn approvals_must_be_two_people_not_the_requester_and_not_in_advance() {
    let archived_at = at("2026-11-23T06:00:00Z");
    let now = at("2030-01-01T00:00:00Z");
    let (events, holds) = (Events::none(), HoldSet::default());
    let refused = |approvals: &[Signer]| match decide(
        &case("communication", archived_at, &events, &holds, approvals),
        witnessed(now),
    ) {
        Ok(Disposition::NeedsApproval(error)) => error,
        other => panic!("must need approval: {other:?}"),
    };
    let all = [Role::RecordsManager, Role::Legal, Role::Administrator];
    assert_eq!(
        refused(&[signer("max", &all, now)]),
        QuorumError::TooFew { have: 1, need: 2 }
    );
    assert_eq!(
        refused(&[signer("max", &all, now), signer("rita", &all, now)]),
        QuorumError::SelfApproval("rita".into())
    );
    assert_eq!(
        refused(&both(at("2029-11-23T05:59:59Z"))),
        QuorumError::TooEarly("max".into())
    );
}

#[test]
fn an_open_event_keeps_the_record_whatever_the_date() {
    let archived_at = at("2026-01-01T00:00:00Z");
    let now = at("2070-01-01T00:00:00Z");
    let (none, holds, approvals) = (Events::none(), HoldSet::default(), both(now));
    let open = case("account", archived_at, &none, &holds, &approvals);
    assert_eq!(
        decide(&open, witnessed(now)),
        Ok(Disposition::Keep(vec![KeepReason::Awaiting(
            "account-closed".into()
        )]))
    );
    let closed = Events::none().with("account-closed", at("2060-01-01T00:00:00Z"));
    let closed = case("account", archived_at, &closed, &holds, &approvals);
    assert!(matches!(
        decide(&closed, witnessed(now)),
        Ok(Disposition::Dispose(_))
    ));
    assert!(matches!(
        decide(&closed, witnessed(at("2065-12-31T00:00:00Z"))),
        Ok(Disposition::Keep(_))
    ));
}

/// Controls, row 2: shorten, delete, and a clock ten years ahead, as the highest role: all refused.
#[test]
fn control_02_nothing_shortens_retention() {
    let archived_at = at("2026-11-23T06:00:00Z");
    let now = at("2026-11-24T06:00:00Z");
    let everyone: Vec<Signer> = ["ann", "bob", "cleo"]
        .map(|person| signer(person, &Role::ALL, now))
        .to_vec();
    let (events, holds) = (Events::none(), HoldSet::default());
    let case = case("communication", archived_at, &events, &holds, &everyone);

    for to in [
        0,
        now.get(),
        case.retain_until.get() - 1,
        case.retain_until.get(),
    ] {
        let shorter = extend(&Extension {
            pack: case.pack,
            record: case.record,
            class: case.class,
            archived_at,
            events: &events,
            current: case.retain_until,
            to: Millis::new(to),
            now,
            signers: &everyone,
        });
        assert!(matches!(shorter, Err(ExtendError::NotLonger { .. })));
    }

    let kept = Disposition::Keep(vec![KeepReason::RetainedUntil(case.retain_until)]);
    assert_eq!(decide(&case, witnessed(now)), Ok(kept));

    let ten_years_on = Millis::new(now.get() + 10 * YEAR);
    let witnesses = BTreeMap::from([("w1".to_owned(), now), ("w2".to_owned(), now)]);
    let error = TrustedNow::agree(ten_years_on, &witnesses, 1).expect_err("must refuse");
    assert_eq!(error.reason(), "CLOCK_DISAGREEMENT");
    // A pinned date stands even where the pack computes an earlier one.
    let pinned = DispositionCase {
        retain_until: ten_years_on,
        ..case.clone()
    };
    assert_eq!(
        decide(&pinned, witnessed(at("2031-01-01T00:00:00Z"))),
        Ok(Disposition::Keep(vec![KeepReason::RetainedUntil(
            ten_years_on
        )]))
    );
    // And a wrongly short one does not undercut the pack.
    let short = DispositionCase {
        retain_until: Millis::new(0),
        ..case
    };
    assert!(matches!(
        decide(&short, witnessed(now)),
        Ok(Disposition::Keep(_))
    ));
}

#[test]
fn extension_past_a_maximum_is_for_legal_to_settle() {
    let archived_at = at("2026-11-23T06:00:00Z");
    let now = at("2027-11-23T06:00:00Z");
    let events = Events::none();
    let extension = |to: &str, signers: &[Signer]| {
        extend(&Extension {
            pack: pack("fr-corporate-archive"),
            record: record(1),
            class: "commercial-correspondence",
            archived_at,
            events: &events,
            current: at("2031-11-23T06:00:00Z"),
            to: at(to),
            now,
            signers,
        })
        .map(|permit| permit.into_inner().to)
        .map_err(|error| error.reason())
    };
    let max = [signer("max", &[Role::RecordsManager], now)];
    assert_eq!(
        extension("2032-11-23T06:00:00Z", &max),
        Ok(at("2032-11-23T06:00:00Z"))
    );
    assert_eq!(
        extension("2032-11-23T06:00:01Z", &max),
        Err("RETENTION_CONFLICT")
    );
    assert!(extension("2032-11-23T06:00:01Z", &both(now)).is_ok());
    assert!(extension("2032-01-01T00:00:00Z", &[]).is_err());
    // Short of the maximum legal alone may extend, too.
    let lea = [signer("lea", &[Role::Legal], now)];
    assert!(extension("2032-01-01T00:00:00Z", &lea).is_ok());
    assert_eq!(
        extension(
            "2032-01-01T00:00:00Z",
            &[signer("adam", &[Role::Administrator], now)]
        ),
        Err("APPROVALS_NOT_AN_APPROVER")
    );
}

#[test]
fn releasing_a_hold_takes_two_people_and_a_cooling_off_period() {
    let now = at("2030-01-01T00:00:00Z");
    let release = |signers: &[Signer]| {
        release_hold(&HoldRelease {
            pack: pack("us-broker-dealer"),
            hold: hold_id(1),
            placed_at: at("2029-01-01T00:00:00Z"),
            now,
            signers,
        })
    };
    let permit = release(&both(now)).expect("two people").into_inner();
    assert_eq!(permit.effective_at, at("2030-01-04T00:00:00Z"));
    assert!(release(&both(now)[..1]).is_err());
    assert!(release(&[signer("lea", &[Role::Legal, Role::RecordsManager], now)]).is_err());
    assert!(release(&both(at("2028-12-31T00:00:00Z"))).is_err());
}

#[test]
fn a_released_hold_resumes_retention_and_approvals_start_anew() {
    let archived_at = at("2020-01-01T00:00:00Z");
    let effective = at("2030-01-04T00:00:00Z");
    let hold = StandingHold {
        id: hold_id(1),
        matter: matter(1),
        release_effective_at: Some(effective),
    };
    let holds: HoldSet = [hold.clone()].into_iter().collect();
    let events = Events::none();
    let earlier = both(at("2030-01-03T00:00:00Z"));
    let early = case("communication", archived_at, &events, &holds, &earlier);
    assert_eq!(
        decide(&early, witnessed(Millis::new(effective.get() - 1))),
        Ok(Disposition::Keep(vec![KeepReason::Held(hold)]))
    );
    assert!(matches!(
        decide(&early, witnessed(effective)),
        Ok(Disposition::NeedsApproval(QuorumError::TooEarly(_)))
    ));
    let after = both(effective);
    assert!(matches!(
        decide(
            &case("communication", archived_at, &events, &holds, &after),
            witnessed(effective)
        ),
        Ok(Disposition::Dispose(_))
    ));
}

#[test]
fn a_hold_that_reaches_a_record_twice_stands_until_its_later_release() {
    let (early, late) = (Millis::new(10), Millis::new(20));
    let standing = |releases: [Option<Millis>; 2], now: u64| {
        let holds: HoldSet = releases
            .map(|release_effective_at| StandingHold {
                id: hold_id(1),
                matter: matter(1),
                release_effective_at,
            })
            .into_iter()
            .collect();
        holds.standing(Millis::new(now)).count()
    };
    for releases in [[Some(early), Some(late)], [Some(late), Some(early)]] {
        assert_eq!([10, 19, 20].map(|now| standing(releases, now)), [1, 1, 0]);
    }
    for releases in [[Some(early), None], [None, Some(early)], [None, None]] {
        assert_eq!(standing(releases, 30), 1);
    }
}

/// What an attacker, or a busy legal department, may do to holds.
#[derive(Debug, Clone)]
enum Act {
    Place { hold: u8, records: Vec<u8> },
    Release { hold: u8 },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        2 => (0_u8..5, proptest::collection::vec(0_u8..6, 1..6))
            .prop_map(|(hold, records)| Act::Place { hold, records }),
        1 => (0_u8..5).prop_map(|hold| Act::Release { hold }),
    ];
    proptest::collection::vec(act, 1..30)
}

proptest! {
    /// Overlapping holds, some released: a record goes if and only if no unreleased hold ever took it.
    #[test]
    fn attack_57_overlapping_holds_one_released_the_record_stays(acts in acts()) {
        let archived_at = at("2020-01-01T00:00:00Z");
        let released_at = at("2030-01-01T00:00:00Z");
        let mut ledger = HoldLedger::default();
        let mut released = [false; 5];
        let mut taken = [[false; 6]; 5];
        for act in acts {
            match act {
                Act::Place { hold, records } => {
                    let placed = ledger.place(hold_id(hold), matter(hold), records.iter().map(|r| record(*r)));
                    prop_assert_eq!(placed.is_err(), released[usize::from(hold)]);
                    if placed.is_ok() {
                        records.iter().for_each(|r| taken[usize::from(hold)][usize::from(*r)] = true);
                    }
                }
                Act::Release { hold } => {
                    let signers = both(released_at);
                    let permit = release_hold(&HoldRelease {
                        pack: pack("us-broker-dealer"),
                        hold: hold_id(hold),
                        placed_at: archived_at,
                        now: released_at,
                        signers: &signers,
                    }).expect("two people");
                    let known = taken[usize::from(hold)].contains(&true);
                    prop_assert_eq!(ledger.release(permit).is_ok(), known);
                    released[usize::from(hold)] |= known;
                }
            }
        }
        let now = at("2031-01-01T00:00:00Z");
        let (events, approvals) = (Events::none(), both(now));
        for number in 0..6_u8 {
            let holds = ledger.on(&record(number));
            let case = DispositionCase {
                record: record(number),
                ..case("communication", archived_at, &events, &holds, &approvals)
            };
            let stands = (0..5).filter(|hold| taken[*hold][usize::from(number)] && !released[*hold]).count();
            match decide(&case, witnessed(now)).expect("known class") {
                Disposition::Keep(reasons) => prop_assert_eq!(reasons.len(), stands),
                Disposition::Dispose(_) => prop_assert_eq!(stands, 0),
                Disposition::NeedsApproval(error) => prop_assert!(false, "{}", error),
            }
        }
    }

    /// No choice of dates, holds and approvals destroys a record before its time or while it is held.
    #[test]
    fn nothing_goes_early(now in 0_u64..4_000_000_000_000, archived in 0_u64..2_000_000_000_000, pinned in 0_u64..4_000_000_000_000, held in any::<bool>(), approved in 0_u64..4_000_000_000_000) {
        let (now, archived) = (Millis::new(now), Millis::new(archived));
        let holds: HoldSet = held.then(|| StandingHold { id: hold_id(1), matter: matter(1), release_effective_at: None }).into_iter().collect();
        let (events, approvals) = (Events::none(), both(Millis::new(approved)));
        let computed = case("communication", archived, &events, &holds, &approvals);
        let floor = computed.retain_until;
        let case = DispositionCase { retain_until: Millis::new(pinned), ..computed };
        if let Disposition::Dispose(permit) = decide(&case, witnessed(now)).expect("known class") {
            prop_assert!(!held && now >= floor && now.get() >= pinned);
            prop_assert!(approved >= floor.get() && approved >= pinned);
            prop_assert_eq!(permit.what().decided_at, now);
        }
    }
}

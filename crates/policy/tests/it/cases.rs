//! The test cases that lie beside each pack, and the control rows that they show.

use std::collections::BTreeMap;

use greffe_policy::{Events, Mode, Pack, ReleaseCase, Role, load_folder, permit_release};
use greffe_types::{Millis, TimeRange};
use serde::Deserialize;

use crate::support::{at, edited, pack, record, signer};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    retain: Vec<Retain>,
    refused: Vec<Refused>,
    mode: Vec<ModeCase>,
    approval: Vec<Approval>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retain {
    class: String,
    archived_at: String,
    #[serde(default)]
    events: BTreeMap<String, String>,
    retain_until: String,
    now_until: Option<String>,
    hot_until: String,
    winner: String,
    #[serde(default)]
    awaiting: Vec<String>,
    #[serde(default)]
    conflict: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    class: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModeCase {
    name: String,
    allowed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approval {
    approvers: Vec<Vec<String>>,
    records: u64,
    released: bool,
    reason: Option<String>,
}

fn folder(pack: &Pack) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../policies/packs")
        .join(pack.id())
}

fn cases(pack: &Pack) -> Cases {
    let text = std::fs::read_to_string(folder(pack).join("cases.toml")).expect("readable");
    toml::from_str(&text).expect("cases")
}

#[test]
fn every_folder_is_embedded_and_gives_the_same_digest() {
    let packs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/packs");
    let mut names: Vec<_> = std::fs::read_dir(packs)
        .expect("readable")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    let ids: Vec<_> = Pack::all_embedded().iter().map(Pack::id).collect();
    assert_eq!(names, ids);
    for pack in Pack::all_embedded() {
        let loaded = load_folder(&folder(pack)).expect("valid");
        assert_eq!(loaded.digest(), pack.digest());
    }
}

#[test]
fn retention_is_what_the_cases_say() {
    for pack in Pack::all_embedded() {
        for case in cases(pack).retain {
            let name = format!("{} {:?} {}", pack.id(), case.class, case.archived_at);
            let archived_at = at(&case.archived_at);
            let mut events = Events::none();
            for (event, when) in &case.events {
                events = events.with(event, at(when));
            }
            assert_eq!(
                pack.retain_until(&case.class, archived_at),
                Ok(at(&case.retain_until)),
                "{name}"
            );
            assert_eq!(
                pack.hot_until(&case.class, archived_at),
                Ok(at(&case.hot_until)),
                "{name}"
            );
            let explained = pack
                .explain(&case.class, archived_at, &events)
                .expect("known class");
            let now_until = case.now_until.as_ref().unwrap_or(&case.retain_until);
            assert_eq!(explained.retain_until, at(now_until), "{name}");
            assert_eq!(
                explained.clocks[explained.winner].citation, case.winner,
                "{name}"
            );
            assert_eq!(explained.awaiting, case.awaiting, "{name}");
            assert_eq!(explained.conflict.is_some(), case.conflict, "{name}");
        }
    }
}

#[test]
fn unknown_classes_are_refused_never_defaulted() {
    for pack in Pack::all_embedded() {
        for case in cases(pack).refused {
            let error = pack
                .retain_until(&case.class, Millis::new(0))
                .expect_err("must refuse");
            assert_eq!(error.reason(), case.reason, "{} {}", pack.id(), case.class);
        }
    }
}

#[test]
fn modes_are_what_the_cases_say() {
    for pack in Pack::all_embedded() {
        let cases = cases(pack);
        assert_eq!(cases.mode.len(), 3);
        for case in cases.mode {
            let mode: Mode = case.name.parse().expect("a mode");
            assert_eq!(pack.allows(mode), case.allowed, "{} {mode}", pack.id());
            assert_eq!(pack.modes_allowed().any(|m| m == mode), case.allowed);
        }
    }
}

/// Controls, row 14: an administrators' quorum without compliance is refused.
#[test]
fn control_14_approvals_are_what_the_cases_say() {
    for pack in Pack::all_embedded() {
        for (number, case) in cases(pack).approval.into_iter().enumerate() {
            let now = at("2026-11-23T06:00:00Z");
            let approvals: Vec<_> = case
                .approvers
                .iter()
                .enumerate()
                .map(|(index, roles)| {
                    let roles: Vec<Role> = roles.iter().map(|r| r.parse().expect("role")).collect();
                    signer(&format!("person-{index}"), &roles, now)
                })
                .collect();
            let result = permit_release(
                pack.approval(),
                &ReleaseCase {
                    order: record(1),
                    requester: "rita",
                    records: case.records,
                    window: TimeRange::new(Millis::new(1), Millis::new(u64::MAX)).expect("range"),
                    now,
                    approvals: &approvals,
                },
            );
            assert_eq!(result.is_ok(), case.released, "{} {number}", pack.id());
            if let Err(error) = result {
                assert_eq!(Some(error.reason()), case.reason.as_deref());
            }
        }
    }
}

/// Controls, row 9: `policy explain` prints every clock, its citation and the winner.
#[test]
fn control_09_explanation_names_every_clock_citation_and_winner() {
    let pack = pack("us-broker-dealer");
    let text = pack
        .explain("complaint", at("2026-01-01T00:00:00Z"), &Events::none())
        .expect("known class")
        .to_string();
    assert_eq!(
        text,
        format!(
            "pack us-broker-dealer (digest {})\n\
             class complaint, archived at 2026-01-01T00:00:00Z\n  \
             at least 3 y from archived: 2029-01-01T00:00:00Z [17 CFR 240.17a-4(b)(4); primary text]\n\
             * at least 4 y from archived: 2030-01-01T00:00:00Z [FINRA rule 4513; secondary source]\n\
             kept until 2030-01-01T00:00:00Z by FINRA rule 4513\n\
             designed to help meet these rules; no claim of conformity",
            pack.digest()
        )
    );
    let open = pack
        .explain("account", at("2026-01-01T00:00:00Z"), &Events::none())
        .expect("known class")
        .to_string();
    assert!(open.contains("* at least 6 y from event:account-closed: not before 2032-01-01"));
    assert!(open.contains("until the event account-closed has happened"));
}

#[test]
fn of_minima_that_end_together_the_first_is_named() {
    let pack = edited("us-broker-dealer", "years = 4\n", "years = 3\n").expect("valid");
    let explained = pack
        .explain("complaint", at("2026-01-01T00:00:00Z"), &Events::none())
        .expect("known class");
    assert_eq!(explained.clocks[0].end, explained.clocks[1].end);
    assert_eq!(explained.winner, 0);
}

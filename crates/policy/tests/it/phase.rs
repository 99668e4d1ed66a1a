//! Archive phases: a record leaves the first at an exact instant, and some packs then ask for a case.

use greffe_policy::{Phase, ReadRefused};
use greffe_types::Millis;

use crate::support::{at, matter, pack};

const ARCHIVED: &str = "2026-11-23T06:00:00Z";

#[test]
fn a_record_is_active_until_its_hot_years_are_over() {
    let phase = |now: &str| {
        pack("fr-corporate-archive").phase("commercial-correspondence", at(ARCHIVED), at(now))
    };
    for (now, expected) in [
        (ARCHIVED, Phase::Active),
        ("2027-11-23T05:59:59.999Z", Phase::Active),
        ("2027-11-23T06:00:00Z", Phase::Intermediate),
        ("2040-01-01T00:00:00Z", Phase::Intermediate),
    ] {
        assert_eq!(phase(now), Ok(expected), "{now}");
    }
}

#[test]
fn only_an_intermediate_record_of_a_strict_pack_is_read_for_a_case_only() {
    let (fr, us) = (
        ("fr-corporate-archive", "commercial-correspondence"),
        ("us-broker-dealer", "communication"),
    );
    let (active, intermediate) = ("2027-01-01T00:00:00Z", "2040-01-01T00:00:00Z");
    for ((id, class), now, needs_case) in [
        (fr, active, false),
        (fr, intermediate, true),
        (us, active, false),
        (us, intermediate, false),
    ] {
        let read = |case| pack(id).permit_read(class, at(ARCHIVED), at(now), case);
        let with_case = read(Some(matter(1))).expect("a case is given");
        assert_eq!(with_case.what().matter, Some(matter(1)));
        match read(None) {
            Ok(permit) => {
                assert!(!needs_case, "{id} {now}");
                assert_eq!(permit.what().matter, None);
            }
            Err(error) => {
                assert!(needs_case, "{id} {now}");
                assert_eq!(error, ReadRefused::NoCase);
            }
        }
    }
}

#[test]
fn a_record_of_an_unknown_class_is_not_read() {
    let refused = pack("us-broker-dealer")
        .permit_read("tweet", at(ARCHIVED), Millis::new(0), Some(matter(1)))
        .expect_err("must refuse");
    assert_eq!(refused.reason(), "RECORD_CLASS_UNKNOWN");
}

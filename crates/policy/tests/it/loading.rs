//! Packs are refused for what they get wrong, and identified by every byte.

use std::fs;

use greffe_policy::{ApprovalRule, Clock, LintError, Pack, PackError, PackTexts, load_folder};
use greffe_types::Digest;
use proptest::prelude::*;

use crate::support::{edited, edited_notice, lint, pack};

/// Controls, row 14: packs encode maxima as well as minima, and min > max is refused.
#[test]
fn control_14_a_minimum_over_a_maximum_is_refused() {
    let fr = "fr-corporate-archive";
    let shorter = "5 years, and no longer than 6";
    // The text would have to say so too; the number is in the citation-free part of the same line.
    assert!(matches!(
        lint(edited(
            fr,
            "years = 6\nfrom = \"archived\"",
            "years = 4\nfrom = \"archived\""
        )),
        LintError::Years { years: 4, .. }
    ));
    let mut texts = pack(fr).texts().clone();
    texts.pack = texts
        .pack
        .replace(shorter, "5 years, and no longer than 4")
        .replace("5 ans, et au plus 6", "5 ans, et au plus 4")
        .replace(
            "years = 6\nfrom = \"archived\"",
            "years = 4\nfrom = \"archived\"",
        );
    assert_eq!(
        lint(Pack::from_texts(texts)),
        LintError::MinimumOverMaximum {
            class: "commercial-correspondence".into(),
            minimum: 5,
            maximum: 4
        }
    );
    // A financial year can end a year and a day after the receipt.
    assert!(matches!(
        lint(edited(
            fr,
            "years = 11\nfrom = \"fiscal-year-end\"",
            "years = 11\nfrom = \"archived\""
        )),
        LintError::MinimumOverMaximum {
            minimum: 10,
            maximum: 11,
            ..
        }
    ));
}

#[test]
fn unknown_or_missing_keys_are_refused() {
    let us = "us-broker-dealer";
    for (from, to) in [
        ("version = 1", "version = 1\nretain_forever = false"),
        ("hot_years = 2\n", ""),
        ("minimum = 2", "minimum = 2\nminimun = 1"),
        ("years = 3\n", "years = 3\nmonths = 1\n"),
        ("years = 3\n", "years = -3\n"),
        ("years = 3\n", "years = \"3\"\n"),
        ("citation = \"17 CFR 240.17a-4(b)(4)\"\n", ""),
    ] {
        assert!(
            matches!(edited(us, from, to), Err(PackError::Syntax(_))),
            "{from} -> {to}"
        );
    }
}

#[test]
fn contradictions_are_refused() {
    let us = "us-broker-dealer";
    for (from, to) in [
        ("version = 1", "version = 0"),
        ("languages = [\"en\", \"fr\"]", "languages = [\"en\"]"),
        (
            "languages = [\"en\", \"fr\"]",
            "languages = [\"en\", \"fr\", \"de\"]",
        ),
        (
            "languages = [\"en\", \"fr\"]",
            "languages = [\"en\", \"fr\", \"fr\"]",
        ),
        (
            "message_class = \"communication\"",
            "message_class = \"tweet\"",
        ),
        (
            "unclassified_class = \"general\"",
            "unclassified_class = \"tweet\"",
        ),
        ("[modes.supervised]", "[modes.watched]"),
        ("[modes.supervised]", "[modes.private]"),
        ("minimum = 2", "minimum = 1"),
        ("minimum = 2", "minimum = 64"),
        ("role = \"approver\"", "role = \"compliance\""),
        ("role = \"approver\"", "role = \"boss\""),
        (
            "roles = [\"records-manager\", \"legal\"]",
            "roles = [\"records-manager\"]",
        ),
        (
            "roles = [\"legal\", \"records-manager\"]",
            "roles = [\"legal\", \"administrator\"]",
        ),
        ("cooling_off_hours = 72", "cooling_off_hours = 0"),
        ("name = \"general\"", "name = \"communication\""),
        ("name = \"blotter\"", "name = \"Blotter\""),
        ("hot_years = 2", "hot_years = 0"),
        ("years = 3\n", "years = 0\n"),
        ("years = 3\n", "years = 101\n"),
        ("from = \"archived\"", "from = \"fiscal-year-end\""),
        ("from = \"archived\"", "from = \"whenever\""),
        ("from = \"event:account-closed\"", "from = \"event:\""),
        ("evidence = \"primary\"", "evidence = \"hearsay\""),
        ("citation = \"17 CFR 240.17a-4(b)(4)\"", "citation = \" \""),
        (
            "retention = { en = \"3 years\"",
            "retention = { en = \"30 years\"",
        ),
        ("[purpose]\nen = \"", "[purpose]\nde = \""),
    ] {
        lint(edited(us, from, to));
    }
}

/// JPMorgan 2023: a default that is shorter than what the law asks must not be possible to write.
#[test]
fn unclassified_records_are_not_kept_less_long_than_classified_ones() {
    assert_eq!(
        lint(edited(
            "us-broker-dealer",
            "unclassified_class = \"general\"",
            "unclassified_class = \"communication\""
        )),
        LintError::UnclassifiedShorter("general".into())
    );
}

#[test]
fn notices_must_make_every_point_and_show_every_value() {
    for point in greffe_policy::POINTS {
        let marker = format!("<!-- point: {point} -->\n");
        assert!(
            matches!(
                lint(edited_notice(&marker, "")),
                LintError::NoticePoint { .. } | LintError::NoticeValue { .. }
            ),
            "{point}"
        );
        let twice = format!("{marker}{marker}");
        assert!(matches!(
            lint(edited_notice(&marker, &twice)),
            LintError::NoticePoint { .. }
        ));
    }
    for value in [
        "key_fingerprint",
        "holders",
        "threshold",
        "purpose",
        "legal_basis",
        "retention",
        "approval_minimum",
        "approval_roles",
        "contact",
    ] {
        let shown = format!("{{{{{value}}}}}");
        assert!(
            matches!(
                lint(edited_notice(&shown, "it")),
                LintError::NoticeValue { placeholder, .. } if placeholder == value
            ),
            "{value}"
        );
    }
    assert!(matches!(
        lint(edited_notice("{{tenant}}", "{{tenent}}")),
        LintError::NoticePlaceholder { .. }
    ));
    assert!(matches!(
        lint(edited_notice("{{tenant}}", "{{tenant")),
        LintError::NoticePlaceholder { .. }
    ));
    assert!(matches!(
        lint(edited_notice("\n", "\r\n")),
        LintError::Bytes(_)
    ));
}

#[test]
fn a_private_notice_goes_with_private_mode() {
    let fr = "fr-corporate-archive";
    lint(edited(fr, "[modes.private]", "[modes.supervised]"));
    lint(edited(fr, "Write to: {{contact}}.", "Write to us."));
    lint(edited(
        fr,
        "No journaling key applies",
        "The key {{key_fingerprint}} applies",
    ));
}

/// Controls, row 17: an edited pack is another pack.
#[test]
fn every_edit_changes_the_digest() {
    let us = pack("us-broker-dealer");
    let title =
        edited("us-broker-dealer", "title = \"Broker", "title = \"A broker").expect("valid");
    assert_ne!(title.digest(), us.digest());
    let notice =
        edited_notice("sealed to a journaling key", "sealed to the journaling key").expect("valid");
    assert_ne!(notice.digest(), us.digest());
    assert_ne!(notice.digest(), title.digest());
    assert_ne!(us.digest(), pack("fr-corporate-archive").digest());
}

#[test]
fn a_pack_tells_its_version_title_and_purpose() {
    let later = edited("us-broker-dealer", "version = 1", "version = 7").expect("valid");
    assert_eq!(later.version(), 7);
    assert_eq!(later.title(), "Broker-dealer communications, United States");
    assert_eq!(
        later.purpose("en"),
        Some(
            "keeping the business communications that the law requires a broker-dealer to keep, \
             and showing them to its examiners"
        )
    );
    assert_eq!(later.purpose("de"), None);
}

#[test]
fn a_class_tells_its_texts_and_clocks() {
    let complaint = pack("us-broker-dealer").class("complaint").expect("known");
    assert_eq!(complaint.name(), "complaint");
    assert_eq!(complaint.title("fr"), Some("Réclamations"));
    assert_eq!(complaint.title("de"), None);
    assert_eq!(complaint.hot_years(), 2);
    let accounting = pack("fr-corporate-archive")
        .class("accounting")
        .expect("known");
    let years = |clocks: &[Clock]| clocks.iter().map(|clock| clock.years).collect::<Vec<_>>();
    assert_eq!(years(complaint.minima()), [3, 4]);
    assert_eq!(years(complaint.maxima()), [0; 0]);
    assert_eq!(years(accounting.minima()), [10]);
    assert_eq!(years(accounting.maxima()), [11]);
}

/// The encoding is as documented, computed here by hand.
#[test]
fn the_digest_is_sha256_of_the_documented_bytes() {
    use sha2::Digest as _;
    for pack in Pack::all_embedded() {
        let mut bytes = Vec::new();
        let mut lp = |text: &[u8]| {
            bytes.extend_from_slice(&u32::try_from(text.len()).expect("short").to_be_bytes());
            bytes.extend_from_slice(text);
        };
        lp(b"greffe/v1/policy-pack");
        lp(pack.texts().pack.as_bytes());
        bytes.extend_from_slice(&2_u32.to_be_bytes());
        for language in ["en", "fr"] {
            for part in [language, &pack.texts().notices[language]] {
                bytes.extend_from_slice(&u32::try_from(part.len()).expect("short").to_be_bytes());
                bytes.extend_from_slice(part.as_bytes());
            }
        }
        assert_eq!(pack.canonical(), bytes);
        let digest: [u8; 32] = sha2::Sha256::digest(&bytes).into();
        assert_eq!(pack.digest(), Digest::new(digest));
    }
}

#[test]
fn canonical_bytes_round_trip_and_admit_nothing_else() {
    let us = pack("us-broker-dealer");
    let again = Pack::from_canonical(us.canonical()).expect("valid");
    assert_eq!((again.id(), again.digest()), (us.id(), us.digest()));
    assert_eq!(again.texts(), us.texts());
    let mut longer = us.canonical().to_vec();
    longer.push(0);
    assert!(matches!(
        Pack::from_canonical(&longer),
        Err(PackError::Canonical)
    ));
    // Languages out of order decode to the same pack, but are not its canonical bytes.
    let texts = us.texts();
    let mut swapped = Vec::new();
    let mut lp = |text: &str| {
        swapped.extend_from_slice(&u32::try_from(text.len()).expect("short").to_be_bytes());
        swapped.extend_from_slice(text.as_bytes());
    };
    lp("greffe/v1/policy-pack");
    lp(&texts.pack);
    swapped.extend_from_slice(&2_u32.to_be_bytes());
    for language in ["fr", "en"] {
        for part in [language, &texts.notices[language]] {
            swapped.extend_from_slice(&u32::try_from(part.len()).expect("short").to_be_bytes());
            swapped.extend_from_slice(part.as_bytes());
        }
    }
    assert!(matches!(
        Pack::from_canonical(&swapped),
        Err(PackError::Canonical)
    ));
}

#[test]
fn a_folder_holds_one_pack_and_nothing_else() {
    let root = tempfile::tempdir().expect("temporary folder");
    let folder = root.path().join("us-broker-dealer");
    fs::create_dir(&folder).expect("created");
    let texts: &PackTexts = pack("us-broker-dealer").texts();
    fs::write(folder.join("pack.toml"), &texts.pack).expect("written");
    for (language, text) in &texts.notices {
        fs::write(folder.join(format!("notice.{language}.md")), text).expect("written");
    }
    let loaded = load_folder(&folder).expect("valid");
    assert_eq!(loaded.digest(), pack("us-broker-dealer").digest());
    fs::write(folder.join("notice.de.md"), "Hinweis").expect("written");
    assert!(load_folder(&folder).is_err());
    fs::remove_file(folder.join("notice.de.md")).expect("removed");
    fs::write(folder.join("pack.toml.orig"), "").expect("written");
    assert!(load_folder(&folder).is_err());
    fs::remove_file(folder.join("pack.toml.orig")).expect("removed");
    let renamed = root.path().join("us-brokers");
    fs::rename(&folder, &renamed).expect("renamed");
    assert!(load_folder(&renamed).is_err());
    assert!(load_folder(&folder).is_err());
}

#[test]
fn an_approval_rule_takes_two_people_and_is_compared() {
    let rule = |minimum, roles: &[&str], bulk| ApprovalRule::new(minimum, roles, bulk);
    assert!(rule(1, &["legal"], 10).is_err());
    assert!(rule(2, &[] as &[&str], 10).is_err());
    assert!(rule(2, &["legal", "legal"], 10).is_err());
    assert!(rule(2, &["legal", "compliance", "approver"], 10).is_err());
    let pack = pack("us-broker-dealer").approval();
    let bundle = |minimum, roles: &[&str], bulk| {
        rule(minimum, roles, bulk).expect("valid").is_at_least(pack)
    };
    assert!(bundle(2, &["compliance", "approver"], 100));
    assert!(bundle(3, &["compliance", "approver", "legal"], 10));
    assert!(!bundle(3, &["compliance"], 100));
    assert!(!bundle(2, &["compliance", "approver"], 101));
}

proptest! {
    /// Any bytes are a typed error or a pack, never a panic, and never a second encoding of one.
    #[test]
    fn canonical_bytes_from_anywhere(position in 0_usize..20_000, value in any::<u8>(), cut in any::<bool>()) {
        let us = pack("us-broker-dealer");
        let mut bytes = us.canonical().to_vec();
        let position = position % bytes.len();
        if cut { bytes.truncate(position) } else { bytes[position] = value }
        if let Ok(other) = Pack::from_canonical(&bytes) {
            prop_assert_eq!(other.canonical(), &bytes[..]);
            prop_assert_eq!(other.digest() == us.digest(), bytes == us.canonical());
        }
    }
}

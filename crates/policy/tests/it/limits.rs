//! Packs at the very edge of what they may say: accepted there, refused one step further.

use greffe_policy::{LintError, Pack, PackError, PackTexts};

use crate::support::{edited, edited_notice, lint, pack};

const US: &str = "us-broker-dealer";
const FR: &str = "fr-corporate-archive";

/// Commercial correspondence with another minimum and another maximum, the texts saying so.
fn bounded(minimum: (u16, &str), maximum: (u16, &str)) -> Result<Pack, PackError> {
    let mut texts = pack(FR).texts().clone();
    let clock = |(years, from): (u16, &str)| format!("years = {years}\nfrom = \"{from}\"");
    for (from, to) in [
        (clock((5, "archived")), clock(minimum)),
        (clock((6, "archived")), clock(maximum)),
        (
            "5 years, and no longer than 6".to_owned(),
            format!("{} years, and no longer than {}", minimum.0, maximum.0),
        ),
        (
            "5 ans, et au plus 6".to_owned(),
            format!("{} ans, et au plus {}", minimum.0, maximum.0),
        ),
    ] {
        assert!(texts.pack.contains(&from), "{from}");
        texts.pack = texts.pack.replacen(&from, &to, 1);
    }
    Pack::from_texts(texts)
}

#[test]
fn a_minimum_may_reach_a_maximum_but_not_pass_it() {
    let (receipt, year_end) = ("archived", "fiscal-year-end");
    let (sale, closing) = ("event:sale", "event:closing");
    for (minimum, from, maximum, until) in [
        (5, receipt, 5, receipt),
        (5, year_end, 5, year_end),
        // The end of the financial year can be a year and a day after the receipt.
        (5, year_end, 7, receipt),
        (5, receipt, 5, year_end),
        (5, sale, 5, sale),
        (5, sale, 5, receipt),
    ] {
        let name = format!("{minimum} from {from}, {maximum} from {until}");
        assert!(bounded((minimum, from), (maximum, until)).is_ok(), "{name}");
        assert_eq!(
            lint(bounded((minimum, from), (maximum - 1, until))),
            LintError::MinimumOverMaximum {
                class: "commercial-correspondence".into(),
                minimum,
                maximum: maximum - 1,
            },
            "{name}"
        );
    }
    // An event can come so late that the longer minimum is over first: for the engine to see, record by record.
    for (from, until) in [(receipt, sale), (year_end, sale), (sale, closing)] {
        assert!(bounded((5, from), (1, until)).is_ok(), "{from}, {until}");
    }
}

/// The broker-dealer's pack with another clock for a class that is kept six years, the texts saying so.
fn kept(class: &str, years: u16, from: &str) -> Result<Pack, PackError> {
    let mut texts = pack(US).texts().clone();
    let name = format!("name = \"{class}\"");
    let (before, after) = texts.pack.split_once(&name).expect("the class");
    let old = after
        .split("from = \"")
        .nth(1)
        .and_then(|old| old.split('"').next());
    let old = format!("years = 6\nfrom = \"{}\"", old.expect("its clock"));
    let after = after
        .replacen(&old, &format!("years = {years}\nfrom = \"{from}\""), 1)
        .replacen("6 years", &format!("{years} years"), 1)
        .replacen("6 ans", &format!("{years} ans"), 1);
    let before = before.replacen("version = 1", "version = 1\nfiscal_year_end = \"12-31\"", 1);
    texts.pack = format!("{before}{name}{after}");
    Pack::from_texts(texts)
}

/// General records, which are also the unclassified ones, are kept six years, as the blotter is.
#[test]
fn unclassified_records_outlast_what_runs_from_the_receipt() {
    let (receipt, year_end, closed) = ("archived", "fiscal-year-end", "event:account-closed");
    for (class, years, from, longer) in [
        ("blotter", 6, receipt, None),
        ("blotter", 7, receipt, Some("blotter")),
        // The end of a financial year may be two years off for others, and is as near as the receipt for the unclassified.
        ("blotter", 4, year_end, None),
        ("blotter", 5, year_end, Some("blotter")),
        ("general", 6, year_end, None),
        ("general", 4, year_end, Some("blotter")),
        // An unclassified record knows no event: it needs not outlast one, and is not kept by one.
        ("account", 100, closed, None),
        ("general", 100, closed, Some("communication")),
    ] {
        let name = format!("{class}, {years} years from {from}");
        match longer {
            None => assert!(kept(class, years, from).is_ok(), "{name}"),
            Some(longer) => assert_eq!(
                lint(kept(class, years, from)),
                LintError::UnclassifiedShorter(longer.into()),
                "{name}"
            ),
        }
    }
}

#[test]
fn a_financial_year_ends_on_a_day_of_every_year() {
    let ends = |day: &str| edited(FR, "\"12-31\"", &format!("\"{day}\""));
    for day in ["12-31", "06-30", "02-28"] {
        assert!(ends(day).is_ok(), "{day}");
    }
    for day in ["02-29", "13-01", "12-32", "6-30", "06-1", "12-+1", "1231"] {
        assert!(
            matches!(lint(ends(day)), LintError::Value { key, .. } if key == "fiscal_year_end"),
            "{day}"
        );
    }
}

#[test]
fn a_released_hold_cools_off_for_at_most_a_year() {
    let cooling_off = |hours: u32| {
        let to = format!("cooling_off_hours = {hours}");
        edited(US, "cooling_off_hours = 72", &to)
    };
    for hours in [1, 366 * 24] {
        let pack = cooling_off(hours).expect("valid");
        let seconds = pack.hold_release().cooling_off().as_secs();
        assert_eq!(seconds, u64::from(hours) * 3600);
    }
    lint(cooling_off(366 * 24 + 1));
}

#[test]
fn languages_are_two_to_eight_small_letters_and_hyphens() {
    let in_language = |code: &str| {
        let PackTexts { pack, mut notices } = pack(US).texts().clone();
        let notice = notices.remove("fr").expect("French");
        notices.insert(code.to_owned(), notice);
        let pack = pack.replace("fr = ", &format!("{code} = ")).replacen(
            "\"fr\"]",
            &format!("\"{code}\"]"),
            1,
        );
        Pack::from_texts(PackTexts { pack, notices })
    };
    for code in ["de", "fr-ca", "frenchca"] {
        let pack = in_language(code).expect(code);
        assert!(pack.languages().contains(&code.to_owned()), "{code}");
    }
    for code in ["f", "FR", "fr_ca", "fr2", "french-ca"] {
        assert!(
            matches!(lint(in_language(code)), LintError::Value { key, .. } if key == "languages"),
            "{code}"
        );
    }
}

#[test]
fn a_text_has_64_kibibytes_at_most() {
    let of_length = |length: usize| {
        let mut texts = pack(US).texts().clone();
        texts.pack.push('#');
        texts
            .pack
            .extend(std::iter::repeat_n('x', length - texts.pack.len()));
        Pack::from_texts(texts)
    };
    assert!(of_length(65_536).is_ok());
    for length in [65_537, 70_000] {
        assert_eq!(
            lint(of_length(length)),
            LintError::Bytes("pack.toml".into())
        );
    }
}

#[test]
fn a_point_of_a_notice_is_made_with_twenty_letters() {
    let notice = &pack(US).texts().notices["en"];
    let (_, body) = notice
        .split_once("## A journaling key exists\n")
        .expect("the heading");
    let (body, _) = body.split_once("\n\n<!-- point").expect("another point");
    let said_in = |letters: usize| edited_notice(body, &"1 a, ".repeat(letters));
    assert!(said_in(20).is_ok());
    assert!(matches!(
        lint(said_in(19)),
        LintError::NoticePoint { point, .. } if point == "journaling-key"
    ));
}

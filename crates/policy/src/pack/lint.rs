//! From the TOML of a pack to its model: everything a pack can get wrong is refused here, with the place named.

use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;

use super::PackTexts;
use super::model::{
    ApprovalRule, ApprovalRuleError, Clock, Evidence, HoldReleaseRule, Model, RecordClass, Start,
};
use super::raw::{self, Localised};
use crate::notice;
use crate::{Mode, ModeError, Role, RoleError, calendar};

/// Bytes of one text of a pack.
const MAX_TEXT: usize = 64 * 1024;
/// Years of one clock.
const MAX_YEARS: u16 = 100;

/// Why a pack does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LintError {
    /// A text has a carriage return or a byte order mark, or is over 64 KiB: its digest would depend on the checkout.
    #[error("{0} has a carriage return or byte order mark, or is over 64 KiB")]
    Bytes(String),
    /// A value is not what its key demands.
    #[error("{key}: {demand}")]
    Value {
        /// Where.
        key: String,
        /// What is demanded.
        demand: &'static str,
    },
    /// Texts are not given in exactly the pack's languages.
    #[error("{0} is not given in exactly the pack's languages")]
    Languages(String),
    /// A text does not name the number of years of a clock.
    #[error("the {language} text on the retention of {class} does not say {years}")]
    Years {
        /// Class.
        class: String,
        /// Language.
        language: String,
        /// The number that is missing.
        years: u16,
    },
    /// A minimum would end after a maximum.
    #[error(
        "class {class}: the minimum of {minimum} years ends, or can end, after the maximum of {maximum}"
    )]
    MinimumOverMaximum {
        /// Class.
        class: String,
        /// Years of the minimum.
        minimum: u16,
        /// Years of the maximum.
        maximum: u16,
    },
    /// Unclassified records would be kept less long than classified ones.
    #[error("unclassified records would be kept less long than those of class {0}")]
    UnclassifiedShorter(String),
    /// A mode that does not exist.
    #[error("modes")]
    Mode(#[from] ModeError),
    /// A role that does not exist.
    #[error("roles")]
    Role(#[from] RoleError),
    /// The approval rule cannot stand.
    #[error("approval")]
    Approval(#[from] ApprovalRuleError),
    /// A notice lacks a point that it must make.
    #[error("the {language} notice lacks, repeats or leaves empty the point {point}")]
    NoticePoint {
        /// Language.
        language: String,
        /// The point.
        point: String,
    },
    /// A notice lacks a value that it must show.
    #[error("the {language} notice does not show {{{{{placeholder}}}}} under its point {point}")]
    NoticeValue {
        /// Language.
        language: String,
        /// The point.
        point: &'static str,
        /// The value's name.
        placeholder: &'static str,
    },
    /// A notice asks for a value that does not exist.
    #[error("the {language} notice has an unknown or unclosed placeholder {placeholder:?}")]
    NoticePlaceholder {
        /// Language.
        language: String,
        /// As written.
        placeholder: String,
    },
}

pub(super) fn check(raw: raw::Pack, texts: &PackTexts) -> Result<Model, LintError> {
    demand(is_name(&raw.id), "id", "1 to 63 of a-z, 0-9 and '-'")?;
    demand(raw.version >= 1, "version", "at least 1")?;
    demand(is_line(&raw.title), "title", "one line of text")?;
    let languages = languages(&raw.languages)?;
    let localised = |key: &str, texts: &Localised| check_localised(&languages, key, texts);

    localised("purpose", &raw.purpose)?;
    localised("legal_basis", &raw.legal_basis)?;
    let modes = modes(raw.modes, &languages)?;
    let fiscal_year_end = raw.fiscal_year_end.as_deref().map(month_day).transpose()?;
    let classes = classes(raw.class, raw.hot_years, fiscal_year_end, &languages)?;
    let index_of = |key: &str, name: &str| {
        let index = classes.iter().position(|class| class.name == name);
        index.ok_or_else(|| value(key, "a class of this pack"))
    };
    let message_class = index_of("message_class", &raw.message_class)?;
    let unclassified_class = raw
        .unclassified_class
        .map(|name| index_of("unclassified_class", &name))
        .transpose()?;
    if let Some(index) = unclassified_class {
        check_unclassified(&classes[index], &classes)?;
    }

    for role in &raw.approval.role {
        localised("approval.role.title", &role.title)?;
    }
    demand(
        is_line(&raw.approval.rationale),
        "approval.rationale",
        "one line of text",
    )?;
    let required: Vec<&str> = raw.approval.role.iter().map(|r| r.role.as_str()).collect();
    let approval = ApprovalRule::new(raw.approval.minimum, &required, raw.approval.bulk_threshold)?;

    check_notices(texts, &languages)?;
    demand(
        raw.private_notice.is_some() == modes.contains_key(&Mode::Private),
        "private_notice",
        "given when, and only when, private conversations are allowed",
    )?;
    if let Some(private) = &raw.private_notice {
        demand(
            private.keys().eq(&languages),
            "private_notice",
            "given in exactly the pack's languages",
        )?;
        for (language, text) in private {
            notice::check_private(language, text)?;
        }
    }

    Ok(Model {
        id: raw.id,
        version: raw.version,
        title: raw.title,
        message_class,
        unclassified_class,
        intermediate_needs_case: raw.intermediate_needs_case,
        fiscal_year_end,
        purpose: raw.purpose,
        legal_basis: raw.legal_basis,
        modes,
        private_notice: raw.private_notice,
        approval,
        approval_titles: raw.approval.role.into_iter().map(|r| r.title).collect(),
        disposition_roles: two_people("disposition.roles", &raw.disposition.roles)?,
        hold_release: HoldReleaseRule {
            roles: two_people("hold_release.roles", &raw.hold_release.roles)?,
            cooling_off: cooling_off(raw.hold_release.cooling_off_hours)?,
        },
        classes,
        languages,
    })
}

fn languages(given: &[String]) -> Result<Vec<String>, LintError> {
    let sorted: BTreeSet<&String> = given.iter().collect();
    demand(
        !given.is_empty() && sorted.len() == given.len(),
        "languages",
        "at least one, each only once",
    )?;
    for language in given {
        let valid = (2..=8).contains(&language.len())
            && language
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'-');
        demand(valid, "languages", "2 to 8 of a-z and '-', such as fr")?;
    }
    Ok(sorted.into_iter().cloned().collect())
}

fn modes(
    given: BTreeMap<String, Localised>,
    languages: &[String],
) -> Result<BTreeMap<Mode, Localised>, LintError> {
    demand(!given.is_empty(), "modes", "at least one")?;
    let mut modes = BTreeMap::new();
    for (name, description) in given {
        check_localised(languages, &format!("modes.{name}"), &description)?;
        modes.insert(name.parse()?, description);
    }
    Ok(modes)
}

fn classes(
    given: Vec<raw::Class>,
    hot_years: u16,
    fiscal_year_end: Option<(i8, i8)>,
    languages: &[String],
) -> Result<Vec<RecordClass>, LintError> {
    demand(!given.is_empty(), "class", "at least one")?;
    let mut classes: Vec<RecordClass> = Vec::with_capacity(given.len());
    for raw in given {
        let key = format!("class.{}", raw.name);
        demand(
            is_name(&raw.name),
            "class.name",
            "1 to 63 of a-z, 0-9 and '-'",
        )?;
        demand(
            classes.iter().all(|class| class.name != raw.name),
            &key,
            "named only once",
        )?;
        demand(
            !raw.minimum.is_empty(),
            &key,
            "at least one minimum: nothing is kept for no time by default",
        )?;
        check_localised(languages, &format!("{key}.title"), &raw.title)?;
        check_localised(languages, &format!("{key}.retention"), &raw.retention)?;
        let hot_years = raw.hot_years.unwrap_or(hot_years);
        demand(
            (1..=MAX_YEARS).contains(&hot_years),
            &key,
            "hot_years from 1 to 100",
        )?;
        let class = RecordClass {
            minima: clocks(raw.minimum, &key, fiscal_year_end)?,
            maxima: clocks(raw.maximum, &key, fiscal_year_end)?,
            name: raw.name,
            title: raw.title,
            retention: raw.retention,
            hot_years,
        };
        check_years_named(&class)?;
        check_bounds(&class)?;
        classes.push(class);
    }
    Ok(classes)
}

fn clocks(
    given: Vec<raw::Clock>,
    key: &str,
    fiscal_year_end: Option<(i8, i8)>,
) -> Result<Vec<Clock>, LintError> {
    given
        .into_iter()
        .map(|raw| {
            let start = match raw.from.as_str() {
                "archived" => Start::Archived,
                "fiscal-year-end" => Start::FiscalYearEnd,
                other => match other.strip_prefix("event:") {
                    Some(event) if is_name(event) => Start::Event(event.to_owned()),
                    _ => {
                        return Err(value(
                            key,
                            "from is archived, fiscal-year-end or event:NAME",
                        ));
                    }
                },
            };
            demand(
                start != Start::FiscalYearEnd || fiscal_year_end.is_some(),
                "fiscal_year_end",
                "given when a clock starts from it",
            )?;
            let shortest = u16::from(!matches!(start, Start::Event(_)));
            demand(
                (shortest..=MAX_YEARS).contains(&raw.years),
                key,
                "years from 1 to 100, or from 0 after an event",
            )?;
            demand(is_line(&raw.citation), key, "each clock cites its rule")?;
            let evidence = match raw.evidence.as_str() {
                "primary" => Evidence::Primary,
                "secondary" => Evidence::Secondary,
                "general" => Evidence::General,
                _ => return Err(value(key, "evidence is primary, secondary or general")),
            };
            Ok(Clock {
                years: raw.years,
                start,
                citation: raw.citation,
                evidence,
            })
        })
        .collect()
}

/// The notice shows these texts instead of the clocks, so they must not say something else.
fn check_years_named(class: &RecordClass) -> Result<(), LintError> {
    for clock in class.minima.iter().chain(&class.maxima) {
        for (language, text) in &class.retention {
            let wanted = clock.years.to_string();
            let named = text
                .split(|c: char| !c.is_ascii_digit())
                .any(|number| number == wanted);
            if clock.years > 0 && !named {
                return Err(LintError::Years {
                    class: class.name.clone(),
                    language: language.clone(),
                    years: clock.years,
                });
            }
        }
    }
    Ok(())
}

/// Refuses a maximum that a minimum is sure to outlast, or can outlast though both run from the archive's receipt.
/// Clocks of different events are left to the engine, which reports their conflicts record by record.
fn check_bounds(class: &RecordClass) -> Result<(), LintError> {
    for minimum in &class.minima {
        for maximum in &class.maxima {
            // The end of the financial year lies up to a year and a day after the receipt.
            let slack = match (&minimum.start, &maximum.start) {
                (Start::FiscalYearEnd, Start::Archived) => 2,
                (Start::Archived, Start::Event(_)) | (Start::FiscalYearEnd, Start::Event(_)) => {
                    continue;
                }
                (Start::Event(one), Start::Event(other)) if one != other => continue,
                _ => 0,
            };
            if minimum.years + slack > maximum.years {
                return Err(LintError::MinimumOverMaximum {
                    class: class.name.clone(),
                    minimum: minimum.years,
                    maximum: maximum.years,
                });
            }
        }
    }
    Ok(())
}

fn check_unclassified(
    unclassified: &RecordClass,
    classes: &[RecordClass],
) -> Result<(), LintError> {
    let kept = |other: &Clock| unclassified.minima.iter().any(|clock| lasts(clock, other));
    let longer = classes.iter().find(|class| !class.minima.iter().all(kept));
    match longer {
        Some(longer) => Err(LintError::UnclassifiedShorter(longer.name.clone())),
        None => Ok(()),
    }
}

/// Whether a clock never ends before another one that runs from the archive's receipt. The end of the financial year lies up to a
/// year and a day after the receipt, and may be as near as the receipt itself.
fn lasts(clock: &Clock, other: &Clock) -> bool {
    match (&clock.start, &other.start) {
        // What only an event starts, an unclassified record has no need of.
        (_, Start::Event(_)) => true,
        (Start::Event(_), _) => false,
        (Start::Archived, Start::FiscalYearEnd) => clock.years >= other.years + 2,
        _ => clock.years >= other.years,
    }
}

fn check_notices(texts: &PackTexts, languages: &[String]) -> Result<(), LintError> {
    if !texts.notices.keys().eq(languages) {
        return Err(LintError::Languages("the notice".to_owned()));
    }
    for (language, text) in &texts.notices {
        check_bytes(&format!("notice.{language}.md"), text)?;
        notice::check(language, text)?;
    }
    Ok(())
}

fn check_localised(languages: &[String], key: &str, texts: &Localised) -> Result<(), LintError> {
    if !texts.keys().eq(languages) {
        return Err(LintError::Languages(key.to_owned()));
    }
    demand(
        texts.values().all(|text| is_line(text)),
        key,
        "one line of text in each language",
    )
}

pub(super) fn check_bytes(name: &str, text: &str) -> Result<(), LintError> {
    if text.len() > MAX_TEXT || text.contains(['\r', '\u{feff}']) {
        return Err(LintError::Bytes(name.to_owned()));
    }
    Ok(())
}

/// Legal and the records manager are asked for whatever a pack says; it may add to them.
fn two_people(key: &str, given: &[String]) -> Result<Vec<Role>, LintError> {
    let roles: Vec<Role> = given
        .iter()
        .map(|role| role.parse())
        .collect::<Result<_, _>>()?;
    let unique: BTreeSet<&Role> = roles.iter().collect();
    demand(
        unique.len() == roles.len()
            && unique.contains(&Role::Legal)
            && unique.contains(&Role::RecordsManager),
        key,
        "at least legal and records-manager, each only once",
    )?;
    Ok(roles)
}

fn cooling_off(hours: u32) -> Result<Duration, LintError> {
    demand(
        (1..=24 * 366).contains(&hours),
        "hold_release.cooling_off_hours",
        "from 1 hour to a year",
    )?;
    Ok(Duration::from_secs(u64::from(hours) * 3600))
}

fn month_day(text: &str) -> Result<(i8, i8), LintError> {
    let parts = text.split_once('-').filter(|(month, day)| {
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        digits(month) && digits(day)
    });
    parts
        .and_then(|(month, day)| Some((month.parse().ok()?, day.parse().ok()?)))
        .filter(|&(month, day)| calendar::in_every_year(month, day))
        .ok_or_else(|| {
            value(
                "fiscal_year_end",
                "a month and day of every year, such as 12-31",
            )
        })
}

fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains(char::is_control) && !text.contains("{{")
}

fn demand(met: bool, key: &str, demand: &'static str) -> Result<(), LintError> {
    if met { Ok(()) } else { Err(value(key, demand)) }
}

fn value(key: &str, demand: &'static str) -> LintError {
    LintError::Value {
        key: key.to_owned(),
        demand,
    }
}

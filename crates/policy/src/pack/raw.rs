//! The TOML of a pack, key by key: an unknown key is an error.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One text for each language.
pub(super) type Localised = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pack {
    pub(super) id: String,
    pub(super) version: u32,
    pub(super) title: String,
    pub(super) languages: Vec<String>,
    pub(super) message_class: String,
    pub(super) unclassified_class: Option<String>,
    pub(super) hot_years: u16,
    pub(super) intermediate_needs_case: bool,
    pub(super) fiscal_year_end: Option<String>,
    pub(super) purpose: Localised,
    pub(super) legal_basis: Localised,
    pub(super) modes: BTreeMap<String, Localised>,
    pub(super) private_notice: Option<Localised>,
    pub(super) approval: Approval,
    pub(super) disposition: Disposition,
    pub(super) hold_release: HoldRelease,
    pub(super) class: Vec<Class>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approval {
    pub(super) minimum: u32,
    pub(super) bulk_threshold: u32,
    pub(super) rationale: String,
    pub(super) role: Vec<ApprovalRole>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovalRole {
    pub(super) role: String,
    pub(super) title: Localised,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Disposition {
    pub(super) roles: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HoldRelease {
    pub(super) roles: Vec<String>,
    pub(super) cooling_off_hours: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Class {
    pub(super) name: String,
    pub(super) title: Localised,
    pub(super) retention: Localised,
    pub(super) hot_years: Option<u16>,
    pub(super) minimum: Vec<Clock>,
    #[serde(default)]
    pub(super) maximum: Vec<Clock>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Clock {
    pub(super) years: u16,
    pub(super) from: String,
    pub(super) citation: String,
    pub(super) evidence: String,
}

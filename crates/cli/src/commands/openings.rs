//! `greffe order openings`: what the log says was opened under an order.

use greffe_client::People;
use greffe_types::OrderId;
use serde::Serialize;

use super::form::{one_line, time};
use crate::fail::{Failure, Result};
use crate::output::{Output, print};

#[derive(Serialize)]
struct OpeningView {
    log_index: u64,
    at: String,
    node: String,
    sealed: bool,
    /// The record; none when it is none of the order's.
    record: Option<String>,
    /// Another leaf of the order than the archive has named, when the opening stands under that.
    other_leaf: Option<String>,
}

#[derive(Serialize)]
struct Openings {
    order: String,
    records_count: u64,
    /// Different records of the order that at least one node answered for.
    records_opened: usize,
    openings: Vec<OpeningView>,
    /// Openings of something that the order does not cover.
    unknown: usize,
    /// Openings under another leaf of the order.
    elsewhere: usize,
    log_start: u64,
    log_size: u64,
}

/// Shows them; one that the order does not cover, or under a leaf that the archive has not named, is an error, after everything
/// was shown.
pub(super) async fn show(people: &People, order: &OrderId, output: Output) -> Result<()> {
    let found = people.openings(order).await?;
    let mut records: Vec<_> = found.openings.iter().filter_map(|o| o.envelope).collect();
    let unknown = found.openings.len() - records.len();
    records.sort_unstable();
    records.dedup();
    let foreign = |o: &&greffe_client::LoggedOpening| o.foreign.is_some();
    let elsewhere = found.openings.iter().filter(foreign).count();
    let openings = found.openings.iter().map(|opening| OpeningView {
        log_index: opening.index,
        at: time(opening.at.get()),
        node: opening.node.clone(),
        sealed: opening.sealed,
        record: opening.envelope.map(|envelope| envelope.to_string()),
        other_leaf: opening.foreign.map(|leaf| leaf.to_string()),
    });
    let shown = Openings {
        order: order.to_string(),
        records_count: found.list.count(),
        records_opened: records.len(),
        openings: openings.collect(),
        unknown,
        elsewhere,
        log_start: found.log_start,
        log_size: found.log_size,
    };
    print(output, &shown, text)?;
    if elsewhere > 0 {
        return Err(Failure::unverified(
            "ORDER_LOGGED_TWICE",
            format_args!(
                "{elsewhere} openings under this order stand under another leaf of it than the archive has named: keep what was \
                 printed, and ask the archive's operators why they had the order logged twice and named one"
            ),
        ));
    }
    if unknown > 0 {
        return Err(Failure::unverified(
            "OPENING_UNKNOWN",
            format_args!(
                "{unknown} openings under this order are of nothing that it covers: keep what was printed, and find out what these \
                 nodes answered"
            ),
        ));
    }
    Ok(())
}

fn text(shown: &Openings) -> String {
    let mut text = String::new();
    for one in &shown.openings {
        text.push_str(&format!(
            "{} {} {} {}{}{}\n",
            one.log_index,
            one.at,
            one_line(&one.node),
            one.record.as_deref().unwrap_or("of nothing in the order"),
            if one.sealed { " (sealed)" } else { "" },
            if one.other_leaf.is_some() {
                " UNDER ANOTHER LEAF OF THE ORDER"
            } else {
                ""
            }
        ));
    }
    text.push_str(&format!(
        "{} of {} records opened, in {} openings; the log was read and proved from entry {} to {}\n",
        shown.records_opened,
        shown.records_count,
        shown.openings.len(),
        shown.log_start,
        shown.log_size
    ));
    text
}

//! `greffe policy explain`: every clock of a record with the rule it comes from, and which of them wins.

use std::path::PathBuf;

use clap::Args;
use greffe_client::verify_record;
use greffe_policy::{ClockEnd, Events, Explanation, Pack};
use greffe_types::{Digest, Millis};
use serde::Serialize;

use super::access::AsPerson;
use super::form::{hex, instant, time};
use super::policy::{ClockView, folder, kind_name};
use crate::fail::{Exit, Failure, Result, chain};
use crate::output::{Output, print};

/// `greffe policy explain`
#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// Envelope digest of the record.
    record: Digest,
    #[command(flatten)]
    person: AsPerson,
    /// Folder of the record's pack, when this program does not carry it.
    #[arg(long, value_name = "FOLDER")]
    pack: Option<PathBuf>,
    /// An event that has happened, such as account-closed=2026-05-01; may be given several times.
    #[arg(long, value_name = "EVENT=TIME", value_parser = event)]
    event: Vec<(String, Millis)>,
}

fn event(text: &str) -> core::result::Result<(String, Millis), String> {
    let (name, at) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not EVENT=TIME"))?;
    Ok((name.to_owned(), instant(at)?))
}

#[derive(Serialize)]
struct Explained {
    record: String,
    pack: String,
    pack_digest: String,
    class: String,
    archived_at: String,
    clocks: Vec<ClockView>,
    winner: String,
    retain_until: String,
    /// As the archive pinned it; later when it was extended.
    pinned_until: String,
    awaiting: Vec<String>,
    conflict: Option<String>,
    holds: u32,
}

/// Explains.
pub(super) async fn explain(arguments: ExplainArguments, output: Output) -> Result<()> {
    let people = arguments.person.open().await?;
    let given = people.record(&arguments.record).await?;
    let summary = given.summary.clone().unwrap_or_default();
    // The envelope, not the archive's word, says which pack and class the record is of.
    let trust = people.client().trust()?;
    let record = verify_record(&trust, &arguments.record, given)?;
    let header = record.envelope.header();
    let wanted = header.policy_digest();
    let own;
    let pack = match &arguments.pack {
        Some(path) => {
            own = folder(path)?;
            Some(&own)
        }
        None => Pack::all_embedded()
            .iter()
            .find(|pack| pack.digest() == wanted),
    };
    let pack = pack.filter(|pack| pack.digest() == wanted).ok_or_else(|| {
        Failure::refused(
            "UNKNOWN_PACK",
            format_args!("the record is kept under the pack of digest {wanted}, which is not at hand: name its folder with --pack"),
        )
    })?;
    let events = arguments
        .event
        .into_iter()
        .fold(Events::none(), |events, (name, at)| events.with(name, at));
    let class = &header.message().record_class;
    let archived = Millis::new(record.receipt.archived_at);
    let explanation = pack
        .explain(class, archived, &events)
        .map_err(|error| Failure::new(Exit::Refused, error.reason(), chain(&error)))?;
    let view = Explained::new(&arguments.record, &explanation, &summary);
    print(output, &view, |view| {
        format!(
            "{explanation}\npinned by the archive until {}{}\n",
            view.pinned_until,
            if view.holds > 0 {
                format!("; {} holds stand on it", view.holds)
            } else {
                String::new()
            }
        )
    })
}

impl Explained {
    fn new(
        record: &Digest,
        explanation: &Explanation,
        summary: &greffe_api::archive::RecordSummary,
    ) -> Self {
        let clocks = explanation.clocks.iter().enumerate();
        Self {
            record: record.to_string(),
            pack: explanation.pack.clone(),
            pack_digest: hex(explanation.digest.as_bytes()),
            class: explanation.class.clone(),
            archived_at: time(explanation.archived_at.get()),
            clocks: clocks
                .map(|(index, clock)| ClockView {
                    kind: kind_name(clock.kind),
                    years: clock.years,
                    from: clock.start.to_string(),
                    ends: match clock.end {
                        ClockEnd::At(end) | ClockEnd::NotBefore(end) => Some(time(end.get())),
                        ClockEnd::Open => None,
                    },
                    citation: clock.citation.clone(),
                    evidence: clock.evidence.to_string(),
                    winner: index == explanation.winner,
                })
                .collect(),
            winner: explanation.clocks[explanation.winner].citation.clone(),
            retain_until: time(explanation.retain_until.get()),
            pinned_until: time(summary.retain_until),
            awaiting: explanation.awaiting.clone(),
            conflict: explanation.conflict.as_ref().map(ToString::to_string),
            holds: summary.holds,
        }
    }
}

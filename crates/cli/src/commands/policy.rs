//! `greffe policy`: packs, what they demand, and why a record is kept until when.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use greffe_client::verify_record;
use greffe_policy::{ClockEnd, ClockKind, Events, Explanation, Pack, load_folder};
use greffe_types::{Digest, Millis};
use serde::Serialize;

use super::access::AsPerson;
use super::form::{hex, instant, time};
use crate::fail::{Exit, Failure, Result, chain};
use crate::output::{Output, print};

/// `greffe policy`
#[derive(Debug, Args)]
pub(crate) struct PolicyArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The packs that this program carries.
    #[command(after_help = "Example:\n  greffe policy list")]
    List,
    /// A pack: modes, approvals, record classes with every clock and its source.
    #[command(after_help = "Example:\n  greffe policy show us-broker-dealer")]
    Show {
        /// Id of a pack that this program carries, or a pack's folder.
        pack: String,
    },
    /// Until when a record is kept, and which rule says so: every clock with its source, and the winner.
    #[command(after_help = "Example:\n  greffe policy explain DIGEST --as auditor")]
    Explain(Explain),
    /// Check a pack's folder.
    #[command(after_help = "Example:\n  greffe policy lint policies/packs/us-broker-dealer")]
    Lint {
        /// The folder.
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Explain {
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
struct PackView {
    id: String,
    version: u32,
    title: String,
    digest: String,
    languages: Vec<String>,
    modes: Vec<&'static str>,
    minimum_approvers: u32,
    approver_roles: Vec<String>,
    bulk_threshold: u32,
    classes: Vec<ClassView>,
}

#[derive(Serialize)]
struct ClassView {
    name: String,
    title: String,
    hot_years: u16,
    clocks: Vec<ClockView>,
}

#[derive(Serialize)]
struct ClockView {
    kind: &'static str,
    years: u16,
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends: Option<String>,
    citation: String,
    evidence: String,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    winner: bool,
}

#[derive(Serialize)]
struct List {
    packs: Vec<PackView>,
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

impl PackView {
    fn new(pack: &Pack) -> Self {
        let minimum = |clock| (ClockKind::Minimum, clock);
        let maximum = |clock| (ClockKind::Maximum, clock);
        let classes = pack.classes().iter().map(|class| ClassView {
            name: class.name().to_owned(),
            title: class.title("en").unwrap_or_default().to_owned(),
            hot_years: class.hot_years(),
            clocks: class
                .minima()
                .iter()
                .map(minimum)
                .chain(class.maxima().iter().map(maximum))
                .map(|(kind, clock)| ClockView {
                    kind: kind_name(kind),
                    years: clock.years,
                    from: clock.start.to_string(),
                    ends: None,
                    citation: clock.citation.clone(),
                    evidence: clock.evidence.to_string(),
                    winner: false,
                })
                .collect(),
        });
        let rule = pack.approval();
        Self {
            id: pack.id().to_owned(),
            version: pack.version(),
            title: pack.title().to_owned(),
            digest: pack.digest().to_string(),
            languages: pack.languages().to_vec(),
            modes: pack.modes_allowed().map(|mode| mode.as_str()).collect(),
            minimum_approvers: rule.minimum(),
            approver_roles: rule
                .required_roles()
                .iter()
                .map(ToString::to_string)
                .collect(),
            bulk_threshold: rule.bulk_threshold(),
            classes: classes.collect(),
        }
    }

    fn line(&self) -> String {
        format!(
            "{} version {} ({}): {}; modes {}\n",
            self.id,
            self.version,
            self.digest,
            self.title,
            self.modes.join(", ")
        )
    }

    fn text(&self) -> String {
        let mut text = self.line();
        text.push_str(&format!(
            "orders need {} approvers, among them {}; over {} records one more\n",
            self.minimum_approvers,
            self.approver_roles.join(" and "),
            self.bulk_threshold
        ));
        for class in &self.classes {
            text.push_str(&format!("class {}: {}\n", class.name, class.title));
            for clock in &class.clocks {
                text.push_str(&format!(
                    "  {} {} y from {} [{}; {}]\n",
                    clock.kind, clock.years, clock.from, clock.citation, clock.evidence
                ));
            }
        }
        text
    }
}

const fn kind_name(kind: ClockKind) -> &'static str {
    match kind {
        ClockKind::Minimum => "at least",
        ClockKind::Maximum => "at most",
    }
}

/// Does what was asked.
pub(crate) async fn run(arguments: PolicyArguments, output: Output) -> Result<()> {
    match arguments.what {
        What::List => {
            let packs = Pack::all_embedded().iter().map(PackView::new).collect();
            print(output, &List { packs }, |list| {
                list.packs.iter().map(PackView::line).collect()
            })
        }
        What::Show { pack } => {
            let view = match Pack::embedded(&pack) {
                Some(pack) => PackView::new(pack),
                None if Path::new(&pack).is_dir() => PackView::new(&folder(Path::new(&pack))?),
                None => return Err(crate::up::unknown_pack(&pack)),
            };
            print(output, &view, PackView::text)
        }
        What::Lint { folder: path } => {
            let view = PackView::new(&folder(&path)?);
            print(output, &view, PackView::line)
        }
        What::Explain(arguments) => explain(arguments, output).await,
    }
}

fn folder(path: &Path) -> Result<Pack> {
    load_folder(path).map_err(|error| {
        Failure::unverified(
            "POLICY_INVALID",
            format_args!("{}: {}", path.display(), chain(&error)),
        )
    })
}

async fn explain(arguments: Explain, output: Output) -> Result<()> {
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

//! What a reader does with a released order: every record opened with the nodes' answers, shown or produced.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use clap::Args;
use greffe_client::{NotOpened, OpenedRecord, Opening, People};
use greffe_envelope::history::{History, Said};
use greffe_envelope::pb;
use greffe_types::{Digest, OrderId};
use serde::Serialize;

use super::access::AsPerson;
use super::form::{ContentView, file_name, one_line, time};
use super::history::{AboutView, Entry, HistoryView, says};
use super::query::RecordView;
use crate::fail::{Exit, Failure, Result, chain};
use crate::layout::private_folder;
use crate::output::{Output, narrate, print};
use crate::produce::{Out, produce as write_production};
use crate::save::{OWN, Saving};

/// `greffe produce`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe produce ORDER --as reader --out ./production\n  greffe produce ORDER --as reader --out production.zip\n  greffe verify production.zip --root root.pub"
)]
pub(crate) struct ProduceArguments {
    /// The released order.
    order: OrderId,
    #[command(flatten)]
    person: AsPerson,
    /// Folder or, with a name that ends in .zip, file to write, for its owner alone: it must not exist.
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Write one zip file, whatever its name ends in.
    #[arg(long)]
    zip: bool,
}

#[derive(Serialize)]
struct RecordOpened {
    #[serde(flatten)]
    record: RecordView,
    /// As it was sent; `history` says what became of it, as far as the order opened it.
    content: ContentView,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<HistoryView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<AboutView>,
    opened_by: Vec<String>,
    blamed: Vec<Blame>,
    #[serde(skip)]
    raw: Raw,
}

/// What histories are made of.
struct Raw {
    conversation: Vec<u8>,
    sequence: u64,
    digest: Digest,
    sender: String,
    sent_at: u64,
    archived_at: u64,
    content: pb::Content,
}

impl Raw {
    fn entry(&self) -> Entry<'_> {
        Entry {
            sequence: self.sequence,
            digest: self.digest,
            sender: &self.sender,
            sent_at: self.sent_at,
            archived_at: self.archived_at,
            content: &self.content,
        }
    }
}

#[derive(Serialize)]
struct Refused {
    digest: String,
    reason: String,
    message: String,
    blamed: Vec<Blame>,
}

#[derive(Serialize)]
struct Blame {
    node: String,
    why: String,
}

#[derive(Serialize)]
struct Records {
    order: String,
    records: Vec<RecordOpened>,
    not_opened: Vec<Refused>,
}

#[derive(Serialize)]
struct Produced {
    production: String,
    order: String,
    records: usize,
    files: usize,
    log_size: u64,
    verified: bool,
}

fn blame(blamed: &[(String, String)]) -> Vec<Blame> {
    blamed
        .iter()
        .map(|(node, why)| Blame {
            node: node.clone(),
            why: why.clone(),
        })
        .collect()
}

fn not_opened(first: &NotOpened, count: usize) -> Failure {
    let exit = if first.error.is_retryable() || first.error.reason() == "RECEIPT_NOT_LOGGED" {
        Exit::Unavailable
    } else {
        Exit::Refused
    };
    Failure::new(
        exit,
        first.error.reason(),
        format_args!(
            "{count} records were not opened, among them {}: {}",
            first.digest,
            chain(&first.error)
        ),
    )
}

/// Opens an order's records and prints them; a record that does not open makes the command fail, after the others.
pub(crate) async fn show(
    people: &People,
    order: &OrderId,
    save: Option<&Path>,
    output: Output,
) -> Result<()> {
    let mut opening = people.open_order(order).await?;
    if let Some(folder) = save {
        private_folder(folder)?;
    }
    let (mut records, mut failed) = (Vec::new(), Vec::new());
    loop {
        let chunk = opening.next_chunk().await?;
        if chunk.is_empty() {
            break;
        }
        for one in chunk {
            match one {
                Ok(record) => records.push(view(&opening, record, save).await?),
                Err(error) => failed.push(error),
            }
        }
    }
    became(&mut records);
    let shown = Records {
        order: order.to_string(),
        records,
        not_opened: failed
            .iter()
            .map(|one| Refused {
                digest: one.digest.to_string(),
                reason: one.error.reason().to_owned(),
                message: chain(&one.error),
                blamed: blame(&one.blamed),
            })
            .collect(),
    };
    print(output, &shown, text)?;
    match failed.first() {
        Some(first) => Err(not_opened(first, failed.len())),
        None => Ok(()),
    }
}

async fn view(
    opening: &Opening,
    opened: OpenedRecord,
    save: Option<&Path>,
) -> Result<RecordOpened> {
    let mut content = ContentView::new(&opened.content);
    if let Some(folder) = save {
        for (index, attachment) in (0_u32..).zip(&mut content.attachments) {
            let unique = format!("{}-{index}", &opened.digest.to_string()[..16]);
            let path = folder.join(file_name(&unique, &attachment.name));
            let mut saving = Saving::create(&path, OWN)?;
            opening.attachment(&opened, index, &mut saving).await?;
            saving.finish()?;
            attachment.saved = Some(path.display().to_string());
        }
    }
    let summary = &opened.record.summary;
    Ok(RecordOpened {
        record: RecordView::new(summary),
        content,
        history: None,
        about: None,
        blamed: blame(&opened.blamed),
        opened_by: opened.opened_by,
        raw: Raw {
            conversation: summary.conversation.clone(),
            sequence: summary.sequence,
            digest: opened.digest,
            sender: summary.sender.clone(),
            sent_at: summary.sent_at,
            archived_at: summary.archived_at,
            content: opened.content,
        },
    })
}

/// Puts edits, retractions and reactions to their messages, as far as both were opened. What an order left out may decide
/// whether something has effect: its production knows of it by the archive's ranges, this view does not.
fn became(records: &mut [RecordOpened]) {
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_by_key(|index| {
        let raw = &records[*index].raw;
        (raw.conversation.clone(), raw.sequence)
    });
    let views: Vec<_> = order
        .chunk_by(|a, b| records[*a].raw.conversation == records[*b].raw.conversation)
        .flat_map(|of_one| conversation(records, of_one))
        .collect();
    for (index, history, about) in views {
        (records[index].history, records[index].about) = (history, about);
    }
}

type Became = (usize, Option<HistoryView>, Option<AboutView>);

/// What became of the records of one conversation, in order.
fn conversation(records: &[RecordOpened], order: &[usize]) -> Vec<Became> {
    let mut history = History::default();
    let mut verdicts = Vec::new();
    for index in order {
        let raw = &records[*index].raw;
        let said = Said {
            sequence: raw.sequence,
            envelope: raw.digest,
            author: raw.sender.clone(),
            content: &raw.content,
        };
        verdicts.push(history.take(&said, |_| true));
    }
    let numbers: HashMap<&[u8], u64> = order
        .iter()
        .map(|index| &records[*index].raw)
        .map(|raw| (raw.digest.as_bytes().as_slice(), raw.sequence))
        .collect();
    let at: BTreeMap<u64, usize> = order
        .iter()
        .map(|index| (records[*index].raw.sequence, *index))
        .collect();
    let entry = |sequence: u64| at.get(&sequence).map(|index| records[*index].raw.entry());
    order
        .iter()
        .zip(verdicts)
        .map(|(index, verdict)| {
            let raw = &records[*index].raw;
            let message = history.message(&raw.digest);
            let view = message.and_then(|message| HistoryView::new(message, entry));
            let about = verdict.and_then(|verdict| {
                let number = numbers.get(raw.content.target.as_slice()).copied();
                AboutView::new(&raw.content, number, Some(verdict))
            });
            (*index, view, about)
        })
        .collect()
}

fn text(shown: &Records) -> String {
    let mut text = String::new();
    for one in &shown.records {
        text.push_str(&one.record.line());
        let sender = one_line(&one.record.sender);
        let says = says(
            &one.content,
            one.about.as_ref(),
            one.history.as_ref(),
            (sender.as_str(), one.raw.content.text.as_slice()),
            true,
        );
        text.push_str(&format!("{says}\n"));
        for blame in &one.blamed {
            text.push_str(&format!("    {}: {}\n", blame.node, one_line(&blame.why)));
        }
    }
    for one in &shown.not_opened {
        text.push_str(&format!(
            "{} not opened: {} ({})\n",
            one.digest,
            one_line(&one.message),
            one.reason
        ));
        for blame in &one.blamed {
            text.push_str(&format!("    {}: {}\n", blame.node, one_line(&blame.why)));
        }
    }
    text
}

/// Opens an order's records, writes their production and verifies it with the root alone.
pub(crate) async fn produce(arguments: ProduceArguments, output: Output) -> Result<()> {
    let path = std::path::absolute(&arguments.out)
        .map_err(|error| Failure::io("find", &arguments.out, &error))?;
    if path.exists() {
        return Err(Failure::refused(
            "PRODUCTION_EXISTS",
            format_args!(
                "{} is there already: name a folder or zip that does not exist",
                path.display()
            ),
        ));
    }
    let named_zip = path
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("zip"));
    let out = if arguments.zip || named_zip {
        Out::Zip(path)
    } else {
        Out::Folder(path)
    };
    let people = arguments.person.open().await?;
    let mut opening = people.open_order(&arguments.order).await?;
    let started = time(opening.info.order.not_before);
    narrate(format_args!(
        "opening the {} records of the order of {started}",
        opening.list.count()
    ));
    let (mut opened, mut failed) = (Vec::new(), Vec::new());
    for one in opening.all().await? {
        match one {
            Ok(record) => opened.push(record),
            Err(error) => failed.push(error),
        }
    }
    if let Some(first) = failed.first() {
        return Err(not_opened(first, failed.len()));
    }
    let key = arguments.person.signing_key()?;
    write_production(&people, &opening, &opened, &key, &out).await?;
    let report = greffe_production::verify(out.path(), people.client().connection().root());
    if let Some(finding) = report.findings.first() {
        return Err(Failure::unverified(
            "PRODUCTION_INVALID",
            format_args!(
                "the production was written but does not verify, {}: {}; do not hand it over",
                finding.item, finding.problem
            ),
        ));
    }
    let produced = Produced {
        production: out.path().display().to_string(),
        order: arguments.order.to_string(),
        records: opened.len(),
        files: report.files,
        log_size: report.log_size,
        verified: true,
    };
    print(output, &produced, |produced| {
        format!(
            "{} records in {}: {} files, verified offline\n",
            produced.records, produced.production, produced.files
        )
    })
}

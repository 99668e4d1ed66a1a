//! What a reader does with a released order: every record opened with the nodes' answers, shown or produced.

use std::path::{Path, PathBuf};

use clap::Args;
use greffe_client::{NotOpened, OpenedRecord, Opening, People};
use greffe_types::OrderId;
use serde::Serialize;

use super::access::AsPerson;
use super::form::{ContentView, file_name, one_line, time};
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
    content: ContentView,
    opened_by: Vec<String>,
    blamed: Vec<Blame>,
    #[serde(skip)]
    text: Vec<u8>,
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
    Ok(RecordOpened {
        record: RecordView::new(&opened.record.summary),
        content,
        blamed: blame(&opened.blamed),
        opened_by: opened.opened_by,
        text: opened.content.text,
    })
}

fn text(shown: &Records) -> String {
    let mut text = String::new();
    for one in &shown.records {
        text.push_str(&one.record.line());
        let sender = one_line(&one.record.sender);
        text.push_str(&format!("<{sender}> {}\n", one.content.lines(&one.text)));
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

//! `greffe log reads`: what people read in the archive and were refused to read, opened from the log's commitments.

use clap::Args;
use greffe_api::archive::RecordQuery;
use greffe_client::ProvedRead;
use prost::Message as _;
use serde::Serialize;

use super::access::AsPerson;
use super::form::{hex, one_line, time};
use super::query::QueryView;
use crate::fail::Result;
use crate::output::{Output, print};

/// `greffe log reads`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe log reads --as auditor\n  greffe log reads --as compliance --all --output json"
)]
pub(crate) struct ReadsArguments {
    /// Who oversees reads: an auditor or a compliance officer.
    #[command(flatten)]
    person: AsPerson,
    /// Reads on a page.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    page_size: u32,
    /// The page after one that said so.
    #[arg(long, value_name = "TOKEN", conflicts_with = "all")]
    page: Option<String>,
    /// Every page.
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct ReadView {
    log_index: u64,
    at: String,
    person: String,
    action: String,
    /// Why it was refused.
    refused: Option<String>,
    count: u64,
    /// "query", "record", "conversation" or "order".
    of: &'static str,
    /// In hexadecimal; of a query, its words.
    subject: String,
}

#[derive(Serialize)]
struct Reads {
    reads: Vec<ReadView>,
    next_page: Option<String>,
}

impl ReadView {
    fn new(read: &ProvedRead) -> Self {
        let of = match read.action.as_str() {
            "search" | "SearchRecords" => "query",
            "get" | "GetRecord" => "record",
            "range" | "GetRange" => "conversation",
            _ => "order",
        };
        let query = (of == "query")
            .then(|| RecordQuery::decode(read.subject.as_slice()).ok())
            .flatten();
        Self {
            log_index: read.index,
            at: time(read.at.get()),
            person: read.person.clone(),
            action: read.action.clone(),
            refused: read.refused.clone(),
            count: read.count,
            of,
            subject: query.map_or_else(
                || hex(&read.subject),
                |query| QueryView::new(&query).words(),
            ),
        }
    }

    fn line(&self) -> String {
        let outcome = match &self.refused {
            Some(reason) => format!("refused: {}", one_line(reason)),
            None => format!("{} records", self.count),
        };
        format!(
            "{} {} {} {} {} {}: {outcome}\n",
            self.log_index,
            self.at,
            one_line(&self.person),
            one_line(&self.action),
            self.of,
            one_line(&self.subject)
        )
    }
}

/// Reads, proves and prints.
pub(super) async fn run(arguments: ReadsArguments, output: Output) -> Result<()> {
    let people = arguments.person.open().await?;
    let (mut reads, mut next_page) = (Vec::new(), arguments.page);
    loop {
        let page = people.reads(arguments.page_size, next_page).await?;
        reads.extend(page.items.iter().map(ReadView::new));
        next_page = page.next;
        if next_page.is_none() || !arguments.all {
            break;
        }
    }
    let found = Reads { reads, next_page };
    print(output, &found, |found| {
        let mut text: String = found.reads.iter().map(ReadView::line).collect();
        match &found.next_page {
            Some(token) => text.push_str(&format!("more: --page {token}\n")),
            None => text.push_str(&format!("{} reads, each proved\n", found.reads.len())),
        }
        text
    })
}

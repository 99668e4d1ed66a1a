//! `greffe search`: what headers say of archived records; every search stands in the log.

use clap::Args;
use serde::Serialize;

use super::access::AsPerson;
use super::query::{Filters, RecordView};
use crate::fail::Result;
use crate::output::{Output, print};

/// `greffe search`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  greffe search --as auditor --participant bob --from 2026-03-01 --until 2026-04-01"
)]
pub(crate) struct SearchArguments {
    /// The auditor.
    #[command(flatten)]
    person: AsPerson,
    /// Which records.
    #[command(flatten)]
    filters: Filters,
    /// Records on a page.
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
struct Found {
    records: Vec<RecordView>,
    next_page: Option<String>,
}

/// Searches and prints.
pub(crate) async fn run(arguments: SearchArguments, output: Output) -> Result<()> {
    let people = arguments.person.open().await?;
    let query = arguments.filters.query();
    let (records, next_page) = if arguments.all {
        (people.search_all(&query).await?, None)
    } else {
        let page = people.search(&query, arguments.page_size, arguments.page);
        let page = page.await?;
        (page.items, page.next)
    };
    let found = Found {
        records: records.iter().map(RecordView::new).collect(),
        next_page,
    };
    print(output, &found, |found| {
        let mut text: String = found.records.iter().map(RecordView::line).collect();
        match &found.next_page {
            Some(token) => text.push_str(&format!("more: --page {token}\n")),
            None => text.push_str(&format!("{} records\n", found.records.len())),
        }
        text
    })
}

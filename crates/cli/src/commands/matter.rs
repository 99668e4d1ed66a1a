//! `greffe matter`: the cases that holds and orders belong to.

use clap::{Args, Subcommand};
use greffe_api::archive::{Hold, Matter};
use greffe_client::People;
use greffe_types::MatterId;
use serde::Serialize;

use super::access::AsPerson;
use super::form::{hex, one_line, time, time_or_none};
use super::query::QueryView;
use crate::fail::Result;
use crate::output::{Output, print};

/// `greffe matter`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe matter create 'Limits of March' --as auditor")]
pub(crate) struct MatterArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Open a matter.
    #[command(after_help = "Example:\n  greffe matter create 'Limits of March' --as auditor")]
    Create {
        /// What it is called: 1 to 200 bytes.
        name: String,
        #[command(flatten)]
        person: AsPerson,
    },
    /// Every matter, with its holds.
    #[command(after_help = "Example:\n  greffe matter list --as auditor")]
    List {
        #[command(flatten)]
        person: AsPerson,
    },
    /// Close a matter: it takes no more holds and orders.
    #[command(after_help = "Example:\n  greffe matter close MATTER --as auditor")]
    Close {
        /// The matter.
        matter: MatterId,
        #[command(flatten)]
        person: AsPerson,
    },
}

#[derive(Serialize)]
struct Done {
    matter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_index: Option<u64>,
}

#[derive(Serialize)]
struct MatterView {
    matter: String,
    name: String,
    opened_by: String,
    opened_at: String,
    holds: Vec<HoldView>,
}

/// A hold.
#[derive(Debug, Serialize)]
pub(crate) struct HoldView {
    /// Its id.
    pub(crate) hold: String,
    /// Its matter.
    pub(crate) matter: String,
    query: QueryView,
    reason: String,
    placed_by: String,
    placed_at: String,
    released_at: Option<String>,
    records: u64,
}

#[derive(Serialize)]
struct List {
    matters: Vec<MatterView>,
}

impl HoldView {
    /// Of a hold of a matter.
    pub(crate) fn new(matter: &[u8], hold: &Hold) -> Self {
        Self {
            hold: hex(&hold.hold),
            matter: hex(matter),
            query: QueryView::new(&hold.query.clone().unwrap_or_default()),
            reason: hold.reason.clone(),
            placed_by: hold.placed_by.clone(),
            placed_at: time(hold.placed_at),
            released_at: time_or_none(hold.released_at),
            records: hold.records,
        }
    }

    /// One line for a person.
    pub(crate) fn line(&self) -> String {
        let state = match &self.released_at {
            Some(at) => format!("released with effect from {at}"),
            None => format!("holds {} records", self.records),
        };
        format!(
            "hold {} of {} by {}: {state}; {} ({})\n",
            self.hold,
            self.placed_at,
            self.placed_by,
            self.query.words(),
            one_line(&self.reason)
        )
    }
}

impl MatterView {
    fn new(matter: &Matter) -> Self {
        Self {
            matter: hex(&matter.matter),
            name: matter.name.clone(),
            opened_by: matter.opened_by.clone(),
            opened_at: time(matter.opened_at),
            holds: matter
                .holds
                .iter()
                .map(|hold| HoldView::new(&matter.matter, hold))
                .collect(),
        }
    }

    fn lines(&self) -> String {
        let mut text = format!(
            "{} {} by {}: {}\n",
            self.matter,
            self.opened_at,
            self.opened_by,
            one_line(&self.name)
        );
        for hold in &self.holds {
            text.push_str("  ");
            text.push_str(&hold.line());
        }
        text
    }
}

/// Every matter.
pub(crate) async fn all(people: &People) -> Result<Vec<Matter>> {
    let (mut matters, mut token) = (Vec::new(), None);
    loop {
        let page = people.matters(token).await?;
        matters.extend(page.items);
        match page.next {
            Some(next) => token = Some(next),
            None => return Ok(matters),
        }
    }
}

/// Does what was asked.
pub(crate) async fn run(arguments: MatterArguments, output: Output) -> Result<()> {
    match arguments.what {
        What::Create { name, person } => {
            let matter = person.open().await?.create_matter(&name).await?;
            let done = Done {
                matter: matter.to_string(),
                name: Some(name),
                log_index: None,
            };
            print(output, &done, |done| format!("{}\n", done.matter))
        }
        What::List { person } => {
            let matters = all(&person.open().await?).await?;
            let matters = matters.iter().map(MatterView::new).collect();
            print(output, &List { matters }, |list| {
                list.matters.iter().map(MatterView::lines).collect()
            })
        }
        What::Close { matter, person } => {
            let log_index = person.open().await?.close_matter(&matter).await?;
            let done = Done {
                matter: matter.to_string(),
                name: None,
                log_index: Some(log_index),
            };
            print(output, &done, |done| {
                format!("{} is closed: entry {log_index} of the log\n", done.matter)
            })
        }
    }
}

//! `greffe hold`: legal holds, which one person places and two release.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use greffe_client::{People, Person};
use greffe_types::{MatterId, from_hex};
use serde::Serialize;

use super::access::{Access, AsPerson, check_roster};
use super::form::hex;
use super::matter::{HoldView, all};
use super::query::Filters;
use crate::fail::{Failure, Result};
use crate::output::{Output, print};

/// `greffe hold`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe hold list --as legal")]
pub(crate) struct HoldArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Hold everything that the filters find, now and later: none of it is disposed of while the hold stands.
    #[command(
        after_help = "Example:\n  greffe hold place --as legal --matter MATTER --reason 'Subpoena of 2 March' --participant bob"
    )]
    Place(Place),
    /// Release a hold: two people sign, as the policy pack asks.
    #[command(
        after_help = "Example:\n  greffe hold release HOLD --as legal --second records --reason 'The case is closed'"
    )]
    Release(Release),
    /// Every hold.
    #[command(after_help = "Example:\n  greffe hold list --as legal")]
    List {
        #[command(flatten)]
        person: AsPerson,
    },
}

#[derive(Debug, Args)]
struct Place {
    #[command(flatten)]
    person: AsPerson,
    /// The matter it belongs to.
    #[arg(long, value_name = "MATTER")]
    matter: MatterId,
    /// Why: 1 to 1000 bytes.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    filters: Filters,
    /// Hold every record there is, without any filter.
    #[arg(long)]
    everything: bool,
}

#[derive(Debug, Args)]
struct Release {
    /// The hold.
    #[arg(value_parser = hold_id)]
    hold: HoldId,
    #[command(flatten)]
    person: AsPerson,
    /// The second person, who signs the same.
    #[arg(long, value_name = "PERSON")]
    second: String,
    /// Folder of the second person's keys, instead of the data folder's.
    #[arg(long, value_name = "FOLDER")]
    second_identity: Option<PathBuf>,
    /// Why: 1 to 1000 bytes.
    #[arg(long)]
    reason: String,
}

/// A hold's id.
#[derive(Debug, Clone, Copy)]
struct HoldId([u8; 16]);

fn hold_id(text: &str) -> core::result::Result<HoldId, greffe_types::HexError> {
    from_hex(text).map(HoldId)
}

#[derive(Serialize)]
struct Placed {
    hold: String,
    matter: String,
}

#[derive(Serialize)]
struct Released {
    hold: String,
    matter: String,
    signed_by: [String; 2],
    log_index: u64,
}

#[derive(Serialize)]
struct List {
    holds: Vec<HoldView>,
}

/// Does what was asked.
pub(crate) async fn run(arguments: HoldArguments, output: Output) -> Result<()> {
    match arguments.what {
        What::Place(arguments) => place(&arguments, output).await,
        What::Release(arguments) => release(&arguments, output).await,
        What::List { person } => {
            let matters = all(&person.open().await?).await?;
            let holds = matters.iter().flat_map(|matter| {
                let of = |hold| HoldView::new(&matter.matter, hold);
                matter.holds.iter().map(of)
            });
            let holds = holds.collect();
            print(output, &List { holds }, |list| {
                list.holds.iter().map(HoldView::line).collect()
            })
        }
    }
}

async fn place(arguments: &Place, output: Output) -> Result<()> {
    if arguments.filters.is_empty() != arguments.everything {
        return Err(Failure::usage(
            "HOLD_SCOPE",
            "say which records: either filters such as --participant, or --everything",
        ));
    }
    let people = arguments.person.open().await?;
    let query = arguments.filters.query();
    let hold = people
        .place_hold(&arguments.matter, &query, &arguments.reason)
        .await?;
    let placed = Placed {
        hold: hex(&hold),
        matter: arguments.matter.to_string(),
    };
    print(output, &placed, |placed| format!("{}\n", placed.hold))
}

async fn release(arguments: &Release, output: Output) -> Result<()> {
    let first = arguments.person.open().await?;
    let access = Access {
        identity: arguments.second_identity.clone(),
        ..arguments.person.access.clone()
    };
    let second = Person::load(&access.keys(&arguments.second)?, &arguments.second)?;
    check_roster(first.client(), &second)?;
    let second = People::new(first.client(), second);
    let hold = arguments.hold.0;
    let matters = all(&first).await?;
    let matter = matters
        .iter()
        .find(|matter| matter.holds.iter().any(|found| found.hold == hold))
        .and_then(|matter| MatterId::try_from(matter.matter.as_slice()).ok())
        .ok_or_else(|| {
            Failure::refused(
                "HOLD_UNKNOWN",
                format_args!("there is no hold {}: see `greffe hold list`", hex(&hold)),
            )
        })?;
    let act = People::hold_release(&hold, &matter, &arguments.reason);
    let acts = vec![
        first.sign_act("hold.release", &act)?,
        second.sign_act("hold.release", &act)?,
    ];
    let released = Released {
        hold: hex(&hold),
        matter: matter.to_string(),
        signed_by: [arguments.person.name.clone(), arguments.second.clone()],
        log_index: first.perform(acts).await?,
    };
    print(output, &released, |released| {
        format!(
            "{} is released: entry {} of the log\n",
            released.hold, released.log_index
        )
    })
}

//! `greffe operator ceremony`: the escrow nodes generate a journaling key, or share one anew.

use core::time::Duration;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, Statement as _};
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::{Digest, Millis};
use serde::Serialize;

use super::super::form::{duration, instant, time};
use super::bundle::pack;
use super::reshare::{self, Reshare};
use super::{Anchors, Reach, newest};
use crate::fail::Result;
use crate::operator::ceremony::{Ceremony, KEY_RECORD, SHARE_EPOCH, Wanted, descriptor};
use crate::operator::file;
use crate::operator::reshare::Resharing;
use crate::operator::transcript::{self, ROUNDS};
use crate::operator::view::View;
use crate::output::{Output, print};

/// How far back a key begins, for clocks that differ.
const SKEW: Duration = Duration::from_secs(60);

/// `greffe operator ceremony`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe operator ceremony status --state ./ceremony")]
pub(super) struct CeremonyArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Draft what is to be made, for the root to sign.
    New(New),
    /// Draft how a journaling key is to be shared anew, for the root to sign: fresh shares for the same nodes, for other ones, or
    /// another number of them.
    Reshare(Reshare),
    /// Begin a ceremony that the root has signed, or go on with it, to its end: each node is asked for what it has not yet
    /// answered. Interrupted, it is run again as it was.
    Start(Start),
    /// Carry one round of a ceremony that was begun.
    Step(Step),
    /// How far a ceremony is.
    Status(Status),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  greffe operator ceremony new --root root.pub --bundle bundle.bin --pack us-broker-dealer --threshold 2 --out ceremony.bin"
)]
struct New {
    #[command(flatten)]
    anchors: Anchors,
    /// Policy pack whose notices disclose the key.
    #[arg(long, value_name = "ID")]
    pack: String,
    /// How many nodes together open a record.
    #[arg(long, default_value_t = 2)]
    threshold: u32,
    /// Name of the period; the month in which it begins without it.
    #[arg(long)]
    period: Option<String>,
    /// When the key begins to serve; now without it.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Option<Millis>,
    /// How long the key serves. During its last days conversations move to the next one.
    #[arg(long, value_parser = duration, default_value = "396d")]
    serves: Duration,
    /// How long nodes take part in the ceremony.
    #[arg(long, value_parser = duration, default_value = "7d")]
    within: Duration,
    /// File for the draft.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  greffe operator ceremony start ceremony.signed.bin --state ./ceremony --connection connection.toml"
)]
struct Start {
    /// The descriptor that the root signed.
    descriptor: PathBuf,
    /// Folder of the ceremony, new: every node's answers, and at the end `key-record.bin` and `share-epoch.bin`; of a resharing the
    /// latter alone is new.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  greffe operator ceremony step --state ./ceremony --connection connection.toml"
)]
struct Step {
    /// Folder of the ceremony.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe operator ceremony status --state ./ceremony")]
struct Status {
    /// Folder of the ceremony.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
}

#[derive(Serialize)]
struct Drafted {
    draft: PathBuf,
    digest: String,
}

#[derive(Serialize)]
struct Standing {
    period: String,
    nodes: Vec<String>,
    threshold: u32,
    /// Rounds that every node has answered, of `rounds`.
    answered: u32,
    rounds: u32,
    /// Nodes that have answered the next round.
    ahead: Vec<String>,
    expiry: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<Made>,
}

#[derive(Serialize)]
struct Made {
    key: Digest,
    key_record: PathBuf,
    share_epoch: PathBuf,
}

/// Runs one of them.
pub(super) async fn run(arguments: CeremonyArguments, output: Output) -> Result<()> {
    let now = SystemClock.now();
    match arguments.what {
        What::New(new) => draft(new, now, output),
        What::Reshare(wanted) => reshare::draft(wanted, now, output).await,
        What::Start(start) => {
            let network = start.reach.network()?;
            let descriptor = file::read(&start.descriptor)?;
            if descriptor.r#type == pb::ReshareDescriptor::TYPE {
                let trust = network.trust().await?;
                let resharing = Resharing::begin(&start.state, &descriptor, &trust)?;
                let made = resharing.run(&network, &trust, now).await?;
                return reshare::report(&resharing, &start.state, Some(&made), output);
            }
            let bundle = network.bundle().await?;
            let ceremony = Ceremony::begin(&start.state, &descriptor)?;
            let made = ceremony.run(&network, &bundle, now).await?;
            report(&ceremony, &start.state, Some(made.key_id), output)
        }
        What::Step(step) => {
            let network = step.reach.network()?;
            if is_resharing(&step.state)? {
                let trust = network.trust().await?;
                let resharing = Resharing::open(&step.state)?;
                resharing.step(&network, &trust, now).await?;
                let made = if resharing.progress().0 > ROUNDS {
                    Some(resharing.conclude(&trust)?)
                } else {
                    None
                };
                return reshare::report(&resharing, &step.state, made.as_ref(), output);
            }
            let ceremony = Ceremony::open(&step.state)?;
            let bundle = network.bundle().await?;
            ceremony.step(&network, &bundle, now).await?;
            let key = if ceremony.progress().0 > ROUNDS {
                Some(ceremony.conclude(&network, &bundle, now)?.key_id)
            } else {
                None
            };
            report(&ceremony, &step.state, key, output)
        }
        What::Status(status) if is_resharing(&status.state)? => reshare::report(
            &Resharing::open(&status.state)?,
            &status.state,
            None,
            output,
        ),
        What::Status(status) => {
            report(&Ceremony::open(&status.state)?, &status.state, None, output)
        }
    }
}

fn is_resharing(state: &Path) -> Result<bool> {
    Ok(transcript::descriptor(state)?.r#type == pb::ReshareDescriptor::TYPE)
}

fn draft(new: New, now: Millis, output: Output) -> Result<()> {
    let (_, bundles) = new.anchors.read()?;
    let wanted = Wanted {
        bundle: newest(&bundles)?.message(),
        pack: pack(&new.pack)?,
        period: new.period,
        not_before: new.from.unwrap_or_else(|| now.minus(SKEW)),
        serves: new.serves,
        threshold: new.threshold,
        expiry: now.plus(new.within),
    };
    let draft = Signed::sign(descriptor(wanted)?, &[]);
    file::write(&new.out, draft.raw())?;
    let drafted = Drafted {
        digest: View::new(draft.raw())?.digest,
        draft: new.out,
    };
    print(output, &drafted, |d| {
        format!(
            "a ceremony is drafted in {}, digest {}",
            d.draft.display(),
            d.digest
        )
    })
}

fn report(ceremony: &Ceremony, state: &Path, key: Option<Digest>, output: Output) -> Result<()> {
    let wanted = ceremony.descriptor();
    let (answered, ahead) = ceremony.progress();
    let standing = Standing {
        period: wanted.period.clone(),
        nodes: wanted.nodes.clone(),
        threshold: wanted.threshold,
        answered,
        rounds: ROUNDS + 1,
        ahead,
        expiry: time(wanted.expiry),
        made: key.map(|key| Made {
            key,
            key_record: state.join(KEY_RECORD),
            share_epoch: state.join(SHARE_EPOCH),
        }),
    };
    print(output, &standing, |s| match &s.made {
        Some(made) => format!(
            "journaling key {} is shared {} of {}\nthe root signs {} next; {} needs no signature of the root",
            made.key,
            s.threshold,
            s.nodes.len(),
            made.key_record.display(),
            made.share_epoch.display()
        ),
        None => format!(
            "period {}: {} of {} rounds are answered by all of {}{}; nodes take part until {}",
            s.period,
            s.answered,
            s.rounds,
            s.nodes.join(", "),
            if s.ahead.is_empty() {
                String::new()
            } else {
                format!(", the next by {}", s.ahead.join(", "))
            },
            s.expiry
        ),
    })
}

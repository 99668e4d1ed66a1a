//! Messages accepted, archived and logged a second, by real processes, beside the limits.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result};
use greffe_api::relay::SendRequest;
use prost::Message as _;

use crate::backend::{Backend, Kind};
use crate::device::{Device, seal_all};
use crate::limits::sink::Running;
use crate::limits::{disk, postgres};
use crate::load::{self, Outcome};
use crate::machine::size_of;
use crate::report::{Section, figure, ratio};
use crate::stats::median;
use crate::up::App;
use crate::{Options, narrate};

/// Bytes of text of every message.
pub(crate) const TEXT: usize = 200;
/// Rows that a limit writes in one go.
const ROWS: usize = 20_000;

/// So many senders, each with so many messages, of which so many on their way at once.
#[derive(Debug, Clone, Copy)]
struct Shape {
    senders: usize,
    window: usize,
    each: usize,
}

const fn shape(senders: usize, window: usize, each: usize) -> Shape {
    Shape {
        senders,
        window,
        each,
    }
}

/// One at a time, as a unary call would have it, and streamed as the client library does.
const SHAPES: [Shape; 6] = [
    shape(1, 1, 200),
    shape(8, 1, 100),
    shape(64, 1, 40),
    shape(1, 256, 2000),
    shape(8, 256, 400),
    shape(64, 256, 60),
];
/// What shows that it runs.
const QUICK: [Shape; 2] = [shape(1, 1, 20), shape(4, 64, 50)];

/// What one back end did.
#[derive(Default)]
struct Figures {
    ours: BTreeMap<usize, Vec<Outcome>>,
    sink: BTreeMap<usize, Vec<Outcome>>,
    insert: Vec<f64>,
    append: Vec<f64>,
    hash: Vec<f64>,
    /// Microseconds of processor a message, by part, of the streamed shape with eight senders.
    processor: BTreeMap<String, Vec<f64>>,
}

/// Measures every back end.
///
/// # Errors
/// When one does not start, or refuses.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Section>> {
    let kinds: &[Kind] = if options.quick {
        &[Kind::Embedded]
    } else {
        &[
            Kind::Embedded,
            Kind::Postgres,
            Kind::Buckets(1),
            Kind::Buckets(2),
        ]
    };
    let shapes: &[Shape] = if options.quick { &QUICK } else { &SHAPES };
    let mut rates = Section::new(
        "Throughput",
        format!(
            "Messages of {TEXT} bytes, sealed beforehand; each sender has a device, a stream and a conversation of its own, \
             eight connections serve them all, as in the client library, and each waits for the archive's receipt. The relay has no unary call: \"1\" on their way is one message after the \
             other on a stream. \"Archived\" counts until the last receipt, \"logged\" until every receipt is in the log. The \
             sink is the same bytes over the same gRPC and mutual TLS into one SQLite table, nothing checked, up to 512 rows a \
             commit (WAL, synchronous=FULL)."
        ),
        &[
            "stores",
            "senders",
            "on their way",
            "archived/s",
            "logged/s",
            "p50 ms",
            "p99 ms",
            "sink/s",
            "of the sink",
            "sink p99 ms",
        ],
    );
    let mut limits = Section::new(
        "Limits of the same run",
        "The best archived/s above, of: a plain insert of 100 rows a statement (UNNEST, one connection, each committed) into the \
         same PostgreSQL; 100 messages appended to one file with one fdatasync; SHA-256 of the same bytes. All of one core.",
        &[
            "stores",
            "best archived/s",
            "plain insert rows/s",
            "of it",
            "file appends/s",
            "of it",
            "hashes/s",
            "of it",
        ],
    );
    let mut shares = Section::new(
        "Processor by part",
        "Microseconds of processor a message while eight senders stream, all cores together; logging and proofs that come after \
         the last receipt are not in it.",
        &["stores", "part", "microseconds a message", "share"],
    );
    let mut sizes = Section::new(
        "Bytes a message",
        "A request before gRPC and TLS, and on the disks of the services after all messages of the run, what SQLite has not \
         yet checkpointed included.",
        &["what", "bytes", "of the text"],
    );
    for kind in kinds {
        let figures = one(options, *kind, shapes, &mut sizes).await?;
        tell(
            kind.name(),
            shapes,
            &figures,
            [&mut rates, &mut limits, &mut shares],
        );
    }
    Ok(vec![rates, limits, shares, sizes])
}

async fn one(
    options: &Options,
    kind: Kind,
    shapes: &[Shape],
    sizes: &mut Section,
) -> Result<Figures> {
    narrate(format_args!("  {}", kind.name()));
    let backend = Backend::start(options, kind, &[]).await?;
    let app = App::open(&backend.data()).await?;
    let sink = Running::start(backend.folder()).await?;
    let most = shapes.iter().map(|shape| shape.senders).max().unwrap_or(1);
    let mut devices = Vec::new();
    for number in 0..most {
        devices.push(Device::new(&app, u8::try_from(number)?).await?);
    }
    let mut figures = Figures::default();
    let (before, mut messages) = (size_of(&backend.data().join("services")), 0);
    let mut wire = 0;
    for _ in 0..options.runs {
        for (place, shape) in shapes.iter().enumerate() {
            let rest = devices.split_off(shape.senders);
            let mut sealed = seal_all(devices, shape.each, TEXT).await?;
            let like = sealed[0].1.first().cloned().context("nothing was sealed")?;
            wire = like.encoded_len();
            let limit = sink.load(shape.senders, shape.each, shape.window, &like);
            figures.sink.entry(place).or_default().push(limit.await?);
            let outcome = ours(&backend, &app, &mut sealed, *shape, &mut figures).await?;
            messages += outcome.messages;
            narrate(format_args!(
                "    {} x {}: {:.0}/s, logged {:.0}/s",
                shape.senders,
                shape.window,
                outcome.rate(),
                outcome.logged_rate()
            ));
            figures.ours.entry(place).or_default().push(outcome);
            devices = sealed.into_iter().map(|(device, _)| device).collect();
            devices.extend(rest);
            if place + 1 == shapes.len() {
                beside(&backend, &like, &mut figures, options.quick).await?;
            }
        }
    }
    if kind == Kind::Embedded {
        let after = size_of(&backend.data().join("services"));
        let rest = (after.saturating_sub(before)) as f64 / messages as f64;
        for (what, bytes) in [
            ("text", TEXT as f64),
            ("a request, before gRPC and TLS", wire as f64),
            ("at rest, all services", rest),
        ] {
            sizes.row(vec![what.into(), figure(bytes), ratio(bytes, TEXT as f64)]);
        }
    }
    Ok(figures)
}

async fn ours(
    backend: &Backend,
    app: &App,
    sealed: &mut [(Device, Vec<SendRequest>)],
    shape: Shape,
    figures: &mut Figures,
) -> Result<Outcome> {
    let before = backend.seconds();
    let begun = Instant::now();
    let (mut outcome, last) = load::send(sealed, shape.window).await?;
    let after = backend.seconds();
    outcome.logged = load::logged(app, &last, begun).await?;
    if shape.senders > 1 && shape.senders <= 8 && shape.window > 1 {
        for ((part, after), (_, before)) in after.into_iter().zip(before) {
            let taken = (after - before) * 1e6 / outcome.messages as f64;
            figures.processor.entry(part).or_default().push(taken);
        }
    }
    Ok(outcome)
}

/// The limits that need no network.
async fn beside(
    backend: &Backend,
    like: &SendRequest,
    figures: &mut Figures,
    quick: bool,
) -> Result<()> {
    let rows = if quick { ROWS / 20 } else { ROWS };
    let payload = like.encode_to_vec();
    if let Some((_, url)) = &backend.postgres {
        figures
            .insert
            .push(postgres::insert(url, &payload, rows).await?);
    }
    let folder = backend.folder().to_owned();
    let (append, hash) = tokio::task::spawn_blocking(move || {
        Ok::<_, anyhow::Error>((
            disk::append(&folder, &payload, rows)?,
            disk::hash(&payload, rows),
        ))
    })
    .await??;
    figures.append.push(append);
    figures.hash.push(hash);
    Ok(())
}

fn tell(name: String, shapes: &[Shape], figures: &Figures, sections: [&mut Section; 3]) {
    let [rates, limits, shares] = sections;
    let of = |outcomes: Option<&Vec<Outcome>>, what: fn(&Outcome) -> f64| {
        let all: Vec<f64> = outcomes.into_iter().flatten().map(what).collect();
        median(&all)
    };
    let mut best = 0.0_f64;
    for (place, shape) in shapes.iter().enumerate() {
        let (ours, sink) = (figures.ours.get(&place), figures.sink.get(&place));
        let rate = of(ours, Outcome::rate);
        best = best.max(rate);
        // A ratio of the same turn, not of medians of different ones.
        let pairs: Vec<f64> = ours
            .into_iter()
            .flatten()
            .zip(sink.into_iter().flatten())
            .map(|(ours, sink)| ours.rate() / sink.rate())
            .collect();
        rates.row(vec![
            name.clone(),
            shape.senders.to_string(),
            shape.window.to_string(),
            figure(rate),
            figure(of(ours, Outcome::logged_rate)),
            figure(of(ours, |outcome| outcome.wait(0.5))),
            figure(of(ours, |outcome| outcome.wait(0.99))),
            figure(of(sink, Outcome::rate)),
            format!("{:.2}", median(&pairs)),
            figure(of(sink, |outcome| outcome.wait(0.99))),
        ]);
    }
    let mut row = vec![name.clone(), figure(best)];
    for limit in [&figures.insert, &figures.append, &figures.hash] {
        let limit = median(limit);
        let shown = if limit > 0.0 {
            figure(limit)
        } else {
            "-".into()
        };
        row.extend([shown, ratio(best, limit)]);
    }
    limits.row(row);
    let parts: Vec<(&String, f64)> = figures
        .processor
        .iter()
        .map(|(part, all)| (part, median(all)))
        .collect();
    let total: f64 = parts.iter().map(|(_, taken)| taken).sum();
    for (part, taken) in parts {
        let share = format!("{:.0} %", 100.0 * taken / total.max(f64::MIN_POSITIVE));
        shares.row(vec![name.clone(), part.clone(), figure(taken), share]);
    }
}

//! Where the time of a message goes: spans and transactions as the services export them.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Options;
use crate::backend::{Backend, Kind};
use crate::device::{Device, seal_all};
use crate::load;
use crate::report::{Section, figure};
use crate::stats::{median, percentile};
use crate::telemetry::Collector;
use crate::throughput::TEXT;
use crate::up::App;

/// How long the last exports may take.
const EXPORTED: Duration = Duration::from_millis(1500);

/// Measures eight senders that stream, on SQLite and on PostgreSQL.
///
/// # Errors
/// When the services do not start, or refuse.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Section>> {
    let mut spans = Section::new(
        "Where the time goes: spans",
        "Every message traced, eight senders streaming. A message waits in each stage for those before it, so the spans of one \
         message are long although the stages are short: relay.send is from a message's arrival to its answer, archive.ingest \
         from the archive's taking it to its receipt, archive.batch a batch of receipts on its way into the log, audit.append the \
         log's own part of that. Traces cost time themselves.",
        &["stores", "span", "count", "p50 ms", "p99 ms"],
    );
    let mut transactions = Section::new(
        "Where the time goes: transactions",
        "The same messages. Every write transaction by name, its wait for the writer included; the share is of the wall time \
         until every receipt is in the log: each service has one writer, so a share near 100 % is what limits.",
        &[
            "stores",
            "service",
            "transaction",
            "count",
            "messages each",
            "ms each",
            "share of the time",
        ],
    );
    let kinds: &[Kind] = if options.quick {
        &[Kind::Embedded]
    } else {
        &[Kind::Embedded, Kind::Postgres]
    };
    for kind in kinds {
        one(options, *kind, &mut spans, &mut transactions).await?;
    }
    Ok(vec![spans, transactions])
}

async fn one(
    options: &Options,
    kind: Kind,
    spans: &mut Section,
    transactions: &mut Section,
) -> Result<()> {
    let (collector, endpoint) = Collector::start().await?;
    let settings = [
        ("GREFFE__SERVICE__TELEMETRY__OTLP".to_owned(), endpoint),
        (
            "GREFFE__SERVICE__TELEMETRY__METRICS_MS".to_owned(),
            "250".into(),
        ),
    ];
    let backend = Backend::start(options, kind, &settings).await?;
    let app = App::open(&backend.data()).await?;
    let mut devices = Vec::new();
    for number in 0..8 {
        devices.push(Device::new(&app, number).await?);
    }
    let each = if options.quick { 25 } else { 750 };
    let mut sealed = seal_all(devices, each, TEXT).await?;
    tokio::time::sleep(EXPORTED).await;
    let before = {
        let mut received = collector.received();
        received.spans.clear();
        received.histograms.clone()
    };
    let begun = Instant::now();
    let (outcome, last) = load::send(&mut sealed, 256).await?;
    let wall = load::logged(&app, &last, begun).await?;
    tokio::time::sleep(EXPORTED).await;

    let received = collector.received();
    for (name, all) in &received.spans {
        spans.row(vec![
            kind.name(),
            name.clone(),
            all.len().to_string(),
            figure(median(all)),
            figure(percentile(all, 0.99)),
        ]);
    }
    let mut rows = Vec::new();
    for (series, (count, sum)) in &received.histograms {
        let (service, metric, labels) = series;
        let (earlier, was) = before.get(series).copied().unwrap_or_default();
        let (count, seconds) = (count.saturating_sub(earlier), sum - was);
        if metric == "greffe.transaction.duration" && count > 0 && labels.contains("=true") {
            rows.push((seconds, service.clone(), labels.clone(), count));
        }
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (seconds, service, labels, count) in rows.into_iter().take(10) {
        let name = labels
            .split(',')
            .find_map(|label| label.strip_prefix("name="));
        transactions.row(vec![
            kind.name(),
            service,
            name.unwrap_or(&labels).to_owned(),
            count.to_string(),
            figure(outcome.messages as f64 / count as f64),
            figure(seconds * 1000.0 / count as f64),
            format!("{:.0} %", 100.0 * seconds / wall),
        ]);
    }
    Ok(())
}

//! Every metric of every service: its name, unit, kind, labels and meaning, in one place. `deploy/METRICS.md` is made of it.
//!
//! Services set what they know; instruments go through the OpenTelemetry API, so nothing is kept until [`super::init`] has
//! given it a reader. Labels have bounded values and never hold content, names of people or keys.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use greffe_types::Millis;
use opentelemetry::metrics::Meter;
use opentelemetry::{KeyValue, global};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its name in OpenTelemetry.
    pub name: &'static str,
    /// Its unit, as UCUM writes it.
    pub unit: &'static str,
    /// The labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub meaning: &'static str,
}

const fn about(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    meaning: &'static str,
) -> About {
    About {
        name,
        unit,
        labels,
        meaning,
    }
}

fn meter() -> Meter {
    global::meter("greffe")
}

/// A distribution.
#[derive(Debug)]
pub struct Histogram {
    about: About,
    boundaries: &'static [f64],
    instrument: OnceLock<opentelemetry::metrics::Histogram<f64>>,
}

impl Histogram {
    const fn new(about: About, boundaries: &'static [f64]) -> Self {
        Self {
            about,
            boundaries,
            instrument: OnceLock::new(),
        }
    }

    pub(crate) fn record(&self, value: f64, labels: &[KeyValue]) {
        let instrument = self.instrument.get_or_init(|| {
            meter()
                .f64_histogram(self.about.name)
                .with_unit(self.about.unit)
                .with_description(self.about.meaning)
                .with_boundaries(self.boundaries.to_vec())
                .build()
        });
        instrument.record(value, labels);
    }
}

/// A number that only grows.
#[derive(Debug)]
pub struct Counter {
    about: About,
    instrument: OnceLock<opentelemetry::metrics::Counter<u64>>,
}

impl Counter {
    const fn new(about: About) -> Self {
        Self {
            about,
            instrument: OnceLock::new(),
        }
    }

    /// Grows.
    pub fn add(&self, count: u64) {
        self.instrument().add(count, &[]);
    }

    /// Grows, under a value of its one label.
    pub fn add_for(&self, label: impl Into<String>, count: u64) {
        let key = self.about.labels.first().copied().unwrap_or("label");
        self.instrument()
            .add(count, &[KeyValue::new(key, label.into())]);
    }

    fn instrument(&self) -> &opentelemetry::metrics::Counter<u64> {
        self.instrument.get_or_init(|| {
            meter()
                .u64_counter(self.about.name)
                .with_unit(self.about.unit)
                .with_description(self.about.meaning)
                .build()
        })
    }
}

/// A number as it stands. It is shown from when it was first set.
#[derive(Debug)]
pub struct Gauge {
    about: About,
    /// By the value of its one label, if it has one.
    values: Mutex<BTreeMap<Option<String>, Shown>>,
}

/// What a gauge shows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shown {
    /// A number.
    Number(f64),
    /// Seconds since then, at the time it is read.
    Since(Millis),
}

impl Gauge {
    const fn new(about: About) -> Self {
        Self {
            about,
            values: Mutex::new(BTreeMap::new()),
        }
    }

    /// It is this now.
    #[expect(
        clippy::cast_precision_loss,
        reason = "nobody counts to two to the fifty-third"
    )]
    pub fn set(&self, value: u64) {
        self.show(None, Shown::Number(value as f64));
    }

    /// As [`Gauge::set`], under a value of its label.
    #[expect(
        clippy::cast_precision_loss,
        reason = "nobody counts to two to the fifty-third"
    )]
    pub fn set_for(&self, label: &str, value: u64) {
        self.show(Some(label.to_owned()), Shown::Number(value as f64));
    }

    /// An age: it grows from that time on, until it is set again. Nothing there has no age: zero.
    pub fn since(&self, time: Option<Millis>) {
        self.show(None, time.map_or(Shown::Number(0.0), Shown::Since));
    }

    /// As [`Gauge::since`], under a value of its label.
    pub fn since_for(&self, label: &str, time: Option<Millis>) {
        self.show(
            Some(label.to_owned()),
            time.map_or(Shown::Number(0.0), Shown::Since),
        );
    }

    fn show(&self, label: Option<String>, shown: Shown) {
        self.lock().insert(label, shown);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Option<String>, Shown>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is read now.
    fn read(&self) -> Vec<(f64, Vec<KeyValue>)> {
        let key = self.about.labels.first().copied().unwrap_or("label");
        let values = self.lock();
        values
            .iter()
            .map(|(label, shown)| {
                let value = match shown {
                    Shown::Number(value) => *value,
                    Shown::Since(time) => age(*time),
                };
                let label = label.clone().map(|label| KeyValue::new(key, label));
                (value, label.into_iter().collect())
            })
            .collect()
    }
}

/// Seconds.
fn age(time: Millis) -> f64 {
    let then = std::time::Duration::from_millis(time.get());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    now.saturating_sub(then).as_secs_f64()
}

/// Has the gauges read whenever somebody collects.
pub(super) fn observe_gauges() {
    for gauge in GAUGES {
        // The meter keeps it.
        let _instrument = meter()
            .f64_observable_gauge(gauge.about.name)
            .with_unit(gauge.about.unit)
            .with_description(gauge.about.meaning)
            .with_callback(|observer| {
                for (value, labels) in gauge.read() {
                    observer.observe(value, &labels);
                }
            })
            .build();
    }
}

/// Seconds, from a millisecond to a minute.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
const SIZES: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// Calls answered.
pub static CALLS: Histogram = Histogram::new(
    about(
        "greffe.rpc.duration",
        "s",
        &["method", "code"],
        "Time from a call's head to the head of its answer, by RPC and gRPC status code",
    ),
    SECONDS,
);
/// Transactions ended.
pub static TRANSACTIONS: Histogram = Histogram::new(
    about(
        "greffe.transaction.duration",
        "s",
        &["name", "committed"],
        "Time that a database transaction took, its wait for the writer included",
    ),
    SECONDS,
);
/// Group commits.
pub static BATCHES: Histogram = Histogram::new(
    about(
        "greffe.batch.size",
        "{request}",
        &["name"],
        "Requests that one group commit took",
    ),
    SIZES,
);
/// Requests refused.
pub static QUEUE_REFUSED: Counter = Counter::new(about(
    "greffe.queue.refused",
    "{request}",
    &["name"],
    "Requests refused because the queue of a group commit was full",
));
/// The TLS certificate's end.
pub static CERTIFICATE_NOT_AFTER: Gauge = Gauge::new(about(
    "greffe.certificate.not_after",
    "s",
    &[],
    "When the service's TLS certificate expires, in seconds since 1970",
));
/// Certificates that were read again.
pub static CERTIFICATE_RELOADS: Counter = Counter::new(about(
    "greffe.certificate.reloads",
    "{reload}",
    &["outcome"],
    "Times that changed TLS files were read: taken, or refused and the old ones kept",
));
/// Whether we lead.
pub static LEASE_HELD: Gauge = Gauge::new(about(
    "greffe.lease.held",
    "",
    &[],
    "1 while this process holds the lease of its service, 0 while another does or it stands by",
));
/// The fencing epoch.
pub static LEASE_EPOCH: Gauge = Gauge::new(about(
    "greffe.lease.epoch",
    "",
    &[],
    "Fencing epoch of the lease that this process held last",
));
/// How old our view of the log is.
pub static FOLLOWER_AGE: Gauge = Gauge::new(about(
    "greffe.follower.age",
    "s",
    &[],
    "Time since the witnesses stood by the newest checkpoint of the log that this service has taken in",
));
/// How much of the log is not taken in yet.
pub static FOLLOWER_BEHIND: Gauge = Gauge::new(about(
    "greffe.follower.behind",
    "{leaf}",
    &[],
    "Leaves of the newest checkpoint seen that this service has not taken in",
));
/// What no collector received.
pub static TELEMETRY_LOST: Counter = Counter::new(about(
    "greffe.telemetry.lost",
    "{item}",
    &["signal"],
    "Spans and log records that were to be exported and could not be: the collector refused, or was away",
));
/// The relay's backlog.
pub static RELAY_UNARCHIVED_ITEMS: Gauge = Gauge::new(about(
    "greffe.relay.unarchived.items",
    "{item}",
    &[],
    "Items that have a number and no receipt of the archive",
));
/// The relay's backlog.
pub static RELAY_UNARCHIVED_SIZE: Gauge = Gauge::new(about(
    "greffe.relay.unarchived.size",
    "By",
    &[],
    "Bytes of the items that have a number and no receipt of the archive",
));
/// The relay's backlog.
pub static RELAY_UNARCHIVED_AGE: Gauge = Gauge::new(about(
    "greffe.relay.unarchived.age",
    "s",
    &[],
    "Age of the oldest item without a receipt of the archive",
));
/// The mailboxes.
pub static RELAY_UNDELIVERED_AGE: Gauge = Gauge::new(about(
    "greffe.relay.undelivered.age",
    "s",
    &[],
    "Longest time that a device with an open mailbox has taken in nothing of what it should",
));
/// The log's lag.
pub static AUDIT_UNPUBLISHED_LEAVES: Gauge = Gauge::new(about(
    "greffe.audit.unpublished.leaves",
    "{leaf}",
    &[],
    "Leaves that are acknowledged and not yet under a published checkpoint",
));
/// The log's lag.
pub static AUDIT_UNPUBLISHED_AGE: Gauge = Gauge::new(about(
    "greffe.audit.unpublished.age",
    "s",
    &[],
    "Age of the oldest acknowledged leaf that is not under a published checkpoint",
));
/// Witnesses.
pub static AUDIT_WITNESS_AGE: Gauge = Gauge::new(about(
    "greffe.audit.witness.age",
    "s",
    &["witness"],
    "Time since a witness last cosigned a checkpoint of this log",
));
/// Scrubbing.
pub static ARCHIVE_SCRUB_CHECKED: Counter = Counter::new(about(
    "greffe.archive.scrub.checked",
    "{object}",
    &[],
    "Objects that the scrub read again and compared",
));
/// Scrubbing.
pub static ARCHIVE_SCRUB_FAILED: Counter = Counter::new(about(
    "greffe.archive.scrub.failed",
    "{object}",
    &[],
    "Objects that the scrub found damaged, missing or without their lock",
));
/// Scrubbing.
pub static ARCHIVE_SCRUB_REPAIRED: Counter = Counter::new(about(
    "greffe.archive.scrub.repaired",
    "{object}",
    &[],
    "Objects that the scrub restored from the replica",
));
/// The scrub.
pub static ARCHIVE_SCRUB_ERRORS: Counter = Counter::new(about(
    "greffe.archive.scrub.errors",
    "{record}",
    &[],
    "Records whose objects the scrub could not look at, for each attempt: a bucket or the database did not answer",
));
/// Holds.
pub static ARCHIVE_HOLD_ERRORS: Counter = Counter::new(about(
    "greffe.archive.hold.errors",
    "{attempt}",
    &[],
    "Legal holds that could not be put on the objects they cover, for each attempt",
));
/// Retention.
pub static ARCHIVE_RETENTION_ERRORS: Counter = Counter::new(about(
    "greffe.archive.retention.errors",
    "{attempt}",
    &[],
    "Retention dates that could not be set on an attachment, or moved to a later one, for each attempt",
));
/// Disposition.
pub static ARCHIVE_DISPOSITION_ERRORS: Counter = Counter::new(about(
    "greffe.archive.disposition.errors",
    "{attempt}",
    &[],
    "Dispositions that could not go on, for each attempt",
));
/// The sweep.
pub static ARCHIVE_SWEEP_ERRORS: Counter = Counter::new(about(
    "greffe.archive.sweep.errors",
    "{attempt}",
    &[],
    "Attachments without a record that could not be removed, for each attempt",
));
/// Months.
pub static ARCHIVE_MONTHS_AHEAD: Gauge = Gauge::new(about(
    "greffe.archive.months.ahead",
    "{month}",
    &[],
    "Months of records that have a partition, this one and those that follow it; on PostgreSQL",
));
/// A node's openings.
pub static ESCROW_OPENED: Counter = Counter::new(about(
    "greffe.escrow.opened",
    "{record}",
    &[],
    "Records that the node has counted as opened, each before its share was touched",
));
/// A node's openings.
pub static ESCROW_CAPPED: Counter = Counter::new(about(
    "greffe.escrow.capped",
    "{record}",
    &[],
    "Records that the node refused to open because it had opened as many in an hour as it may",
));
/// A node's openings.
pub static ESCROW_CAP: Gauge = Gauge::new(about(
    "greffe.escrow.cap",
    "{record}",
    &[],
    "Records that the node may open in an hour, by its settings",
));

static HISTOGRAMS: [&Histogram; 3] = [&CALLS, &TRANSACTIONS, &BATCHES];

static COUNTERS: [&Counter; 13] = [
    &QUEUE_REFUSED,
    &CERTIFICATE_RELOADS,
    &TELEMETRY_LOST,
    &ARCHIVE_SCRUB_CHECKED,
    &ARCHIVE_SCRUB_FAILED,
    &ARCHIVE_SCRUB_REPAIRED,
    &ARCHIVE_SCRUB_ERRORS,
    &ARCHIVE_HOLD_ERRORS,
    &ARCHIVE_RETENTION_ERRORS,
    &ARCHIVE_DISPOSITION_ERRORS,
    &ARCHIVE_SWEEP_ERRORS,
    &ESCROW_OPENED,
    &ESCROW_CAPPED,
];

static GAUGES: [&Gauge; 14] = [
    &ARCHIVE_MONTHS_AHEAD,
    &CERTIFICATE_NOT_AFTER,
    &LEASE_HELD,
    &LEASE_EPOCH,
    &FOLLOWER_AGE,
    &FOLLOWER_BEHIND,
    &RELAY_UNARCHIVED_ITEMS,
    &RELAY_UNARCHIVED_SIZE,
    &RELAY_UNARCHIVED_AGE,
    &RELAY_UNDELIVERED_AGE,
    &AUDIT_UNPUBLISHED_LEAVES,
    &AUDIT_UNPUBLISHED_AGE,
    &AUDIT_WITNESS_AGE,
    &ESCROW_CAP,
];

/// Has the counters begin at zero: one that first shows as 1 has not grown, as far as an alert can see.
pub(super) fn begin() {
    for counter in COUNTERS.iter().filter(|c| c.about.labels.is_empty()) {
        counter.add(0);
    }
    for outcome in ["taken", "refused"] {
        CERTIFICATE_RELOADS.add_for(outcome, 0);
    }
}

/// Every metric with its kind, by name.
fn all() -> Vec<(&'static str, About)> {
    let mut all: Vec<_> = HISTOGRAMS
        .iter()
        .map(|metric| ("histogram", metric.about))
        .chain(COUNTERS.iter().map(|metric| ("counter", metric.about)))
        .chain(GAUGES.iter().map(|metric| ("gauge", metric.about)))
        .collect();
    all.sort_by_key(|(_, about)| about.name);
    all
}

/// The name under which Prometheus finds it.
fn prometheus_name(kind: &str, about: &About) -> String {
    let unit = match about.unit {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    };
    let mut name = about.name.replace('.', "_") + unit;
    if kind == "counter" {
        name.push_str("_total");
    }
    name
}

/// The content of `deploy/METRICS.md`.
pub fn list() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Made from `crates/service-kit/src/telemetry/metrics.rs`; a test compares. Exported over OTLP under the first name,\n\
         shown on the health port's `/metrics` under the second. A gauge is there from when its service first sets it. Every\n\
         series has the resource `service.name`, `service.instance.id` and `greffe.tenant`; no label has content, names of people\n\
         or keys.\n\n\
         | OpenTelemetry | Prometheus | kind | unit | labels | meaning |\n|---|---|---|---|---|---|\n",
    );
    for (kind, about) in all() {
        text.push_str(&format!(
            "| `{}` | `{}` | {kind} | {} | {} | {} |\n",
            about.name,
            prometheus_name(kind, &about),
            about.unit,
            about.labels.join(", "),
            about.meaning
        ));
    }
    text
}

/// Sets everything once, so that every name is shown; with instruments of its own, since other tests may have had theirs
/// before there was a reader.
#[cfg(test)]
pub(crate) fn touch() -> Vec<String> {
    for histogram in HISTOGRAMS {
        Histogram::new(histogram.about, histogram.boundaries).record(1.0, &[]);
    }
    for counter in COUNTERS {
        Counter::new(counter.about).add(1);
    }
    for gauge in GAUGES {
        gauge.set(1);
    }
    all()
        .iter()
        .map(|(kind, about)| prometheus_name(kind, about))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/METRICS.md");
        if std::env::var_os("GREFFE_GOLDEN").is_some_and(|v| v == "write") {
            std::fs::write(path, list()).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap() == list(),
            "deploy/METRICS.md is not current: write it with GREFFE_GOLDEN=write"
        );
    }

    #[test]
    fn an_age_grows_by_itself_and_nothing_has_none() {
        let gauge = Gauge::new(about("test", "s", &["who"], ""));
        assert!(gauge.read().is_empty());
        gauge.since(Some(Millis::new(0)));
        assert!(gauge.read()[0].0 > 1e9);
        gauge.since(None);
        assert_eq!(gauge.read(), [(0.0, Vec::new())]);
        gauge.set_for("a", 2);
        assert_eq!(gauge.read()[1], (2.0, vec![KeyValue::new("who", "a")]));
    }
}

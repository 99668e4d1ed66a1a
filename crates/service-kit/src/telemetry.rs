//! Logs to standard error, metrics, traces, and their way to a collector. None ever holds content, keys or tokens.

mod collector;
mod export;
pub mod metrics;
pub(crate) mod prometheus;
pub mod trace;
pub(crate) mod w3c;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::TelemetryConfig;
use crate::tls::TlsError;

/// How logs are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Form of a line.
    pub format: LogFormat,
    /// Levels, as tracing-subscriber's `EnvFilter` reads them, such as `info,greffe_relay=debug`.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
        }
    }
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("log filter {filter:?} cannot be read")]
    Filter {
        /// As configured.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// No address of a collector.
    #[error(
        "service.telemetry.otlp = {otlp:?} is no collector: http://host:port, or https://host:port with service.telemetry.tls"
    )]
    Endpoint {
        /// As configured, without a password.
        otlp: String,
    },
    /// Nobody is believed about the collector.
    #[error(
        "service.telemetry.otlp begins with https:// and service.telemetry.tls.ca is missing: name the file of the authorities that \
         the collector's certificate leads to"
    )]
    NoAuthorities,
    /// TLS is set up and not used.
    #[error(
        "service.telemetry.tls is set and service.telemetry.otlp does not begin with https://: telemetry would go in the clear"
    )]
    NotHttps,
    /// A certificate without its key, or a key without its certificate.
    #[error(
        "service.telemetry.tls.cert and service.telemetry.tls.key go together: name both or neither"
    )]
    HalfPair,
    /// A file of TLS to the collector cannot be used.
    #[error("service.telemetry.tls cannot be used")]
    Tls(#[source] TlsError),
    /// The exporter cannot be made.
    #[error("the export of telemetry cannot be started")]
    Export(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Logging was started before.
    #[error("logging has been started already")]
    Twice,
}

/// Who exports: what every span, metric and log record says of its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The service's name, such as `escrow-2`.
    pub service: String,
    /// The tenant; empty when it is not known.
    pub tenant: String,
}

/// Starts logs to standard error, the metrics, and the export of both and of traces if a collector is named; once a
/// process. Needs a tokio runtime if a collector is named.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(
    log: &LogConfig,
    config: &TelemetryConfig,
    origin: &Origin,
) -> Result<(), TelemetryError> {
    check(log, config)?;
    static STARTED: AtomicBool = AtomicBool::new(false);
    if STARTED.swap(true, Ordering::SeqCst) {
        return Err(TelemetryError::Twice);
    }
    let mut layers = vec![lines(log)?];
    layers.extend(export::start(log, config, origin)?);
    metrics::begin();
    tracing_subscriber::registry()
        .with(layers)
        .try_init()
        .map_err(|_| TelemetryError::Twice)
}

/// Lines on standard error. Spans are for the collector and are not named in them.
fn lines(config: &LogConfig) -> Result<Box<dyn Layer<Registry> + Send + Sync>, TelemetryError> {
    let events = filter(config)?.and(filter_fn(|metadata| !metadata.is_span()));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    Ok(match config.format {
        LogFormat::Text => lines.with_ansi(false).with_filter(events).boxed(),
        LogFormat::Json => lines.json().with_filter(events).boxed(),
    })
}

/// Hands over what waits for the collector, for as long as it may take. To be called when nothing happens any more.
pub async fn flush() {
    export::flush().await;
}

/// That logs and telemetry can be set up so.
///
/// # Errors
/// [`TelemetryError`].
pub(crate) fn check(log: &LogConfig, config: &TelemetryConfig) -> Result<(), TelemetryError> {
    filter(log)?;
    collector::check(config).map(drop)
}

/// The filter of a configuration.
pub(crate) fn filter(config: &LogConfig) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(&config.filter)
        .map_err(|source| TelemetryError::Filter {
            filter: config.filter.clone(),
            source,
        })
}

/// A call was answered. `method` is one of the contract's, so the label's values are bounded.
pub(crate) fn call(method: &'static str, code: tonic::Code, took: Duration) {
    metrics::CALLS.record(
        took.as_secs_f64(),
        &[
            KeyValue::new("method", method),
            KeyValue::new("code", i64::from(i32::from(code))),
        ],
    );
}

/// A transaction ended.
pub(crate) fn transaction(name: &'static str, committed: bool, took: Duration) {
    metrics::TRANSACTIONS.record(
        took.as_secs_f64(),
        &[
            KeyValue::new("name", name),
            KeyValue::new("committed", committed),
        ],
    );
}

/// A group commit took this many requests.
pub(crate) fn batch(name: &'static str, size: usize) {
    // A size is far below two to the fifty-third.
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    metrics::BATCHES.record(size.into(), &[KeyValue::new("name", name)]);
}

/// A full queue refused a request.
pub(crate) fn refused(name: &'static str) {
    metrics::QUEUE_REFUSED.add_for(name, 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        let config = LogConfig {
            filter: "info,=what=".to_owned(),
            ..LogConfig::default()
        };
        let error = check(&config, &TelemetryConfig::default()).unwrap_err();
        assert!(error.to_string().contains("info,=what="), "{error}");
    }
}

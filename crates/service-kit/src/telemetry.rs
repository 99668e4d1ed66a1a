//! Logs to standard error and the names of the metrics. Neither ever holds content, keys or tokens.

use std::sync::LazyLock;
use std::time::Duration;

use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::{KeyValue, global};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::config::TelemetryConfig;

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
    #[error("service.telemetry.otlp = {otlp:?} is no collector: http://host:port")]
    Endpoint {
        /// As configured.
        otlp: String,
    },
    /// Logging was started before.
    #[error("logging has been started already")]
    Twice,
}

/// Starts logging to standard error, once a process.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter = filter(config)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    }
    .map_err(|_| TelemetryError::Twice)
}

/// That logs and telemetry can be set up so.
///
/// # Errors
/// [`TelemetryError`].
pub(crate) fn check(log: &LogConfig, config: &TelemetryConfig) -> Result<(), TelemetryError> {
    filter(log)?;
    let Some(otlp) = &config.otlp else {
        return Ok(());
    };
    let usable = otlp.parse().is_ok_and(|uri: http::Uri| {
        uri.scheme_str() == Some("http") && uri.authority().is_some() && uri.path() == "/"
    });
    if usable {
        Ok(())
    } else {
        Err(TelemetryError::Endpoint { otlp: otlp.clone() })
    }
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

struct Instruments {
    calls: Histogram<f64>,
    transactions: Histogram<f64>,
    batches: Histogram<u64>,
    refused: Counter<u64>,
}

/// Through the OpenTelemetry API: nothing is kept until a binary installs an exporter.
static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = global::meter("greffe");
    Instruments {
        calls: meter
            .f64_histogram("greffe.rpc.duration")
            .with_unit("s")
            .build(),
        transactions: meter
            .f64_histogram("greffe.transaction.duration")
            .with_unit("s")
            .build(),
        batches: meter.u64_histogram("greffe.batch.size").build(),
        refused: meter.u64_counter("greffe.queue.refused").build(),
    }
});

/// A call was answered. `method` is one of the contract's, so the label's values are bounded.
pub(crate) fn call(method: &'static str, code: tonic::Code, took: Duration) {
    INSTRUMENTS.calls.record(
        took.as_secs_f64(),
        &[
            KeyValue::new("method", method),
            KeyValue::new("code", i64::from(i32::from(code))),
        ],
    );
}

/// A transaction ended.
pub(crate) fn transaction(name: &'static str, committed: bool, took: Duration) {
    INSTRUMENTS.transactions.record(
        took.as_secs_f64(),
        &[
            KeyValue::new("name", name),
            KeyValue::new("committed", committed),
        ],
    );
}

/// A group commit took this many requests.
pub(crate) fn batch(name: &'static str, size: usize) {
    INSTRUMENTS
        .batches
        .record(size as u64, &[KeyValue::new("name", name)]);
}

/// A full queue refused a request.
pub(crate) fn refused(name: &'static str) {
    INSTRUMENTS.refused.add(1, &[KeyValue::new("name", name)]);
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
        let error = init(&config).unwrap_err();
        assert!(error.to_string().contains("info,=what="), "{error}");
    }
}

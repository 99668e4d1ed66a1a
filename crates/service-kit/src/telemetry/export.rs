//! What leaves for a collector over OTLP/gRPC: traces, metrics, logs. Queues are bounded; nobody waits for them.

use core::time::Duration;
use std::sync::OnceLock;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{
    LogExporter, MetricExporter, SpanExporter, WithExportConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{
    BatchConfigBuilder as LogBatches, BatchLogProcessor, LogBatch, SdkLoggerProvider,
};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder as SpanBatches, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData,
};
use tonic::transport::{Channel, Endpoint};
use tracing::Metadata;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::{Layer, Registry};

use super::{LogConfig, Origin, TelemetryError, filter, metrics, prometheus};
use crate::config::TelemetryConfig;

/// Longest that one export may take.
const EXPORT: Duration = Duration::from_secs(5);
/// Longest that the last export may take.
const LAST: Duration = Duration::from_secs(3);
/// Spans and log records that may wait; more are dropped and counted.
const QUEUE: usize = 8192;
const BATCH: usize = 512;
const DELAY: Duration = Duration::from_secs(1);

/// What has to be flushed at the end.
struct Providers {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
    metrics: SdkMeterProvider,
}

static PROVIDERS: OnceLock<Providers> = OnceLock::new();

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts the metrics, and what goes to a collector if one is named.
pub(super) fn start(
    log: &LogConfig,
    config: &TelemetryConfig,
    origin: &Origin,
) -> Result<Vec<BoxedLayer>, TelemetryError> {
    let resource = resource(origin);
    let mut meters = SdkMeterProvider::builder()
        .with_resource(resource.clone())
        .with_reader(prometheus::reader().map_err(failed)?);
    let Some(otlp) = &config.otlp else {
        global::set_meter_provider(meters.build());
        metrics::observe_gauges();
        return Ok(Vec::new());
    };
    let channel = Endpoint::from_shared(otlp.clone())
        .map_err(failed)?
        .connect_timeout(EXPORT)
        .timeout(EXPORT)
        .connect_lazy();
    meters = meters.with_reader(
        PeriodicReader::builder(metrics_over(channel.clone())?)
            .with_interval(Duration::from_millis(config.metrics_ms.max(100)))
            .build(),
    );
    let meters = meters.build();
    global::set_meter_provider(meters.clone());
    metrics::observe_gauges();

    // By the trace's id, which all parts of a trace have: they keep the same ones.
    let share = f64::from(config.traces_percent.min(100)) / 100.0;
    let traces = SdkTracerProvider::builder()
        .with_sampler(Sampler::TraceIdRatioBased(share))
        .with_resource(resource.clone())
        .with_span_processor(
            BatchSpanProcessor::builder(spans_over(channel.clone())?)
                .with_batch_config(
                    SpanBatches::default()
                        .with_max_queue_size(QUEUE)
                        .with_max_export_batch_size(BATCH)
                        .with_scheduled_delay(DELAY)
                        .build(),
                )
                .build(),
        )
        .build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    let logs = SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_log_processor(
            BatchLogProcessor::builder(logs_over(channel)?)
                .with_batch_config(
                    LogBatches::default()
                        .with_max_queue_size(QUEUE)
                        .with_max_export_batch_size(BATCH)
                        .with_scheduled_delay(DELAY)
                        .build(),
                )
                .build(),
        )
        .build();
    let spans = tracing_opentelemetry::layer()
        .with_tracer(traces.tracer("greffe"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(|about| about.is_span() && ours(about)))
        .boxed();
    let events = filter(log)?.and(filter_fn(|about| about.is_event() && ours(about)));
    let records = OpenTelemetryTracingBridge::new(&logs)
        .with_filter(events)
        .boxed();
    let _first = PROVIDERS.set(Providers {
        traces,
        logs,
        metrics: meters,
    });
    Ok(vec![spans, records])
}

/// What our own code says. The transport under the exporter would otherwise export that it exports.
fn ours(about: &Metadata<'_>) -> bool {
    about.target().starts_with("greffe")
}

fn resource(origin: &Origin) -> Resource {
    // A pod's name, where there are pods.
    let host = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
        .unwrap_or_default();
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", origin.service.clone()),
            KeyValue::new("service.namespace", "greffe"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new(
                "service.instance.id",
                format!("{}:{}", host.trim(), std::process::id()),
            ),
        ])
        .with_attributes(
            (!origin.tenant.is_empty())
                .then(|| KeyValue::new("greffe.tenant", origin.tenant.clone())),
        )
        .build()
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TelemetryError {
    TelemetryError::Export(error.into())
}

fn metrics_over(channel: Channel) -> Result<MetricExporter, TelemetryError> {
    MetricExporter::builder()
        .with_tonic()
        .with_channel(channel)
        .with_timeout(EXPORT)
        .build()
        .map_err(failed)
}

fn spans_over(channel: Channel) -> Result<Counting<SpanExporter>, TelemetryError> {
    SpanExporter::builder()
        .with_tonic()
        .with_channel(channel)
        .with_timeout(EXPORT)
        .build()
        .map(Counting)
        .map_err(failed)
}

fn logs_over(channel: Channel) -> Result<Counting<LogExporter>, TelemetryError> {
    LogExporter::builder()
        .with_tonic()
        .with_channel(channel)
        .with_timeout(EXPORT)
        .build()
        .map(Counting)
        .map_err(failed)
}

/// Counts what its exporter could not hand over.
#[derive(Debug)]
struct Counting<E>(E);

fn lost(signal: &'static str, count: usize) {
    metrics::TELEMETRY_LOST.add_for(signal, count.try_into().unwrap_or(u64::MAX));
}

impl opentelemetry_sdk::trace::SpanExporter for Counting<SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let outcome = self.0.export(batch).await;
        if outcome.is_err() {
            lost("traces", count);
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

impl opentelemetry_sdk::logs::LogExporter for Counting<LogExporter> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        let outcome = self.0.export(batch).await;
        if outcome.is_err() {
            lost("logs", count);
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// Hands over what waits, and ends the export.
pub(super) async fn flush() {
    let flushed = tokio::task::spawn_blocking(|| {
        let Some(providers) = PROVIDERS.get() else {
            return;
        };
        for outcome in [
            providers.traces.shutdown_with_timeout(LAST),
            providers.logs.shutdown_with_timeout(LAST),
            providers.metrics.shutdown_with_timeout(LAST),
        ] {
            if let Err(error) = outcome {
                tracing::debug!(%error, "telemetry was not handed over in full");
            }
        }
    });
    let _done = tokio::time::timeout(4 * LAST, flushed).await;
}

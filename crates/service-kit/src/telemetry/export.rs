//! What leaves for a collector over OTLP/gRPC: traces, metrics, logs. Queues are bounded; nobody waits for them.

use core::time::Duration;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

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
use opentelemetry_sdk::trace::{
    BatchConfigBuilder as SpanBatches, BatchSpanProcessor, ParentBasedSampler, Sampler,
    SdkTracerProvider, SpanData,
};
use tonic::transport::Channel;
use tracing::Metadata;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::{Layer, Registry};

use super::{LogConfig, Origin, TelemetryError, collector, filter, metrics, prometheus};
use crate::config::TelemetryConfig;
use crate::errors::Causes;

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
    let Some(channel) = collector::channel(config, EXPORT)? else {
        global::set_meter_provider(meters.build());
        metrics::observe_gauges();
        return Ok(Vec::new());
    };
    meters = meters.with_reader(
        PeriodicReader::builder(metrics_over(channel.clone())?)
            .with_interval(Duration::from_millis(config.metrics_ms.max(100)))
            .build(),
    );
    let meters = meters.build();
    global::set_meter_provider(meters.clone());
    metrics::observe_gauges();

    let traces = SdkTracerProvider::builder()
        .with_sampler(sampler(config.traces_percent))
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

/// By the trace's id, which all parts of a trace have: they keep the same ones. A caller who does not want its trace exported
/// has its way; one who does is given no more than anybody else's share.
fn sampler(percent: u32) -> ParentBasedSampler {
    let share = Sampler::TraceIdRatioBased(f64::from(percent.min(100)) / 100.0);
    Sampler::parent_based(share.clone()).with_remote_parent_sampled(share)
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
        .map(|exporter| Counting::new("traces", exporter))
        .map_err(failed)
}

fn logs_over(channel: Channel) -> Result<Counting<LogExporter>, TelemetryError> {
    LogExporter::builder()
        .with_tonic()
        .with_channel(channel)
        .with_timeout(EXPORT)
        .build()
        .map(|exporter| Counting::new("logs", exporter))
        .map_err(failed)
}

/// Counts what its exporter could not hand over, and says when that begins and ends.
#[derive(Debug)]
struct Counting<E> {
    signal: &'static str,
    exporter: E,
    fails: AtomicBool,
}

impl<E> Counting<E> {
    const fn new(signal: &'static str, exporter: E) -> Self {
        Self {
            signal,
            exporter,
            fails: AtomicBool::new(false),
        }
    }

    fn note(&self, outcome: &OTelSdkResult, count: usize) {
        let signal = self.signal;
        match outcome {
            Ok(()) if self.fails.swap(false, Ordering::Relaxed) => {
                tracing::info!(signal, "the collector takes telemetry again");
            }
            Ok(()) => {}
            Err(error) => {
                metrics::TELEMETRY_LOST.add_for(signal, count.try_into().unwrap_or(u64::MAX));
                if !self.fails.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        signal,
                        causes = %Causes(error),
                        "the collector does not take telemetry: it is lost, and counted, until it does"
                    );
                }
            }
        }
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Counting<SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let outcome = self.exporter.export(batch).await;
        self.note(&outcome, count);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl opentelemetry_sdk::logs::LogExporter for Counting<LogExporter> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        let outcome = self.exporter.export(batch).await;
        self.note(&outcome, count);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use greffe_api::Rpc;
    use http::{HeaderMap, HeaderValue};
    use opentelemetry_sdk::trace::SpanExporter as Exporter;
    use tonic::Code;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::telemetry::{trace, w3c};

    /// Keeps what is exported.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl Exporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    /// Spans exported at this percentage.
    fn exported(percent: u32, work: impl FnOnce()) -> Vec<SpanData> {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler(percent))
            .with_simple_exporter(kept.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("greffe"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        provider.force_flush().unwrap();
        std::mem::take(&mut *kept.0.lock().unwrap())
    }

    fn rpc() -> Rpc {
        Rpc {
            path: "/greffe.audit.v1.LogService/GetCheckpoint".to_owned(),
            client_streams: false,
            server_streams: false,
        }
    }

    /// A call of a caller in whose trace it is, or in none.
    fn call(flags: Option<&str>, code: Code) {
        let mut headers = HeaderMap::new();
        if let Some(flags) = flags {
            let value = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            headers.insert(w3c::TRACEPARENT, HeaderValue::try_from(value).unwrap());
        }
        let span = trace::call(&rpc(), &headers);
        let mut passed_on = HeaderMap::new();
        span.in_scope(|| w3c::pass_on(&mut passed_on));
        trace::answered(&span, code);
        let ours = w3c::of_caller(&passed_on).unwrap();
        let caller = w3c::of_caller(&headers);
        // What we call meanwhile is called under this span, in the same trace.
        assert!(caller.is_none_or(|caller| {
            caller.trace_id() == ours.trace_id() && caller.span_id() != ours.span_id()
        }));
    }

    #[test]
    fn a_call_is_a_span_of_its_callers_trace() {
        let spans = exported(100, || call(Some("01"), Code::NotFound));
        assert_eq!(spans.len(), 1);
        let span = &spans[0];
        let trace = span.span_context.trace_id().to_string();
        assert_eq!(trace, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(span.parent_span_id.to_string(), "00f067aa0ba902b7");
        assert_eq!(span.name, "greffe.audit.v1.LogService/GetCheckpoint");
        assert_eq!(span.span_kind, opentelemetry::trace::SpanKind::Server);
        assert_eq!(span.status, opentelemetry::trace::Status::Unset);
        let said = |key: &str| {
            let found = span.attributes.iter().find(|said| said.key.as_str() == key);
            found.map(|said| said.value.to_string()).unwrap_or_default()
        };
        assert_eq!(said("rpc.system"), "grpc");
        assert_eq!(said("rpc.service"), "greffe.audit.v1.LogService");
        assert_eq!(said("rpc.method"), "GetCheckpoint");
        assert_eq!(said("rpc.grpc.status_code"), "5");
        let failed = exported(100, || call(None, Code::Internal)).remove(0);
        assert!(matches!(
            failed.status,
            opentelemetry::trace::Status::Error { .. }
        ));
        assert_eq!(failed.parent_span_id, opentelemetry::trace::SpanId::INVALID);
    }

    #[test]
    fn a_caller_may_keep_its_trace_from_being_exported_and_not_have_more_exported() {
        assert!(exported(100, || call(Some("00"), Code::Ok)).is_empty());
        assert!(exported(0, || call(Some("01"), Code::Ok)).is_empty());
        assert!(exported(0, || call(None, Code::Ok)).is_empty());
    }

    #[test]
    fn an_envelope_stays_in_its_own_trace_and_a_stream_has_no_span() {
        let spans = exported(100, || {
            let headers = HeaderMap::new();
            let span = trace::call(&rpc(), &headers);
            span.in_scope(|| drop(trace::of(&[7; 32], tracing::info_span!("relay.send"))));
            let streams = Rpc {
                client_streams: true,
                ..rpc()
            };
            assert!(trace::call(&streams, &headers).is_none());
        });
        let of = |name: &str| {
            let span = spans.iter().find(|span| span.name == name).unwrap();
            span.span_context.trace_id().to_string()
        };
        assert_eq!(spans.len(), 2);
        assert_eq!(of("relay.send"), "07".repeat(16));
        assert_ne!(
            of("greffe.audit.v1.LogService/GetCheckpoint"),
            "07".repeat(16)
        );
    }
}

//! An OTLP collector in memory: what services say of their own time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Service, metric and its labels.
pub(crate) type Series = (String, String, String);

/// What came so far.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Milliseconds of every span, by name.
    pub(crate) spans: BTreeMap<String, Vec<f64>>,
    /// Count and sum of every histogram, as last exported; they only grow.
    pub(crate) histograms: BTreeMap<Series, (u64, f64)>,
}

/// A running collector.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Received>>);

impl Collector {
    /// Starts one; gives the endpoint for services to export to.
    ///
    /// # Errors
    /// When it cannot listen.
    pub(crate) async fn start() -> Result<(Self, String)> {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let serving = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        Ok((collector, endpoint))
    }

    /// What came so far.
    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::BoolValue(truth)) => truth.to_string(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn labels(attributes: &[KeyValue]) -> String {
    let all: Vec<String> = attributes
        .iter()
        .map(|label| format!("{}={}", label.key, text(label.value.as_ref())))
        .collect();
    all.join(",")
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = self.received();
        let scopes = request.into_inner().resource_spans.into_iter();
        for span in scopes
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
        {
            let nanos = span
                .end_time_unix_nano
                .saturating_sub(span.start_time_unix_nano);
            received
                .spans
                .entry(span.name)
                .or_default()
                .push(nanos as f64 / 1e6);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut received = self.received();
        for resource in request.into_inner().resource_metrics {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let service = attributes.iter().find(|label| label.key == "service.name");
            let service = text(service.and_then(|label| label.value.as_ref()));
            for metric in resource
                .scope_metrics
                .into_iter()
                .flat_map(|scope| scope.metrics)
            {
                let Some(Data::Histogram(histogram)) = metric.data else {
                    continue;
                };
                for point in histogram.data_points {
                    let series = (
                        service.clone(),
                        metric.name.clone(),
                        labels(&point.attributes),
                    );
                    let figures = (point.count, point.sum.unwrap_or_default());
                    received.histograms.insert(series, figures);
                }
            }
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

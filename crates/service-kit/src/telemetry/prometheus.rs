//! The metrics as Prometheus reads them.

use std::sync::LazyLock;

use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::error::OTelSdkError;
use prometheus::{Encoder as _, Registry, TextEncoder};

/// The text format that [`text`] writes.
pub(crate) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

/// A reader for the process's one meter provider.
pub(super) fn reader() -> Result<PrometheusExporter, OTelSdkError> {
    opentelemetry_prometheus::exporter()
        .with_registry(REGISTRY.clone())
        .scope_info_enabled(false)
        .build()
}

/// Everything, as it stands now.
pub(crate) fn text() -> Result<String, prometheus::Error> {
    let mut bytes = Vec::new();
    TextEncoder::new().encode(&REGISTRY.gather(), &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics;

    #[test]
    fn every_metric_has_the_name_that_the_list_gives_it() {
        let meters = opentelemetry_sdk::metrics::SdkMeterProvider::builder()
            .with_reader(reader().unwrap())
            .build();
        opentelemetry::global::set_meter_provider(meters.clone());
        metrics::observe_gauges();
        let names = metrics::touch();
        let text = text().unwrap();
        for name in names {
            let kind = format!("# TYPE {name} ");
            assert!(text.contains(&kind), "{name}: {text}");
        }
        drop(meters);
    }
}

//! Where the collector is, and the way there: in the clear, or over TLS by its host name.

use core::time::Duration;

use http::Uri;
use tonic::transport::{Channel, Endpoint};

use super::TelemetryError;
use crate::config::TelemetryConfig;
use crate::tls::{named_config, named_connector};

/// A channel to the collector; the first export connects. Needs a tokio runtime.
pub(super) fn channel(
    config: &TelemetryConfig,
    patience: Duration,
) -> Result<Option<Channel>, TelemetryError> {
    let Some(uri) = check(config)? else {
        return Ok(None);
    };
    let timed = |endpoint: Endpoint| endpoint.connect_timeout(patience).timeout(patience);
    let Some(files) = &config.tls else {
        return Ok(Some(timed(Endpoint::from(uri)).connect_lazy()));
    };
    let connector = named_connector(&uri, files);
    // TLS is our connector's: tonic must not look for it in the scheme, which only names where the calls go.
    let mut plain = uri.clone().into_parts();
    plain.scheme = Some(http::uri::Scheme::HTTP);
    let plain = Uri::from_parts(plain).map_err(|error| TelemetryError::Export(error.into()))?;
    let endpoint = timed(Endpoint::from(plain).origin(uri));
    Ok(Some(endpoint.connect_with_connector_lazy(connector)))
}

/// The collector's address, if there is one that can be used with what is said of TLS.
///
/// # Errors
/// [`TelemetryError`].
pub(super) fn check(config: &TelemetryConfig) -> Result<Option<Uri>, TelemetryError> {
    let uri = config.otlp.as_deref().map(address).transpose()?;
    let https = uri
        .as_ref()
        .is_some_and(|uri| uri.scheme_str() == Some("https"));
    match &config.tls {
        None if https => Err(TelemetryError::NoAuthorities),
        None => Ok(uri),
        Some(_) if !https => Err(TelemetryError::NotHttps),
        Some(files) if files.cert.is_some() != files.key.is_some() => Err(TelemetryError::HalfPair),
        Some(files) => {
            named_config(files).map_err(TelemetryError::Tls)?;
            Ok(uri)
        }
    }
}

fn address(otlp: &str) -> Result<Uri, TelemetryError> {
    let usable = |uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.path() == "/"
            && uri.query().is_none()
            // A user's name and password go nowhere.
            && !uri.authority().is_none_or(|authority| authority.as_str().contains('@'))
    };
    otlp.parse()
        .ok()
        .filter(usable)
        .ok_or_else(|| TelemetryError::Endpoint {
            otlp: without_password(otlp),
        })
}

fn without_password(otlp: &str) -> String {
    match otlp.rsplit_once('@') {
        Some((_, host)) => format!("(hidden)@{host}"),
        None => otlp.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::CollectorTls;
    use crate::errors::Causes;

    fn said(otlp: &str, tls: Option<CollectorTls>) -> String {
        let config = TelemetryConfig {
            otlp: Some(otlp.to_owned()).filter(|otlp| !otlp.is_empty()),
            tls,
            ..TelemetryConfig::default()
        };
        match check(&config) {
            Ok(_) => String::new(),
            Err(error) => Causes(&error).to_string(),
        }
    }

    #[test]
    fn an_address_that_does_not_go_with_what_is_said_of_tls_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let signed = rcgen::generate_simple_self_signed(["collector".to_owned()]).unwrap();
        let tls = CollectorTls {
            ca: file("ca", &signed.cert.pem()),
            cert: Some(file("cert", &signed.cert.pem())),
            key: Some(file("key", &signed.signing_key.serialize_pem())),
        };
        let https = "https://collector:4317";
        for fine in ["http://collector:4317", "http://[::1]:4317/", ""] {
            assert_eq!(said(fine, None), "", "{fine}");
        }
        assert_eq!(said(https, Some(tls.clone())), "");
        let alone = CollectorTls {
            cert: None,
            key: None,
            ..tls.clone()
        };
        assert_eq!(said(https, Some(alone)), "");
        for (otlp, tls, word) in [
            ("collector:4317", None, "is no collector"),
            ("grpc://collector:4317", None, "http://host:port"),
            ("http://collector:4317/v1", None, "is no collector"),
            ("https://u:canary@collector", None, "@collector\" is no"),
            (https, None, "service.telemetry.tls.ca"),
            ("http://collector:4317", Some(tls.clone()), "in the clear"),
            ("", Some(tls.clone()), "in the clear"),
            (
                https,
                Some(CollectorTls {
                    key: None,
                    ..tls.clone()
                }),
                "go together",
            ),
            (
                https,
                Some(CollectorTls {
                    ca: PathBuf::from("/nowhere"),
                    ..tls.clone()
                }),
                "/nowhere cannot be read",
            ),
            (
                https,
                Some(CollectorTls {
                    ca: file("empty", ""),
                    ..tls.clone()
                }),
                "no usable authority",
            ),
            (
                https,
                Some(CollectorTls {
                    key: Some(file("no-key", "-----BEGIN")),
                    ..tls
                }),
                "no usable private key",
            ),
        ] {
            let said = said(otlp, tls);
            assert!(said.contains(word), "{otlp}: {said}");
            assert!(!said.contains("canary"), "{said}");
        }
    }
}

//! How a bucket's client is built: static credentials, timeouts, bounded repetition, one's own authorities.

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode};
use secrecy::ExposeSecret as _;

use super::Bucket;
use crate::error::StoreError;
use crate::settings::BucketSettings;

/// How a certificate begins.
const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Tries of one request, the first included.
const TRIES: u32 = 4;

impl Bucket {
    /// Makes the client; nothing is sent yet.
    pub(crate) fn new(settings: &BucketSettings) -> Result<Self, StoreError> {
        let BucketSettings {
            endpoint,
            region,
            bucket,
            prefix,
            access_key_id,
            secret_access_key,
            path_style,
            ca,
            timeouts,
        } = settings;
        if !(endpoint.starts_with("https://") || endpoint.starts_with("http://")) {
            return Err(setting("endpoint", "begin it with https://"));
        }
        if !(prefix.is_empty() || prefix.ends_with('/')) || prefix.starts_with('/') {
            return Err(setting("prefix", "end it with /, and begin it without"));
        }
        for (name, value) in [("bucket", bucket), ("access_key_id", access_key_id)] {
            if value.is_empty() {
                return Err(setting(name, "it is empty"));
            }
        }
        let mut http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc));
        if let Some(path) = ca {
            let pem = std::fs::read(path)
                .map_err(|e| setting("ca", format!("{} cannot be read: {e}", path.display())))?;
            if !pem.windows(PEM.len()).any(|window| window == PEM) {
                let why = format!("{} holds no certificate in PEM", path.display());
                return Err(setting("ca", why));
            }
            let context = TlsContext::builder()
                .with_trust_store(TrustStore::empty().with_pem_certificate(pem))
                .build()
                .map_err(|e| setting("ca", format!("{}: {e}", path.display())))?;
            http = http.tls_context(context);
        }
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .region(Region::new(region.clone()))
            .force_path_style(*path_style)
            .credentials_provider(Credentials::new(
                access_key_id.clone(),
                secret_access_key.expose_secret(),
                None,
                None,
                "configuration",
            ))
            .http_client(http.build_https())
            // Stores other than AWS's refuse trailing checksums. Ours are explicit: SHA-256, in the header.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(timeouts.connect)
                    .operation_attempt_timeout(timeouts.attempt)
                    .operation_timeout(timeouts.operation)
                    .build(),
            )
            .build();
        Ok(Self {
            client: Client::from_conf(config),
            name: bucket.clone(),
            prefix: prefix.clone(),
            timeouts: *timeouts,
        })
    }
}

fn setting(setting: &'static str, why: impl Into<String>) -> StoreError {
    StoreError::Setting {
        setting,
        why: why.into(),
    }
}

//! What a bucket is reached by.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// One bucket.
#[derive(Debug, Clone)]
pub struct BucketSettings {
    /// URL of the service, `https://…`; no path.
    pub endpoint: String,
    /// Region that requests are signed for.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// Put before every key; empty, or ending in `/`.
    pub prefix: String,
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: SecretString,
    /// Whether the bucket's name goes into the path (most stores of one's own) or into the host name (the large clouds).
    pub path_style: bool,
    /// PEM file of the authorities that the endpoint's certificate is checked against; none: the platform's.
    pub ca: Option<PathBuf>,
    /// How long things may take.
    pub timeouts: Timeouts,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect.
    pub connect: Duration,
    /// For one try of a request, without the body of a read.
    pub attempt: Duration,
    /// For a request with its repetitions, without the body of a read.
    pub operation: Duration,
    /// For the next bytes of a body that is read.
    pub piece: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            attempt: Duration::from_secs(60),
            operation: Duration::from_secs(150),
            piece: Duration::from_secs(30),
        }
    }
}

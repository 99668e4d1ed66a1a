//! One shape for refusals on the wire: a gRPC code and a stable reason in google.rpc.ErrorInfo.

use core::fmt;
use core::time::Duration;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// `google.rpc.ErrorInfo.domain` of every refusal.
pub const DOMAIN: &str = "greffe";

/// A stable machine-readable reason in SCREAMING_SNAKE_CASE, at most 63 characters (google.rpc.ErrorInfo).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(&'static str);

impl Reason {
    /// A reason; in a `const` a malformed one does not compile.
    ///
    /// # Panics
    /// When it is empty, longer than 63 characters, or holds anything but `A-Z`, `0-9` and inner `_`.
    pub const fn new(reason: &'static str) -> Self {
        let bytes = reason.as_bytes();
        assert!(
            !bytes.is_empty() && bytes.len() <= 63,
            "a reason has 1 to 63 characters"
        );
        assert!(
            bytes[0].is_ascii_uppercase() && bytes[bytes.len() - 1] != b'_',
            "a reason opens with a letter and does not end with _"
        );
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            assert!(
                byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_',
                "a reason is SCREAMING_SNAKE_CASE"
            );
            at += 1;
        }
        Self(reason)
    }

    /// As it travels.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A refusal as a service makes it: what the caller may know, and beside it the cause, which stays here.
#[derive(Debug)]
pub struct ServiceError {
    code: Code,
    reason: Reason,
    message: Cow<'static, str>,
    metadata: BTreeMap<&'static str, String>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ServiceError {
    /// A refusal. The message is for a person and must hold no content and no secret.
    pub fn new(code: Code, reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            metadata: BTreeMap::new(),
            retry_after: None,
            source: None,
        }
    }

    /// Adds a fact that a program may act on, such as the present epoch.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.metadata.insert(key, value.to_string());
        self
    }

    /// Says when to try again (google.rpc.RetryInfo).
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Keeps the cause for the log. It is never sent.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// gRPC code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Stable reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl Error for ServiceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<ServiceError> for Status {
    /// The one place where a failure of ours is logged: with its causes, which the caller does not get.
    fn from(error: ServiceError) -> Self {
        if matches!(error.code, Code::Internal | Code::Unknown | Code::DataLoss) {
            tracing::error!(reason = %error.reason, causes = %Causes(&error), "call failed");
        } else if error.source.is_some() {
            tracing::debug!(reason = %error.reason, causes = %Causes(&error), "call refused");
        }
        let mut details = ErrorDetails::with_error_info(
            error.reason.as_str(),
            DOMAIN,
            error
                .metadata
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<std::collections::HashMap<_, _>>(),
        );
        if error.retry_after.is_some() {
            details.set_retry_info(error.retry_after);
        }
        Self::with_error_details(error.code, error.message, details)
    }
}

/// An error followed by its causes, for one line of a log.
pub struct Causes<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

/// A refusal as its receiver reads it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", reason.as_deref().unwrap_or_else(|| code.description()))]
pub struct CallError {
    /// gRPC code.
    pub code: Code,
    /// Reason of ErrorInfo; none when the answer came from a proxy, the transport or another domain.
    pub reason: Option<String>,
    /// For a person.
    pub message: String,
    /// Facts of ErrorInfo.
    pub metadata: BTreeMap<String, String>,
    /// Delay of RetryInfo.
    pub retry_after: Option<Duration>,
}

impl CallError {
    /// Whether the reason is this one.
    pub fn is(&self, reason: Reason) -> bool {
        self.reason.as_deref() == Some(reason.as_str())
    }

    /// Whether the same call may succeed later: the peer said when, or could not be reached.
    pub fn is_retryable(&self) -> bool {
        self.retry_after.is_some() || self.code == Code::Unavailable
    }
}

/// The reason of a refusal of ours, if it is one.
pub fn refusal_of(status: &Status) -> Option<String> {
    let info = status.get_error_details().error_info().cloned()?;
    (info.domain == DOMAIN).then_some(info.reason)
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        // Details that do not decode leave the code and message: a peer cannot make us fail with them.
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        // A status with a cause was made on this side: the connection broke, for which HTTP/2 has many codes. What a peer
        // answered has none.
        let broken = Error::source(&status).is_some();
        Self {
            code: if broken {
                Code::Unavailable
            } else {
                status.code()
            },
            reason: info.map(|info| info.reason.clone()),
            message: status.message().to_owned(),
            metadata: info
                .map(|info| info.metadata.clone().into_iter().collect())
                .unwrap_or_default(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: Reason = Reason::new("EPOCH_STALE");

    #[test]
    fn a_refusal_survives_the_wire() {
        let sent = ServiceError::new(Code::Aborted, STALE, "a newer commit won")
            .with("epoch", 7)
            .retry_after(Duration::from_millis(1500))
            .because(std::io::Error::other("SECRET-CAUSE"));
        assert_eq!(
            Causes(&sent).to_string(),
            "EPOCH_STALE: a newer commit won: SECRET-CAUSE"
        );
        let status = Status::from(sent);
        assert!(!format!("{status:?}").contains("SECRET-CAUSE"));
        let got = CallError::from(status);
        assert_eq!(got.code, Code::Aborted);
        assert!(got.is(STALE) && got.is_retryable());
        assert_eq!(got.message, "a newer commit won");
        assert_eq!(got.metadata.get("epoch").map(String::as_str), Some("7"));
        assert_eq!(got.retry_after, Some(Duration::from_millis(1500)));
        assert_eq!(got.to_string(), "EPOCH_STALE: a newer commit won");
    }

    #[test]
    fn foreign_and_broken_details_give_no_reason() {
        let foreign = Status::with_error_details(
            Code::NotFound,
            "gone",
            ErrorDetails::with_error_info(
                "EPOCH_STALE",
                "elsewhere",
                std::collections::HashMap::new(),
            ),
        );
        assert_eq!(CallError::from(foreign).reason, None);
        let broken = Status::with_details(Code::Internal, "bad", vec![0xff; 9].into());
        let broken = CallError::from(broken);
        assert_eq!((broken.reason, broken.message.as_str()), (None, "bad"));
    }

    #[test]
    #[should_panic(expected = "SCREAMING_SNAKE_CASE")]
    fn reasons_are_screaming() {
        let name: &'static str = "EpochStale";
        let _ = Reason::new(name);
    }
}

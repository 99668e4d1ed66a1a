//! How a command fails: one line that says what was refused, why and what to do, a stable reason, and an exit code.

use core::fmt;
use std::path::Path;
use std::process::ExitCode;

use greffe_client::ClientError;
use greffe_service_kit::errors::refusal_of;

/// What every command returns.
pub(crate) type Result<T, E = Failure> = core::result::Result<T, E>;

/// Exit codes; they never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something on this machine went wrong: a file, a disk, a process.
    Failed = 1,
    /// The command or its input was not understood.
    Usage = 2,
    /// A rule or a service refused.
    Refused = 3,
    /// Something that was to be verified does not hold.
    Unverified = 4,
    /// A service could not be reached, or not in time.
    Unavailable = 5,
    /// Everything holds, and somebody has to look at what happened.
    Alarm = 6,
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    reason: String,
    message: String,
}

impl Failure {
    /// A failure. The message says what, why and what to do, on one line.
    pub(crate) fn new(exit: Exit, reason: impl Into<String>, message: impl fmt::Display) -> Self {
        let message = message.to_string().replace(['\n', '\r'], " ");
        Self {
            exit,
            reason: reason.into(),
            message,
        }
    }

    /// Input that was not understood.
    pub(crate) fn usage(reason: &'static str, message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, reason, message)
    }

    /// A rule refused.
    pub(crate) fn refused(reason: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, reason, message)
    }

    /// Something does not verify.
    pub(crate) fn unverified(reason: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::new(Exit::Unverified, reason, message)
    }

    /// Something went wrong here.
    pub(crate) fn failed(reason: &'static str, message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, reason, message)
    }

    /// As [`Failure::failed`], with the causes of an error behind the message.
    pub(crate) fn because(
        reason: &'static str,
        what: impl fmt::Display,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        Self::failed(reason, format_args!("{what}: {}", chain(error)))
    }

    /// A file could not be worked with.
    pub(crate) fn io(what: &str, path: &Path, error: &std::io::Error) -> Self {
        let full = matches!(
            error.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        );
        let reason = if full { "DISK_FULL" } else { "FILE_FAILED" };
        Self::failed(
            reason,
            format_args!("cannot {what} {}: {error}", path.display()),
        )
    }

    /// A service's answer.
    pub(crate) fn status(what: impl fmt::Display, status: &tonic::Status) -> Self {
        let reason = refusal_of(status);
        let exit = match status.code() {
            tonic::Code::Unavailable | tonic::Code::DeadlineExceeded => Exit::Unavailable,
            tonic::Code::Internal | tonic::Code::Unknown => Exit::Failed,
            _ => Exit::Refused,
        };
        let reason = reason.unwrap_or_else(|| format!("{:?}", status.code()).to_uppercase());
        let cause = std::error::Error::source(status).map(|s| format!(" ({})", chain(s)));
        Self::new(
            exit,
            reason,
            format_args!("{what}: {}{}", status.message(), cause.unwrap_or_default()),
        )
    }

    /// The same failure, of which there are more.
    pub(crate) fn and(mut self, more: usize, what: &str) -> Self {
        self.message
            .push_str(&format!("; and {more} more {what} above"));
        self
    }

    /// Its exit code.
    pub(crate) fn exit(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }

    /// Its stable reason.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// What, why, and what to do.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match error.reason() {
            "DISK_FULL" | "FILE_FAILED" | "DATABASE_FAILED" | "STORE_FAILED" | "STORE_BUSY"
            | "SECRET_NOT_OPENED" | "NO_RANDOMNESS" => Exit::Failed,
            "CONNECTION_INVALID" => Exit::Usage,
            "NOT_TRUSTED" | "LOG_CONTRADICTS" | "BUNDLE_NOT_LOGGED" | "ANSWER_INVALID" => {
                Exit::Unverified
            }
            _ if error.is_retryable() => Exit::Unavailable,
            _ => Exit::Refused,
        };
        // The reason stands before the message already.
        let message = chain(&error).replace(&format!("{}: ", error.reason()), "");
        Self::new(exit, error.reason(), message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl std::error::Error for Failure {}

/// An error and what caused it, once each.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

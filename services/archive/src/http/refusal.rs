//! Refusals as HTTP carries them: the status of google.rpc.Code, and google.rpc.Status in JSON.

use bytes::Bytes;
use greffe_service_kit::errors::{Reason, ServiceError};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::respond;

/// What only HTTP refuses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule(Code, Reason, &'static str);

pub(super) const PATH_UNKNOWN: Rule = Rule(
    Code::NotFound,
    Reason::new("PATH_UNKNOWN"),
    "there is nothing at this path; GET /openapi.json says what there is",
);
pub(super) const METHOD_NOT_ALLOWED: Rule = Rule(
    Code::Unimplemented,
    Reason::new("METHOD_NOT_ALLOWED"),
    "the path does not take this method; the header Allow names those it takes",
);
pub(super) const CONTENT_TYPE: Rule = Rule(
    Code::InvalidArgument,
    Reason::new("CONTENT_TYPE"),
    "the body has to be JSON: send Content-Type: application/json",
);
pub(super) const CONTENT_ENCODING: Rule = Rule(
    Code::InvalidArgument,
    Reason::new("CONTENT_ENCODING"),
    "nothing is unpacked here: send the body as it is, without Content-Encoding",
);
pub(super) const BODY_REFUSED: Rule = Rule(
    Code::InvalidArgument,
    Reason::new("BODY_REFUSED"),
    "the body was cut off or has more than 4 MiB",
);

impl Rule {
    /// The refusal.
    pub(super) fn refuse(self) -> Status {
        ServiceError::new(self.0, self.1, self.2).into()
    }
}

/// A parameter or body that is not the RPC's message. The words are about what the caller sent.
pub(super) fn malformed(what: &str) -> Status {
    let what: String = what.chars().take(200).collect();
    let message = format!("the parameters or the body are not the message asked for: {what}");
    ServiceError::new(
        Code::InvalidArgument,
        Reason::new("REQUEST_MALFORMED"),
        message,
    )
    .into()
}

/// A refusal on its way.
#[derive(Debug)]
pub(super) struct Refused {
    status: Box<Status>,
    /// Methods that the path takes, when that is what was wrong.
    allow: Option<String>,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self {
            status: Box::new(status),
            allow: None,
        }
    }
}

impl Refused {
    /// The path takes other methods.
    pub(super) fn method(allowed: &[&str]) -> Self {
        Self {
            status: Box::new(METHOD_NOT_ALLOWED.refuse()),
            allow: Some(allowed.join(", ")),
        }
    }

    #[cfg(test)]
    pub(super) fn http(&self) -> u16 {
        self.code().as_u16()
    }

    #[cfg(test)]
    pub(super) fn allow(&self) -> &str {
        self.allow.as_deref().unwrap_or_default()
    }

    fn code(&self) -> StatusCode {
        match &self.allow {
            Some(_) => StatusCode::METHOD_NOT_ALLOWED,
            None => status_code(self.status.code()),
        }
    }

    /// As it is sent.
    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = respond(self.code(), body(&self.status).to_string().into());
        let details = self.status.get_error_details();
        let retry = details.retry_info().and_then(|retry| retry.retry_delay);
        let retry = retry.map(|delay| delay.as_secs_f64().ceil().to_string());
        for (name, value) in [(header::ALLOW, self.allow), (header::RETRY_AFTER, retry)] {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// google.rpc.Status in JSON.
fn body(status: &Status) -> Value {
    let found = status.get_error_details();
    let mut details = Vec::new();
    if let Some(info) = found.error_info() {
        // Sorted, so that the same refusal is the same bytes.
        let metadata: std::collections::BTreeMap<_, _> = info.metadata.iter().collect();
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": info.reason,
            "domain": info.domain,
            "metadata": metadata,
        }));
    }
    if let Some(delay) = found.retry_info().and_then(|retry| retry.retry_delay) {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{}.{:09}s", delay.as_secs(), delay.subsec_nanos()),
        }));
    }
    json!({
        "code": i32::from(status.code()),
        "message": status.message(),
        "details": details,
    })
}

/// As google/rpc/code.proto maps them.
pub(super) const fn status_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn a_refusal_keeps_reason_facts_and_delay() {
        let error = ServiceError::new(
            Code::ResourceExhausted,
            Reason::new("TOO_MANY_CALLS"),
            "too many calls at once",
        );
        let error = error
            .with("limit", 7)
            .retry_after(Duration::from_millis(250));
        let status = Status::from(error.because(std::io::Error::other("SECRET-CAUSE")));
        let written = body(&status);
        assert_eq!(written["code"], 8);
        assert_eq!(written["details"][0]["reason"], "TOO_MANY_CALLS");
        assert_eq!(written["details"][0]["metadata"]["limit"], "7");
        assert_eq!(written["details"][1]["retryDelay"], "0.250000000s");
        assert!(!written.to_string().contains("SECRET-CAUSE"));
        let response = Refused::from(status).into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}

//! One trace for each envelope, from its sender's device through every service to those who receive it; and a span for each
//! call, in the trace of its caller.
//!
//! Messages of many senders share streams, transactions and batches, wait in outboxes and survive restarts; a context that
//! travels beside a call would be lost at each of these. So the context is made of what every part knows of a message anyway:
//! its digest gives the trace's id and that of the span above all others. Nothing has to be carried, stored or believed.
//!
//! A call is another thing: it begins and ends, and its caller may follow it in a trace of its own. It says so in
//! `traceparent` (W3C Trace Context); an envelope that such a call is about stays in its own trace.

use greffe_api::Rpc;
use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tonic::Code;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::w3c;

/// Puts a span into an envelope's trace, beside those of other parts. The digest is 32 bytes; for an entry of the log, whose
/// envelope the log does not know, the 16 bytes of its id.
#[must_use]
pub fn of(id: &[u8], span: Span) -> Span {
    if let (false, Some(context)) = (span.is_disabled(), context(id)) {
        // Refused only by a span that has begun already, or without a collector.
        let _parent = span.set_parent(Context::new().with_remote_span_context(context));
    }
    span
}

/// Notes in a span that it is about another envelope, too.
pub fn also(id: &[u8], span: &Span) {
    if let (false, Some(context)) = (span.is_disabled(), context(id)) {
        span.add_link(context);
    }
}

/// The span of a call until its answer begins, under its caller's if that says one; by OpenTelemetry's conventions for RPCs. It
/// names the RPC and how it ended, nobody and nothing else. A call whose caller streams has none: it lasts as long as the
/// connection, and what it carries is of many traces.
pub(crate) fn call(rpc: &Rpc, headers: &HeaderMap) -> Span {
    if rpc.client_streams {
        return Span::none();
    }
    let name = rpc.path.trim_start_matches('/');
    let (service, method) = name.split_once('/').unwrap_or((name, ""));
    let span = tracing::info_span!(
        "rpc",
        otel.name = name,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = Empty,
        otel.status_code = Empty,
    );
    if !span.is_disabled()
        && let Some(caller) = w3c::of_caller(headers)
    {
        // Refused only by a span that has begun already, or without a collector.
        let _parent = span.set_parent(Context::new().with_remote_span_context(caller));
    }
    span
}

/// Notes how a call was answered. What is a caller's fault is no error of this span.
pub(crate) fn answered(span: &Span, code: Code) {
    span.record("rpc.grpc.status_code", i32::from(code));
    let ours = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if ours {
        span.record("otel.status_code", "ERROR");
    }
}

/// W3C Trace Context, version 00: the first 16 bytes are the trace, the last 8 of these the span above all others.
fn context(id: &[u8]) -> Option<SpanContext> {
    let trace = TraceId::from_bytes(*id.first_chunk::<16>()?);
    let span = SpanId::from_bytes(*id.get(8..)?.first_chunk::<8>()?);
    Some(SpanContext::new(
        trace,
        span,
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    ))
}

//! One trace for each envelope, from its sender's device through every service to those who receive it.
//!
//! Messages of many senders share streams, transactions and batches, wait in outboxes and survive restarts; a context that
//! travels beside a call would be lost at each of these. So the context is made of what every part knows of a message anyway:
//! its digest gives the trace's id and that of the span above all others. Nothing has to be carried, stored or believed.

use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

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

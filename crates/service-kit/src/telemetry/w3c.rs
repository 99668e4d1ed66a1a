//! W3C Trace Context in the metadata of calls: what a caller says of its trace, and what we say of ours.
//!
//! A caller may have a trace of its own, of which a call of ours is one step. Its header is untrusted: what is malformed counts
//! as absent, and `tracestate`, which may hold anything, is neither kept nor passed on.

use greffe_types::from_hex;
use http::{HeaderMap, HeaderValue};
use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};

/// The header, as <https://www.w3.org/TR/trace-context/> names it.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The span of its own under which a caller makes a call, if it says one.
pub(crate) fn of_caller(headers: &HeaderMap) -> Option<SpanContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    match (given.next(), given.next()) {
        (Some(one), None) => parse(one.to_str().ok()?),
        _ => None,
    }
}

/// Says in a call that leaves under which span of ours it is made, if it is under one.
pub(crate) fn pass_on(headers: &mut HeaderMap) {
    let context = Context::current();
    let span = context.span();
    let span = span.span_context();
    // A caller of the SDK may have said so itself.
    if !span.is_valid() || headers.contains_key(TRACEPARENT) {
        return;
    }
    let text = format!(
        "00-{}-{}-{:02x}",
        span.trace_id(),
        span.span_id(),
        span.trace_flags() & TraceFlags::SAMPLED
    );
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(TRACEPARENT, value);
    }
}

fn parse(text: &str) -> Option<SpanContext> {
    let mut fields = text.split('-');
    let [version] = from_hex(fields.next()?).ok()?;
    let trace = TraceId::from_bytes(from_hex(fields.next()?).ok()?);
    let span = SpanId::from_bytes(from_hex(fields.next()?).ok()?);
    let [flags] = from_hex(fields.next()?).ok()?;
    // Versions to come may say more; the first one has these four fields, and the last one does not exist.
    if version == 0xff || (version == 0 && fields.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn what_is_malformed_is_ignored() {
        let said = |text: &str| parse(text).map(|c| (c.trace_id().to_string(), c.is_sampled()));
        let trace = TRACE.to_owned();
        for (text, read) in [
            (format!("00-{TRACE}-{SPAN}-01"), Some((trace.clone(), true))),
            (
                format!("00-{TRACE}-{SPAN}-00"),
                Some((trace.clone(), false)),
            ),
            // Other flags are none of ours.
            (
                format!("00-{TRACE}-{SPAN}-fe"),
                Some((trace.clone(), false)),
            ),
            (
                format!("cc-{TRACE}-{SPAN}-01-what-comes"),
                Some((trace, true)),
            ),
            (format!("00-{TRACE}-{SPAN}-01-more"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{TRACE}-{SPAN}"), None),
            (format!("00-{}-{SPAN}-01", &TRACE[1..]), None),
            (format!("00-+{}-{SPAN}-01", &TRACE[1..]), None),
            (format!("0-{TRACE}-{SPAN}-01"), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            (format!("00-{TRACE}-{SPAN}-01 "), None),
            (String::new(), None),
        ] {
            assert_eq!(said(&text), read, "{text:?}");
        }
    }

    #[test]
    fn two_headers_are_none_and_what_is_passed_on_is_read_again() {
        let mut headers = HeaderMap::new();
        assert_eq!(of_caller(&headers), None);
        pass_on(&mut headers);
        assert!(headers.is_empty(), "no span, no header");
        let given = parse(&format!("00-{TRACE}-{SPAN}-01")).unwrap();
        let _within = Context::new()
            .with_remote_span_context(given.clone())
            .attach();
        pass_on(&mut headers);
        assert_eq!(of_caller(&headers), Some(given));
        headers.append(TRACEPARENT, HeaderValue::from_static("00"));
        assert_eq!(of_caller(&headers), None);
    }
}

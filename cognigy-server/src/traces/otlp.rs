//! Spans as OTLP's JSON (OpenTelemetry Protocol 1.x, "JSON Protobuf Encoding"): ids in hexadecimal,
//! 64-bit numbers as strings, enums as numbers.

use std::time::{SystemTime, UNIX_EPOCH};

use cognigy_core::SpanEnd;
use serde_json::{Value, json};

use super::tracer::FinishedSpan;

/// Flags of a span: W3C's lowest byte, and whether it is known if the parent or the link is remote, and
/// if it is.
const SAMPLED: u32 = 0x01;
const REMOTE_IS_KNOWN: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// `STATUS_CODE_ERROR`
const ERROR: u32 = 2;

/// What the spans of this process come from.
pub(super) fn resource(instance: &str) -> Value {
    json!({"attributes": [
        text("service.name", "cognigy-server"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", instance),
    ]})
}

/// The body of a request to `/v1/traces`.
pub(super) fn request(resource: &Value, spans: &[FinishedSpan]) -> Value {
    let spans: Vec<_> = spans.iter().map(span).collect();
    let scope = json!({"name": "cognigy-server", "version": env!("CARGO_PKG_VERSION")});
    json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]})
}

fn span(span: &FinishedSpan) -> Value {
    let remote = if span.parent_is_remote { IS_REMOTE } else { 0 };
    let mut attributes = Vec::new();
    if let Some(source) = &span.source {
        attributes.push(text("cognigy.source", source.as_str()));
    }
    if let Some(id) = &span.event_id {
        attributes.push(text("cognigy.event_id", id.as_str()));
    }
    for (name, value) in [("cognigy.run", span.run), ("cognigy.attempt", span.attempt)] {
        if let Some(value) = value {
            attributes.push(json!({"key": name, "value": {"intValue": value.to_string()}}));
        }
    }
    let (outcome, failed) = match span.end {
        SpanEnd::Done(outcome) => (outcome, false),
        SpanEnd::Failed(outcome) => (outcome, true),
        SpanEnd::CutOff => ("cut_off", true),
    };
    attributes.push(text("cognigy.outcome", outcome));
    let mut value = json!({
        "traceId": hex(&span.at.trace_id()),
        "spanId": hex(&span.at.span_id()),
        "flags": SAMPLED | REMOTE_IS_KNOWN | remote,
        "name": span.name,
        "kind": span.kind as u32,
        "startTimeUnixNano": nanoseconds(span.began),
        // Clocks may be set back.
        "endTimeUnixNano": nanoseconds(span.ended.max(span.began)),
        "attributes": attributes,
    });
    if let Some(parent) = span.parent {
        value["parentSpanId"] = hex(&parent).into();
    }
    if let Some(link) = span.link {
        value["links"] = json!([{
            "traceId": hex(&link.trace_id()),
            "spanId": hex(&link.span_id()),
            "flags": u32::from(link.is_sampled()),
        }]);
    }
    if failed {
        value["status"] = json!({"code": ERROR});
    }
    value
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

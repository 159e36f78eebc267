//! Adds to each line which event and which trace it belongs to: `event_id` and `trace_id`.
//!
//! The core says what a thread works on ([`Scope`]), so that lines of adapters, libraries and the
//! program's own handler have it too. A line that has such a field of its own keeps that one.

use std::fmt::{self, Write};

use cognigy_core::Scope;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Json, Writer, format},
    },
    registry::LookupSpan,
};

/// Writes lines as `F` does, with what is known of the scope at their end.
pub(super) struct Scoped<F> {
    format: F,
    add: fn(&mut String, &str, &str),
}

impl Scoped<Format<Full>> {
    pub(super) fn text(colours: bool) -> Self {
        Self { format: format().with_ansi(colours), add: add_to_text }
    }
}

impl Scoped<Format<Json>> {
    pub(super) fn json() -> Self {
        Self { format: format().json().flatten_event(true), add: add_to_json }
    }
}

impl<F, S, N> FormatEvent<S, N> for Scoped<F>
where
    F: FormatEvent<S, N>,
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(scope) = Scope::current() else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let is_missing = |name| event.metadata().fields().field(name).is_none();
        if let Some(event_id) = scope.event_id.as_ref().filter(|_| is_missing("event_id")) {
            (self.add)(&mut line, "event_id", event_id.as_str());
        }
        if let Some(traceparent) = scope.traceparent.filter(|_| is_missing("trace_id")) {
            let trace_id = u128::from_be_bytes(traceparent.trace_id());
            (self.add)(&mut line, "trace_id", &format!("{trace_id:032x}"));
        }
        writer.write_str(&line)
    }
}

/// Behind the other fields, quoted and escaped as they are.
fn add_to_text(line: &mut String, name: &str, value: &str) {
    let length = line.trim_end_matches('\n').len();
    line.truncate(length);
    // Writing to a string cannot fail.
    let _ = writeln!(line, " {name}={value:?}");
}

/// Before the brace that ends the object.
fn add_to_json(line: &mut String, name: &str, value: &str) {
    if let Some(object) = line.trim_end_matches('\n').strip_suffix('}') {
        let length = object.len();
        line.truncate(length);
        let _ = writeln!(line, ",\"{name}\":{}}}", serde_json::Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_escaped_and_the_line_stays_one_line() {
        let id = "a\n\"b\"\u{1b}[31m";
        let mut text = "INFO it happened a=1\n".to_owned();
        add_to_text(&mut text, "event_id", id);
        assert_eq!(text, "INFO it happened a=1 event_id=\"a\\n\\\"b\\\"\\u{1b}[31m\"\n");
        let mut json = "{\"message\":\"it happened\"}\n".to_owned();
        add_to_json(&mut json, "event_id", id);
        add_to_json(&mut json, "trace_id", "4b");
        assert_eq!(json.lines().count(), 1);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((read["event_id"].as_str(), read["trace_id"].as_str()), (Some(id), Some("4b")));
    }
}

//! Where in a trace something happened, as services tell one another.
//!
//! The text is the header `traceparent` of W3C Trace Context, version 00. What makes traces and where
//! they go is none of the core's business: see [`Tracer`](crate::Tracer).

use std::{fmt, str::FromStr};

/// The length of the text: `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LENGTH: usize = 55;
/// The only flag that is used: the caller may have recorded its span.
const SAMPLED: u8 = 1;

/// A span and its trace.
///
/// ```
/// use cognigy_core::TraceParent;
///
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let parent: TraceParent = header.parse()?;
/// assert!(parent.is_sampled());
/// assert_eq!(parent.to_string(), header);
/// assert!("00-0-0-00".parse::<TraceParent>().is_err());
/// # Ok::<_, cognigy_core::InvalidTraceParent>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    sampled: bool,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a traceparent as W3C Trace Context defines it")]
pub struct InvalidTraceParent;

impl TraceParent {
    /// The span `span_id` of the trace `trace_id`. None if one of them is zero, which means "no id".
    #[must_use]
    pub const fn new(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> Option<Self> {
        if u128::from_be_bytes(trace_id) == 0 || u64::from_be_bytes(span_id) == 0 {
            return None;
        }
        Some(Self { trace_id, span_id, sampled })
    }

    /// The trace's id.
    #[must_use]
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The span's id.
    #[must_use]
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// Whether the span is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    /// Reads version 00, and of a later version what version 00 knows of it (W3C Trace Context, 3.2.4).
    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let bytes = text.as_bytes();
        let (head, rest) = bytes.split_at_checked(LENGTH).ok_or(InvalidTraceParent)?;
        let [version] = hex(&head[..2])?;
        let may_go_on = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        if !may_go_on || [head[2], head[35], head[52]] != [b'-'; 3] {
            return Err(InvalidTraceParent);
        }
        let [flags] = hex(&head[53..])?;
        let ids = (hex(&head[3..35])?, hex(&head[36..52])?);
        Self::new(ids.0, ids.1, flags & SAMPLED != 0).ok_or(InvalidTraceParent)
    }
}

/// Lower case only, as the standard asks.
fn hex<const N: usize>(digits: &[u8]) -> Result<[u8; N], InvalidTraceParent> {
    let mut bytes = [0; N];
    base16ct::lower::decode(digits, &mut bytes).map_err(|_| InvalidTraceParent)?;
    Ok(bytes)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Each delivery writes one: faster than the formatting of numbers.
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let flags = [u8::from(self.sampled)];
        let parts: [(&[u8], _); 3] =
            [(&self.trace_id, 3..35), (&self.span_id, 36..52), (&flags, 53..55)];
        for (bytes, place) in parts {
            base16ct::lower::encode(bytes, &mut text[place]).map_err(|_| fmt::Error)?;
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of W3C Trace Context, 3.2.3.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_standard_s_example_reads_and_is_written_again() {
        let parsed: TraceParent = EXAMPLE.parse().unwrap();
        assert!(parsed.is_sampled() && parsed.trace_id()[0] == 0x4b && parsed.span_id()[7] == 0xb7);
        assert_eq!(parsed.to_string(), EXAMPLE);
        let unsampled: TraceParent = EXAMPLE.replace("-01", "-00").parse().unwrap();
        assert!(!unsampled.is_sampled());
        // A flag that is not known is not passed on.
        let random: TraceParent = EXAMPLE.replace("-01", "-03").parse().unwrap();
        assert_eq!(random, parsed);
        let later = format!("cc{}-what-comes-later", &EXAMPLE[2..]);
        assert_eq!(later.parse(), Ok(parsed));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_span = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        for text in [
            "",
            "00",
            &EXAMPLE[..54],
            &format!("{EXAMPLE}-more"),
            &format!("{EXAMPLE} "),
            &format!("ff{}", &EXAMPLE[2..]),
            &format!("cc{}.x", &EXAMPLE[2..]),
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replace("-00f0", "_00f0"),
            &EXAMPLE.replace("4bf9", "4bg9"),
            &EXAMPLE.replace("4bf9", "4bé"),
            &zero_trace,
            &zero_span,
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(InvalidTraceParent), "{text}");
        }
    }
}

//! The sender's timestamp: kept as sent, parsed for use.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};

use crate::Timestamp;

/// A Unix time at or above this is milliseconds: as seconds it would lie past the year 5100, as
/// milliseconds it is 1973.
const FIRST_MILLISECOND_VALUE: i64 = 100_000_000_000;

/// When an event happened, by its sender's word: RFC 3339, ISO 8601 without an offset (taken as
/// UTC), or Unix seconds or milliseconds as a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTime {
    json: Box<str>,
    instant: Timestamp,
}

impl EventTime {
    /// Reads a JSON value: a string or a number.
    pub fn from_json(json: &str) -> Result<Self, &'static str> {
        let instant = match json.bytes().next() {
            Some(b'"') => {
                let text: String =
                    serde_json::from_str(json).map_err(|_| "must be a valid JSON string")?;
                from_text(&text).ok_or("must be RFC 3339, ISO 8601 or a Unix time")?
            }
            Some(b'-' | b'0'..=b'9') => {
                from_number(json).ok_or("is a number that is not a Unix time")?
            }
            _ => return Err("must be a string or a number"),
        };
        Ok(Self { json: json.into(), instant })
    }

    /// The JSON value as sent: quoted text or a number.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// The point in time.
    #[must_use]
    pub fn instant(&self) -> Timestamp {
        self.instant
    }
}

impl serde::Serialize for EventTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &serde_json::value::RawValue =
            serde_json::from_str(&self.json).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

fn from_text(text: &str) -> Option<Timestamp> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    // ISO 8601 also writes offsets without a colon or minutes.
    for format in ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z"] {
        if let Ok(time) = DateTime::parse_from_str(text, format) {
            return Some(time.to_utc());
        }
    }
    let without_offset = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
        .into_iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| {
            let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            Some(date.and_time(NaiveTime::MIN))
        })?;
    Some(without_offset.and_utc())
}

fn from_number(json: &str) -> Option<Timestamp> {
    if let Ok(whole) = json.parse::<i64>() {
        return if whole.unsigned_abs() >= FIRST_MILLISECOND_VALUE.unsigned_abs() {
            DateTime::<Utc>::from_timestamp_millis(whole)
        } else {
            DateTime::<Utc>::from_timestamp(whole, 0)
        };
    }
    let number = json.parse::<f64>().ok().filter(|number| number.is_finite())?;
    #[allow(clippy::cast_precision_loss)]
    let scale = if number.abs() >= FIRST_MILLISECOND_VALUE as f64 { 1e3 } else { 1e6 };
    // What is beyond an i64 becomes its largest or smallest value, and no calendar reaches that far.
    #[allow(clippy::cast_possible_truncation)]
    let micros = (number * scale).round() as i64;
    DateTime::<Utc>::from_timestamp_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_contract_is_read_and_kept_as_sent() {
        for (json, expected) in [
            (r#""2026-03-01T12:00:00Z""#, "2026-03-01T12:00:00+00:00"),
            (r#""2026-03-01T14:00:00.5+02:00""#, "2026-03-01T12:00:00.500+00:00"),
            (r#""2026-03-01T14:00:00+0200""#, "2026-03-01T12:00:00+00:00"),
            (r#""2026-03-01T12:00:00""#, "2026-03-01T12:00:00+00:00"),
            (r#""2026-03-01 12:00:00.250""#, "2026-03-01T12:00:00.250+00:00"),
            (r#""2026-03-01""#, "2026-03-01T00:00:00+00:00"),
            ("1772366400", "2026-03-01T12:00:00+00:00"),
            ("1772366400000", "2026-03-01T12:00:00+00:00"),
            ("1772366400.25", "2026-03-01T12:00:00.250+00:00"),
        ] {
            let time = EventTime::from_json(json).unwrap_or_else(|error| panic!("{json}: {error}"));
            assert_eq!(time.instant().to_rfc3339(), expected, "{json}");
            assert_eq!(time.as_json(), json);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for json in [
            r#""""#,
            r#""yesterday""#,
            r#""1772366400""#,
            r#""2026-13-01T00:00:00Z""#,
            "null",
            "true",
            "{}",
            "1e400",
            "1e30",
            "-1e30",
            "9223372036854775807",
            "-9223372036854775808",
        ] {
            assert!(EventTime::from_json(json).is_err(), "{json}");
        }
    }
}

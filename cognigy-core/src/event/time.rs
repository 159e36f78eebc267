//! The sender's timestamp: kept as sent, parsed for use.

use chrono::{
    DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, TimeZone, Utc,
};

/// A point in time, UTC. Stores keep microseconds.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// A Unix time at or above this is milliseconds: as seconds it would lie past the year 5100, as
/// milliseconds it is 1973.
const FIRST_MILLISECOND_VALUE: i64 = 100_000_000_000;

/// When an event happened, by its sender's word: RFC 3339, ISO 8601 in its extended or basic format
/// (taken as UTC where it has no offset), also with a space before the time or the offset and with
/// `UTC` for an offset, or Unix seconds or milliseconds as a number.
///
/// ```
/// use cognigy_core::{EventTime, InvalidEventTime};
///
/// let text = EventTime::from_json(r#""2026-03-01T13:00:00+01:00""#)?;
/// let number = EventTime::from_json("1772366400000")?; // milliseconds
/// assert_eq!(text.instant(), number.instant());
/// assert_eq!(number.as_json(), "1772366400000"); // kept as sent
///
/// assert_eq!(EventTime::from_json(r#""yesterday""#), Err(InvalidEventTime::Format));
/// # Ok::<_, InvalidEventTime>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTime {
    json: Box<str>,
    instant: Timestamp,
}

/// Not the time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEventTime {
    /// The value is neither a string nor a number.
    #[error("must be a string or a number")]
    Kind,
    /// The string is not valid JSON.
    #[error("must be a valid JSON string")]
    Json,
    /// The string is in none of the formats.
    #[error("must be RFC 3339, ISO 8601 or a Unix time")]
    Format,
    /// The number is out of range.
    #[error("is a number that is not a Unix time")]
    Number,
}

impl EventTime {
    /// Reads a JSON value: a string or a number.
    ///
    /// # Errors
    ///
    /// It is not the time of an event.
    pub fn from_json(json: &str) -> Result<Self, InvalidEventTime> {
        let instant = match json.bytes().next() {
            Some(b'"') => {
                let text: String =
                    serde_json::from_str(json).map_err(|_| InvalidEventTime::Json)?;
                from_text(&text).ok_or(InvalidEventTime::Format)?
            }
            Some(b'-' | b'0'..=b'9') => from_number(json).ok_or(InvalidEventTime::Number)?,
            _ => return Err(InvalidEventTime::Kind),
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

/// For events whose senders tell no time: the time at which they were received, as RFC 3339.
impl From<Timestamp> for EventTime {
    fn from(instant: Timestamp) -> Self {
        let text = instant.to_rfc3339_opts(SecondsFormat::Micros, true);
        Self { json: format!("\"{text}\"").into(), instant }
    }
}

impl serde::Serialize for EventTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &serde_json::value::RawValue =
            serde_json::from_str(&self.json).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Dates and times in the extended format of ISO 8601, also with a space for the `T`.
const EXTENDED: [&str; 4] =
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];

/// The same in the basic format.
const BASIC: [&str; 2] = ["%Y%m%dT%H%M%S%.f", "%Y%m%dT%H%M"];

fn from_text(text: &str) -> Option<Timestamp> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    // ISO 8601, section 4.2.2.4: the decimal sign is a comma or a full stop.
    let text = text.replacen(',', ".", 1);
    if let Some((time, offset)) = split_offset(&text) {
        return offset.from_local_datetime(&date_and_time(time)?).single().map(|it| it.to_utc());
    }
    let midnight = || Some(date(&text)?.and_time(NaiveTime::MIN));
    Some(date_and_time(&text).or_else(midnight)?.and_utc())
}

fn date_and_time(text: &str) -> Option<NaiveDateTime> {
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    let forms = match whole.contains(['-', ' ']) {
        true => &EXTENDED[..],
        // The parser takes `5` for `05`, which nothing but separators makes unambiguous.
        false if matches!(whole.len(), 13 | 15) => &BASIC[..],
        false => &[],
    };
    forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
}

fn date(text: &str) -> Option<NaiveDate> {
    let form = match text.contains('-') {
        true => "%Y-%m-%d",
        false if text.len() == 8 => "%Y%m%d",
        false => return None,
    };
    NaiveDate::parse_from_str(text, form).ok()
}

/// A time and the offset that ends it, where one does: `Z`, `UTC`, `+02:00`, `+0200` or `+02`, with
/// or without a space before it.
fn split_offset(text: &str) -> Option<(&str, FixedOffset)> {
    const UTC: FixedOffset = match FixedOffset::east_opt(0) {
        Some(utc) => utc,
        None => unreachable!(),
    };
    for name in ["Z", "z", "UTC", "GMT"] {
        if let Some(time) = text.strip_suffix(name) {
            return Some((time.strip_suffix(' ').unwrap_or(time), UTC));
        }
    }
    // A date holds hyphens too: an offset comes after the time.
    let time_of_day = text.find(['T', ' '])?;
    let sign = time_of_day + text[time_of_day..].rfind(['+', '-'])?;
    let (time, offset) = text.split_at(sign);
    let digits = match offset.len() {
        3 | 5 => offset[1..].to_owned(),
        6 if offset.as_bytes()[3] == b':' => [&offset[1..3], &offset[4..]].concat(),
        _ => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let hours: i32 = digits[..2].parse().ok()?;
    let minutes: i32 = if digits.len() == 4 { digits[2..].parse().ok()? } else { 0 };
    let seconds = (minutes < 60).then_some((hours * 60 + minutes) * 60)?;
    let east = if offset.starts_with('-') { -seconds } else { seconds };
    Some((time.strip_suffix(' ').unwrap_or(time), FixedOffset::east_opt(east)?))
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
            (r#""2026-03-01T14:00:00 +0200""#, "2026-03-01T12:00:00+00:00"),
            (r#""2026-03-01 14:00:00 +02:00""#, "2026-03-01T12:00:00+00:00"),
            (r#""2026-03-01 07:00:00-0500""#, "2026-03-01T12:00:00+00:00"),
            (r#""2026-03-01T14:00+02""#, "2026-03-01T12:00:00+00:00"),
            (r#""2026-03-01 12:00:00 UTC""#, "2026-03-01T12:00:00+00:00"),
            (r#""2026-03-01 12:00:00.5 GMT""#, "2026-03-01T12:00:00.500+00:00"),
            (r#""2026-03-01T12:00:00,123Z""#, "2026-03-01T12:00:00.123+00:00"),
            (r#""2026-03-01T14:00:00,123+02:00""#, "2026-03-01T12:00:00.123+00:00"),
            (r#""2026-03-01 12:00:00,123""#, "2026-03-01T12:00:00.123+00:00"),
            (r#""20260301T120000Z""#, "2026-03-01T12:00:00+00:00"),
            (r#""20260301T140000.123+0200""#, "2026-03-01T12:00:00.123+00:00"),
            (r#""20260301T070000,123-05""#, "2026-03-01T12:00:00.123+00:00"),
            (r#""20260301T1200Z""#, "2026-03-01T12:00:00+00:00"),
            (r#""20260301T120000""#, "2026-03-01T12:00:00+00:00"),
            (r#""20260301""#, "2026-03-01T00:00:00+00:00"),
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
    fn a_time_of_receipt_reads_back() {
        let received = Timestamp::from_timestamp_micros(1_772_366_400_000_007).unwrap();
        let time = EventTime::from(received);
        assert_eq!(time.as_json(), r#""2026-03-01T12:00:00.000007Z""#);
        assert_eq!(EventTime::from_json(time.as_json()), Ok(time));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for json in [
            r#""""#,
            r#""yesterday""#,
            r#""1772366400""#,
            r#""2026-13-01T00:00:00Z""#,
            r#""2026-03-01T12:00:00+2""#,
            r#""2026-03-01T12:00:00+0260""#,
            r#""2026-03-01T12:00:00+99:00""#,
            r#""2026-03-01T12:00:00+ü:00""#,
            r#""2026-03-01T12:00:00  UTC""#,
            r#""2026-03-01T12:00:00 CET""#,
            r#""2026-03-01T12,00,00Z""#,
            r#""2026-03-01Z""#,
            r#""202603""#,
            r#""202603011""#,
            r#""20260301T12000Z""#,
            r#""UTC""#,
            r#""+02:00""#,
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

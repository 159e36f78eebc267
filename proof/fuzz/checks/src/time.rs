use cognigy_core::EventTime;
use serde_json::value::RawValue;

/// A timestamp, as the JSON value it is in the body: it is kept as sent, and it is a time that can
/// be written and read again.
pub fn time(input: &[u8]) {
    let Ok(json) = serde_json::from_slice::<&RawValue>(input) else { return };
    let Ok(time) = EventTime::from_json(json.get()) else { return };
    assert_eq!(time.as_json(), json.get());
    assert_eq!(serde_json::to_string(&time).unwrap(), json.get());
    let written = time.instant().to_rfc3339();
    // RFC 3339 has years of four digits.
    if (0..=9999).contains(&chrono_year(&written)) {
        let again = EventTime::from_json(&format!("\"{written}\"")).unwrap();
        assert_eq!(again.instant(), time.instant());
    }
}

fn chrono_year(written: &str) -> i64 {
    let (sign, digits) = match written.split_at(1) {
        ("-", rest) => (-1, rest),
        ("+", rest) => (1, rest),
        _ => (1, written),
    };
    sign * digits.split('-').next().unwrap().parse::<i64>().unwrap()
}

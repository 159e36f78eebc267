//! Spans of time as people write them.

use std::time::Duration;

/// Reads `500ms`, `2s`, `1.5s`, `1m30s`, `30d`: whole numbers with their units, the largest first.
/// The last one may have decimals.
///
/// # Errors
///
/// It is written in another way, or longer than a hundred years.
pub fn duration(text: &str) -> Result<Duration, String> {
    // A hundred years count as for ever. The limit keeps every sum of times within the calendar.
    const LONGEST: f64 = 100.0 * 365.0 * 86_400_000.0;
    let expected = || "expected a duration such as 500ms, 1.5s, 1m30s, 1h or 30d".to_owned();
    let (mut rest, mut milliseconds, mut shortest) = (text, 0.0, f64::INFINITY);
    while !rest.is_empty() || shortest.is_infinite() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c)).unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let unit: f64 = match unit {
            "ms" => 1.0,
            "s" => 1000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            _ => return Err(expected()),
        };
        let has_digits_at_its_ends = [number.chars().next(), number.chars().last()]
            .iter()
            .all(|end| end.is_some_and(|c| c.is_ascii_digit()));
        let is_last_or_whole = after.is_empty() || !number.contains('.');
        if !has_digits_at_its_ends || !is_last_or_whole || unit >= shortest {
            return Err(expected());
        }
        milliseconds += number.parse::<f64>().map_err(|_| expected())? * unit;
        (rest, shortest) = (after, unit);
    }
    if milliseconds > LONGEST {
        return Err("is longer than a hundred years".to_owned());
    }
    Ok(Duration::from_secs_f64((milliseconds * 1000.0).round() / 1_000_000.0))
}

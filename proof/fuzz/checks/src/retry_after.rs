use std::time::{Duration, SystemTime};

use cognigy_http::MAX_RETRY_AFTER;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

/// A `Retry-After` header: no wait is longer than the longest, and seconds are seconds.
pub fn retry_after(input: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    let headers = HeaderMap::from_iter([(RETRY_AFTER, value)]);
    // Sun, 06 Nov 1994 08:49:37 GMT.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let wait = cognigy_http::retry_after(&headers, now);
    assert!(wait.is_none_or(|wait| wait <= MAX_RETRY_AFTER));
    // White space around a value is SP and HTAB (RFC 9110, section 5.6.3), and no other Unicode
    // white space.
    let text = std::str::from_utf8(input).unwrap_or_default().trim_matches([' ', '\t']);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs);
        assert_eq!(wait, Some(seconds.min(MAX_RETRY_AFTER)));
    }
    let later = cognigy_http::retry_after(&headers, now + Duration::from_secs(60));
    assert_eq!(wait.is_some(), later.is_some());
    assert!(later <= wait, "as time passes no wait grows");
}

//! Reads answers without trusting them: bodies of any length, waits of any form.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Response,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};

use crate::{TransportError, one_line, shorten};

/// The longest wait that [`retry_after`] returns: a year. A longer wait makes no sense, and a year
/// can be added to any clock without overflow.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A body could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The body is longer than `limit` bytes. Nothing beyond the limit was read.
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// The most bytes that are accepted.
        limit: usize,
    },
    /// The body broke off or did not end in time.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

enum End {
    Complete,
    Cut,
    Broken(TransportError),
}

/// The whole body, if it is no longer than `limit` bytes. Counts what arrives: a `Content-Length`
/// may be absent or a lie.
///
/// # Errors
/// The body is longer than `limit`, or its transfer broke off ([`ReadError`]).
pub async fn read_bounded(response: Response, limit: usize) -> Result<Bytes, ReadError> {
    // A truthful length saves the transfer.
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(ReadError::TooLarge { limit });
    }
    match collect(response, limit).await {
        (body, End::Complete) => Ok(body),
        (_, End::Cut) => Err(ReadError::TooLarge { limit }),
        (_, End::Broken(error)) => Err(error.into()),
    }
}

/// As much of the body as arrives, `limit` bytes at most. For answers whose status has already
/// decided: what is left is an excerpt for a message, and reading it frees the connection for the
/// next request.
pub async fn read_at_most(response: Response, limit: usize) -> Bytes {
    collect(response, limit).await.0
}

async fn collect(mut response: Response, limit: usize) -> (Bytes, End) {
    let mut body = BytesMut::new();
    let end = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = limit - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    break End::Cut;
                }
            }
            Ok(None) => break End::Complete,
            Err(error) => break End::Broken(error.into()),
        }
    };
    (body.freeze(), end)
}

/// The wait that a `Retry-After` header asks for, in either form of RFC 9110, section 10.2.3:
/// seconds, or a date, taken relative to `now`. A date that has passed means no wait; a value of
/// neither form is ignored, and waits beyond [`MAX_RETRY_AFTER`] are cut to it.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // The text has only digits, so parsing fails only if the number is too large.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The longest `Content-Type` that a message repeats, in bytes.
const MEDIA_TYPE_BYTES: usize = 80;

/// The declared type of an answer, for a message: its `Content-Type` in one short line, or "no
/// content type".
#[must_use]
pub fn media_type(headers: &HeaderMap) -> String {
    match headers.get(CONTENT_TYPE) {
        Some(value) => {
            shorten(&one_line(&String::from_utf8_lossy(value.as_bytes())), MEDIA_TYPE_BYTES)
        }
        None => "no content type".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn both_forms_of_retry_after_are_read_and_junk_is_not() {
        // Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's own examples.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let second = Duration::from_secs(1);
        for (value, wait) in [
            ("0", Some(Duration::ZERO)),
            ("1", Some(second)),
            (" 120 ", Some(120 * second)),
            ("007", Some(7 * second)),
            ("1000000000000", Some(MAX_RETRY_AFTER)),
            ("99999999999999999999999999", Some(MAX_RETRY_AFTER)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30 * second)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30 * second)),
            ("Sun Nov  6 08:50:07 1994", Some(30 * second)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(Duration::ZERO)),
            ("Sun, 06 Nov 1983 08:49:37 GMT", Some(Duration::ZERO)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(MAX_RETRY_AFTER)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1e12", None),
            ("soon", None),
            ("12 s", None),
            ("2030-01-01T00:00:00Z", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), wait, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
        let opaque = reqwest::header::HeaderValue::from_bytes(b"\xff").unwrap();
        assert_eq!(retry_after(&HeaderMap::from_iter([(RETRY_AFTER, opaque)]), now), None);
    }
}

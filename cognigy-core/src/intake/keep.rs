//! Which headers of a delivery are kept, and how much of them.

use crate::{event::DeliveryContext, intake::Headers};

/// The most that the kept headers of one delivery may take up, names and values together, in bytes.
/// More than the attributes of any event need; each delivery stores it.
pub const MAX_CONTEXT_BYTES: usize = 16 * 1024;

/// The kept headers are larger than [`MAX_CONTEXT_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the headers that have to be kept are larger than {MAX_CONTEXT_BYTES} bytes")]
pub(crate) struct ContextTooLarge;

/// The headers among `headers` that one of `patterns` names: a header's name, or the beginning of
/// one with `*` behind it. Case does not matter.
///
/// # Errors
///
/// They are too large together.
pub(crate) fn keep(
    headers: &dyn Headers,
    patterns: &[impl AsRef<str>],
) -> Result<DeliveryContext, ContextTooLarge> {
    if patterns.is_empty() {
        return Ok(DeliveryContext::default());
    }
    let (mut kept, mut bytes) = (Vec::new(), 0);
    headers.for_each(&mut |name, value| {
        if patterns.iter().any(|pattern| names(pattern.as_ref(), name)) {
            bytes += name.len() + value.len();
            if bytes <= MAX_CONTEXT_BYTES {
                let value = String::from_utf8_lossy(value).into_owned();
                kept.push((name.to_ascii_lowercase().into(), value.into()));
            }
        }
    });
    if bytes > MAX_CONTEXT_BYTES { Err(ContextTooLarge) } else { Ok(kept.into_iter().collect()) }
}

fn names(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => {
            name.get(..start.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(start))
        }
        None => name.eq_ignore_ascii_case(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: [(&str, &[u8]); 5] = [
        ("Authorization", b"Bearer marked"),
        ("CE-Id", b"e 1"),
        ("ce-type", b"a\xffb"),
        ("Traceparent", b"00-1"),
        ("traceparent", b"00-2"),
    ];

    #[test]
    fn only_what_is_named_is_kept_and_it_reads_back() {
        let context = keep(&HEADERS, &["ce-*", "traceparent"]).unwrap();
        let kept: Vec<_> = context.iter().collect();
        let expected = [
            ("ce-id", "e 1"),
            ("ce-type", "a\u{fffd}b"),
            ("traceparent", "00-1"),
            ("traceparent", "00-2"),
        ];
        assert_eq!(kept, expected);
        assert_eq!((context.get("CE-ID"), context.get("traceparent")), (Some("e 1"), None));
        let json = context.to_json().unwrap();
        assert_eq!(DeliveryContext::from_json(Some(&json)).unwrap(), context);
        assert_eq!(format!("{context:?}"), r#"["ce-id", "ce-type", "traceparent", "traceparent"]"#);
    }

    #[test]
    fn nothing_that_is_kept_takes_no_room_and_too_much_is_refused() {
        for patterns in [&[][..], &["x-other", "c"][..]] {
            let context = keep(&HEADERS, patterns).unwrap();
            assert!(context.is_empty() && context.to_json().is_none());
            assert_eq!(context, DeliveryContext::from_json(None).unwrap());
        }
        let long = vec![b'x'; MAX_CONTEXT_BYTES];
        let headers = [("a", &long[..])];
        assert_eq!(keep(&headers, &["a"]), Err(ContextTooLarge));
        let headers = [("a", &long[1..])];
        assert!(keep(&headers, &["a"]).is_ok());
        assert!(DeliveryContext::from_json(Some("{}")).is_err());
    }
}

//! The formats of the presets, each with what its sender really sends and the ways in which that goes
//! wrong. Sources here let everybody in.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod any_input;
mod cloud_events;
mod cognigy;
mod neighbours;
mod pointers;
mod stored;

use std::time::Duration;

use cognigy_core::{
    AuthenticationError, Authenticator, FormatOptions, FormatPreset, IncomingEvent, InvalidEvent,
    MatchedSecret, RawDelivery, Request, Source, VerifiedDelivery, testing::sample::start,
};

/// Lets every request in.
pub(crate) struct Anyone;

impl Authenticator for Anyone {
    fn authenticate(&self, _: &Request<'_>) -> Result<MatchedSecret, AuthenticationError> {
        Ok(MatchedSecret::Current)
    }
}

pub(crate) type Headers<'a> = &'a [(&'a str, &'a [u8])];

#[derive(Clone, Copy)]
struct Given<'a>(Headers<'a>);

impl cognigy_core::Headers for Given<'_> {
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.0.iter().for_each(|(name, value)| visit(name, value));
    }
}

/// A request with these headers.
pub(crate) fn request<'a>(
    headers: Headers<'a>,
    body: &[u8],
) -> RawDelivery<impl cognigy_core::Headers + 'a> {
    RawDelivery::new(Given(headers), body.to_vec())
}

pub(crate) fn source_with(preset: &str, options: FormatOptions) -> Source {
    let preset: FormatPreset = preset.parse().unwrap();
    let format = preset.format(options).ok().unwrap();
    Source::new("partner".parse().unwrap(), Anyone, format)
}

pub(crate) fn source(preset: &str) -> Source {
    source_with(preset, FormatOptions::default())
}

pub(crate) fn verified(source: &Source, headers: Headers<'_>, body: &[u8]) -> VerifiedDelivery {
    source.verify(request(headers, body), start()).unwrap()
}

pub(crate) fn read(
    source: &Source,
    headers: Headers<'_>,
    body: impl AsRef<[u8]>,
) -> Result<Vec<IncomingEvent>, InvalidEvent> {
    source.read(&verified(source, headers, body.as_ref()))
}

/// The only event of a delivery.
pub(crate) fn one(source: &Source, headers: Headers<'_>, body: impl AsRef<[u8]>) -> IncomingEvent {
    let mut events = read(source, headers, body.as_ref()).unwrap();
    assert_eq!(events.len(), 1);
    let event = events.remove(0);
    assert_eq!(event.body, body.as_ref(), "the body is what was received");
    event
}

/// The fields that are wrong.
pub(crate) fn wrong(source: &Source, headers: Headers<'_>, body: impl AsRef<[u8]>) -> Vec<String> {
    let invalid = read(source, headers, body).unwrap_err();
    assert!(!invalid.unsupported);
    invalid.errors.into_iter().map(|error| error.field).collect()
}

/// What an event is, in one line: type, contact, conversation.
pub(crate) fn told(event: &IncomingEvent) -> (&str, Option<&str>, Option<&str>) {
    let parts = &event.parts;
    (parts.kind.as_str(), parts.contact_key(), parts.conversation.as_deref())
}

pub(crate) fn id(event: &IncomingEvent) -> &str {
    event.key.id.as_str()
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn what_no_format_takes_is_refused_with_the_same_words_by_each() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let cases: [(&[u8], &str, &str); 8] = [
        (b"{\"a\":\"\xff\"}", "body", "is not valid UTF-8"),
        (deep.as_bytes(), "body", "nests deeper than 127 levels"),
        (b"{\"a\":1,\"a\":1}", "a", "appears more than once"),
        (b"{\"a\":1} {}", "body", "is not valid JSON (line 1, column 9)"),
        (b"{\"a\":1", "body", "is not valid JSON (line 1, column 6)"),
        (b"{\"a\":marked}", "body", "is not valid JSON (line 1, column 6)"),
        (b"userId=u&sessionId=s", "body", "must be a JSON object"),
        (b"\xef\xbb\xbf{}", "body", "must be a JSON object"),
    ];
    let ce: Headers<'_> =
        &[("ce-id", b"1"), ("ce-source", b"/s"), ("ce-type", b"t"), ("ce-specversion", b"1.0")];
    for preset in FormatPreset::NAMES {
        for headers in [&[][..], ce] {
            for (body, field, message) in cases {
                let source = source(preset);
                let invalid = read(&source, headers, body).unwrap_err();
                let first = &invalid.errors[0];
                assert_eq!(first.field, field, "{preset} {invalid}");
                // Where any JSON is taken, there is another reason.
                let any_json = message == "must be a JSON object"
                    && first.message == "is not valid JSON (line 1, column 1)";
                assert!(any_json || first.message == message, "{preset} {invalid}");
                assert!(!invalid.to_string().contains("marked"));
            }
        }
    }
}

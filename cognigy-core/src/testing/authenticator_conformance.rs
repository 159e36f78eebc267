//! The contract of an [`Authenticator`], one test for each sentence.
//!
//! That nearly right credentials take as long as wrong ones cannot be tested so: measure it.

use bytes::Bytes;

use super::sample;
use crate::{
    event::Timestamp,
    intake::{AuthenticationError, Authenticator, Headers, MatchedSecret, RawDelivery},
};

/// An authenticator under test, and a sender who has its secret.
pub trait AuthenticatorFixture {
    /// The authenticator.
    fn authenticator(&self) -> &dyn Authenticator;

    /// The headers with which the sender sends `body` at `now`.
    fn headers(&self, body: &[u8], now: Timestamp) -> Vec<(String, String)>;

    /// Whether the credential covers the body. False for tokens and passwords.
    fn covers_the_body(&self) -> bool;
}

/// Runs the suite against an authenticator: one test for each promise.
///
/// Takes a function that returns an
/// [`AuthenticatorFixture`](crate::testing::authenticator_conformance::AuthenticatorFixture).
///
/// ```
/// use cognigy_core::{
///     Authenticator, SignatureScheme, SignatureVerifier, Timestamp, sign,
///     testing::{authenticator_conformance::AuthenticatorFixture, sample},
/// };
///
/// struct Fixture(SignatureVerifier);
///
/// impl AuthenticatorFixture for Fixture {
///     fn authenticator(&self) -> &dyn Authenticator {
///         &self.0
///     }
///
///     fn headers(&self, body: &[u8], _now: Timestamp) -> Vec<(String, String)> {
///         let signature = sign(&sample::secret(), SignatureScheme::Base64, body);
///         vec![(SignatureVerifier::DEFAULT_HEADER.into(), signature)]
///     }
///
///     fn covers_the_body(&self) -> bool {
///         true
///     }
/// }
///
/// fn fixture() -> Fixture {
///     Fixture(sample::verifier())
/// }
///
/// cognigy_core::authenticator_conformance!(fixture);
/// ```
#[macro_export]
macro_rules! authenticator_conformance {
    ($fresh:path) => {
        $crate::authenticator_conformance! { @cases $fresh:
            what_the_sender_sends_is_let_through_each_time
            without_a_credential_it_is_refused
            a_credential_that_comes_twice_is_refused
            every_changed_character_of_the_credential_is_refused
            a_changed_body_is_refused_where_the_body_is_covered
            no_bytes_make_it_panic
            an_error_repeats_nothing_that_was_received
        }
    };
    (@cases $fresh:path: $($case:ident)+) => {
        $(
            #[test]
            fn $case() {
                $crate::testing::authenticator_conformance::$case(&$fresh());
            }
        )+
    };
}

/// The tests, for a program that makes its fixtures in a loop.
pub const ALL: [fn(&dyn AuthenticatorFixture); 7] = [
    what_the_sender_sends_is_let_through_each_time,
    without_a_credential_it_is_refused,
    a_credential_that_comes_twice_is_refused,
    every_changed_character_of_the_credential_is_refused,
    a_changed_body_is_refused_where_the_body_is_covered,
    no_bytes_make_it_panic,
    an_error_repeats_nothing_that_was_received,
];

const BODY: &[u8] = br#"{"eventId":"e1","text":"hello"}"#;

type Pairs = Vec<(String, String)>;

struct Sent<'a>(&'a Pairs);

impl Headers for Sent<'_> {
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.0.iter().for_each(|(name, value)| visit(name, value.as_bytes()));
    }
}

fn authenticate(
    fixture: &dyn AuthenticatorFixture,
    headers: &Pairs,
    body: &[u8],
) -> Result<MatchedSecret, AuthenticationError> {
    let delivery = RawDelivery::new(Sent(headers), Bytes::copy_from_slice(body));
    fixture.authenticator().authenticate(&delivery.request(sample::start()))
}

fn is_let_through(fixture: &dyn AuthenticatorFixture, headers: &Pairs, body: &[u8]) -> bool {
    authenticate(fixture, headers, body).is_ok()
}

fn genuine(fixture: &dyn AuthenticatorFixture) -> Pairs {
    fixture.headers(BODY, sample::start())
}

/// Pure: the same request always gets the same answer. Names of headers are of any case (RFC 9110,
/// section 5.1).
pub fn what_the_sender_sends_is_let_through_each_time(fixture: &dyn AuthenticatorFixture) {
    let headers = genuine(fixture);
    assert!((0..3).all(|_| is_let_through(fixture, &headers, BODY)));
    for of in [str::to_ascii_uppercase, str::to_ascii_lowercase] {
        let spelt = headers.iter().map(|(name, value)| (of(name), value.clone())).collect();
        assert!(is_let_through(fixture, &spelt, BODY), "{spelt:?}");
    }
    let mut more = headers;
    more.push(("X-Other".to_owned(), "1".to_owned()));
    assert!(is_let_through(fixture, &more, BODY), "other headers do not matter");
}

/// Nothing is let through for nothing.
pub fn without_a_credential_it_is_refused(fixture: &dyn AuthenticatorFixture) {
    assert!(!is_let_through(fixture, &Vec::new(), BODY));
    let empty = genuine(fixture).into_iter().map(|(name, _)| (name, String::new())).collect();
    assert!(!is_let_through(fixture, &empty, BODY));
}

/// Which of two a proxy in front looked at is not known.
pub fn a_credential_that_comes_twice_is_refused(fixture: &dyn AuthenticatorFixture) {
    let headers = genuine(fixture);
    let twice = headers.iter().chain(&headers).cloned().collect();
    assert!(!is_let_through(fixture, &twice, BODY));
}

/// A credential that is nearly right is wrong.
pub fn every_changed_character_of_the_credential_is_refused(fixture: &dyn AuthenticatorFixture) {
    let headers = genuine(fixture);
    for (index, (name, value)) in headers.iter().enumerate() {
        for (at, character) in value.char_indices() {
            // The name of a scheme such as `Bearer` may be written in any case.
            let other = if character == '~' { '!' } else { '~' };
            let mut changed = headers.clone();
            changed[index].1.replace_range(at..at + character.len_utf8(), &other.to_string());
            assert!(!is_let_through(fixture, &changed, BODY), "{name}, character {at}");
        }
        let mut longer = headers.clone();
        longer[index].1.push('0');
        assert!(!is_let_through(fixture, &longer, BODY), "{name}, one character more");
    }
}

/// Every bit counts.
pub fn a_changed_body_is_refused_where_the_body_is_covered(fixture: &dyn AuthenticatorFixture) {
    let headers = genuine(fixture);
    for bit in 0..BODY.len() * 8 {
        let mut body = BODY.to_vec();
        body[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(is_let_through(fixture, &headers, &body), !fixture.covers_the_body(), "{bit}");
    }
    assert_eq!(is_let_through(fixture, &headers, b""), !fixture.covers_the_body(), "no body");
}

/// Reads the body as bytes: it need not be text or JSON.
pub fn no_bytes_make_it_panic(fixture: &dyn AuthenticatorFixture) {
    for body in [&b""[..], b"\0", b"\xff\xfe", &[b'['; 100_000]] {
        let headers = fixture.headers(body, sample::start());
        assert!(is_let_through(fixture, &headers, body), "{} bytes", body.len());
        for value in
            ["\u{feff}", "=", ",", "t=,v1=", "v1,", "Bearer", "Basic Og==", &"9".repeat(5000)]
        {
            let odd = headers.iter().map(|(name, _)| (name.clone(), value.to_owned())).collect();
            assert!(!is_let_through(fixture, &odd, body), "{value:?}");
        }
    }
}

/// An error goes to logs: it names the kind of fault.
pub fn an_error_repeats_nothing_that_was_received(fixture: &dyn AuthenticatorFixture) {
    const MARKED: &str = "marked4111";
    let odd: Pairs =
        genuine(fixture).into_iter().map(|(name, _)| (name, MARKED.to_owned())).collect();
    let refused = authenticate(fixture, &odd, MARKED.as_bytes());
    let error = refused.expect_err("a made-up credential is refused");
    let told = format!("{error} {error:?} {}", fixture.authenticator().refusal());
    assert!(!told.contains(MARKED), "{told}");
}

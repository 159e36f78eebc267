use super::*;
use crate::intake::{Headers, RawDelivery};

/// The body of every sample that was computed for these tests, with Python's `hmac`.
const SAMPLE: &str = r#"{"userId":"u-42","sessionId":"s-7","AIOutput":{"text":"Hi","data":{},"traceId":"endpoint-httpIncomingMessage-0001","disableSensitiveLogging":false,"source":"bot"}}"#;
/// Their secret, `whsec_` of it, and their time: 2023-11-14T22:13:20Z.
const SECRET: &str = "local-test-secret";
const WHSEC: &str = "whsec_bG9jYWwtdGVzdC1zZWNyZXQ=";
const TIME: i64 = 1_700_000_000;

/// A delivery as some sender signs it.
#[derive(Clone)]
struct Signed {
    scheme: &'static str,
    secret: &'static str,
    url: &'static str,
    now: i64,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Headers for &Signed {
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.headers.iter().for_each(|(name, value)| visit(name, value));
    }
}

impl Signed {
    fn verifier(&self) -> SigningVerifier {
        let secret = Secret::new(self.secret.as_bytes()).unwrap();
        let scheme = SigningScheme::named(self.scheme).unwrap();
        let verifier = SigningVerifier::new(scheme, &secret).unwrap().public_url(self.url);
        assert_eq!(verifier.check(), Ok(()), "{}", self.scheme);
        verifier
    }

    fn outcome_at(&self, now: i64) -> Result<MatchedSecret, AuthenticationError> {
        let raw = RawDelivery::new(self, self.body.clone()).target("/in");
        let now = Timestamp::from_timestamp(now, 0).unwrap();
        self.verifier().authenticate(&raw.request(now))
    }

    fn outcome(&self) -> Result<MatchedSecret, AuthenticationError> {
        self.outcome_at(self.now)
    }
}

fn signed(
    scheme: &'static str,
    secret: &'static str,
    (url, now): (&'static str, i64),
    headers: &[(&str, &str)],
    body: &str,
) -> Signed {
    let headers =
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    Signed { scheme, secret, url, now, headers: headers.collect(), body: body.as_bytes().to_vec() }
}

/// What the senders publish themselves, and samples of our own for those that publish none.
fn vectors() -> Vec<Signed> {
    const SLACK: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const HUBSPOT: &str = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy";
    const BARE: &str = "IcOQ5k9NMPRKgOojHFABT9zRB8ULHkLkF3F74rhMT+k=";
    const TIMED: &str = "a8250bc4784002459783829db0cd711d18dfe369a8f8121d3984e95cfb208759";
    let none = ("", 0);
    let pair = format!("t=1700000000,v1={TIMED}");
    let with_prefix = format!("sha256={TIMED}");
    let ours =
        |scheme, headers: &[(&str, &str)]| signed(scheme, SECRET, ("", TIME), headers, SAMPLE);
    vec![
        // GitHub's documentation; octokit/webhooks-methods.js.
        signed(
            "github",
            "It's a Secret to Everybody",
            none,
            &[(
                "X-Hub-Signature-256",
                "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            )],
            "Hello, World!",
        ),
        signed(
            "github",
            "mysecret",
            none,
            &[(
                "x-hub-signature-256",
                "sha256=4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3",
            )],
            r#"{"foo":"bar"}"#,
        ),
        // Slack's documentation and python-slack-sdk.
        signed(
            "slack",
            "8f742231b10e8888abcd99yyyzzz85a5",
            ("", 1_531_420_618),
            &[
                ("X-Slack-Request-Timestamp", "1531420618"),
                (
                    "X-Slack-Signature",
                    "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
                ),
            ],
            SLACK,
        ),
        // The libraries of Standard Webhooks.
        signed(
            "standard-webhooks",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            ("", 1_614_265_330),
            &[
                ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("webhook-timestamp", "1614265330"),
                ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ],
            r#"{"test": 2432232314}"#,
        ),
        // line-bot-sdk-python.
        signed(
            "line",
            "channel_secret",
            none,
            &[("x-line-signature", "/gg9a+LvFevTH1sd7XCQycD7tsWclCsInj7MhBHxN7k=")],
            "bodybodybodybody",
        ),
        // hubspot-api-python.
        signed(
            "hubspot-v3",
            HUBSPOT,
            ("https://www.example.com/webhook_uri", 1_693_657_560),
            &[
                ("X-HubSpot-Request-Timestamp", "1693657560000"),
                ("X-HubSpot-Signature-v3", "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y="),
            ],
            "{'example_field':'example_value'}",
        ),
        ours("native", &[("X-Cognigy-Signature", BARE)]),
        ours("line", &[("X-Line-Signature", BARE)]),
        ours("shopify", &[("X-Shopify-Hmac-Sha256", BARE)]),
        ours("genesys", &[("X-Hub-Signature-256", &format!("sha256={BARE}"))]),
        ours(
            "github",
            &[(
                "X-Hub-Signature-256",
                "sha256=21c390e64f4d30f44a80ea231c50014fdcd107c50b1e42e417717be2b84c4fe9",
            )],
        ),
        ours("stripe", &[("Stripe-Signature", &pair)]),
        ours("voice-gateway", &[("Jambonz-Signature", &pair)]),
        ours(
            "chatwoot",
            &[("X-Chatwoot-Timestamp", "1700000000"), ("X-Chatwoot-Signature", &with_prefix)],
        ),
        ours(
            "cxone-expert",
            &[("X-Nexus-Timestamp", "1700000000"), ("X-Nexus-Signature-256", &with_prefix)],
        ),
        ours(
            "slack",
            &[
                ("X-Slack-Request-Timestamp", "1700000000"),
                (
                    "X-Slack-Signature",
                    "v0=685ef3cd73eb3d398bf698bfca2dde8b396de2813dbaf0285d397e050013e9b8",
                ),
            ],
        ),
        ours(
            "zendesk",
            &[
                ("X-Zendesk-Webhook-Signature-Timestamp", "2023-11-14T22:13:20Z"),
                ("X-Zendesk-Webhook-Signature", "3i8xmm3IUlZKMhHD4xkA5K3d2NhZAbDDpwtlWGvjTEs="),
            ],
        ),
        Signed {
            secret: WHSEC,
            ..ours(
                "standard-webhooks",
                &[
                    ("webhook-id", "msg_local_1"),
                    ("webhook-timestamp", "1700000000"),
                    ("webhook-signature", "v1,6fX8s3LcSmn5rW5Na3SqN5ul2jD75A9u7eJA0C/XDOg="),
                ],
            )
        },
        Signed {
            url: "https://hooks.example.test/in/hubspot?a=b",
            ..ours(
                "hubspot-v3",
                &[
                    ("X-HubSpot-Request-Timestamp", "1700000000000"),
                    ("X-HubSpot-Signature-v3", "D3+6OKQGVTbFo3dR1EXqd890zGjsZWiuoo/mlcqRUU4="),
                ],
            )
        },
    ]
}

#[test]
fn every_published_vector_is_let_through() {
    let schemes: std::collections::BTreeSet<_> = vectors().iter().map(|it| it.scheme).collect();
    assert_eq!(schemes, SigningScheme::names().collect(), "there is a vector for each scheme");
    for vector in vectors() {
        assert_eq!(vector.outcome(), Ok(MatchedSecret::Current), "{}", vector.scheme);
    }
}

#[test]
fn each_changed_bit_of_body_and_headers_is_refused() {
    for vector in vectors() {
        for at in 0..vector.body.len() {
            let mut changed = vector.clone();
            changed.body[at] ^= 1;
            assert!(changed.outcome().is_err(), "{} body {at}", vector.scheme);
        }
        for header in 0..vector.headers.len() {
            for at in 0..vector.headers[header].1.len() {
                for bit in 0..8 {
                    let mut changed = vector.clone();
                    changed.headers[header].1[at] ^= 1 << bit;
                    let (name, value) = &vector.headers[header];
                    let text = String::from_utf8_lossy(value);
                    // Hexadecimal is read in either case, and so is the `T` and the `Z` of a time,
                    // which is signed as it was received.
                    let same = changed.headers[header].1.eq_ignore_ascii_case(value)
                        && !text.ends_with('=');
                    let let_through = changed.outcome().is_ok();
                    assert!(!let_through || same, "{} {name} byte {at} bit {bit}", vector.scheme);
                }
            }
        }
    }
}

#[test]
fn a_header_that_is_absent_or_comes_twice_is_refused() {
    for vector in vectors() {
        for at in 0..vector.headers.len() {
            let (mut absent, mut twice) = (vector.clone(), vector.clone());
            absent.headers.remove(at);
            assert_eq!(absent.outcome(), Err(AuthenticationError::Missing), "{}", vector.scheme);
            let header = twice.headers[at].clone();
            twice.headers.push(header);
            assert_eq!(twice.outcome(), Err(AuthenticationError::Repeated), "{}", vector.scheme);
        }
    }
}

#[test]
fn a_signed_time_may_be_five_minutes_off_in_both_directions() {
    let timed = vectors().into_iter().filter(|it| it.now != 0);
    for vector in
        timed.filter(|it| !["native", "line", "shopify", "genesys", "github"].contains(&it.scheme))
    {
        for off in [-300, 300] {
            assert!(vector.outcome_at(vector.now + off).is_ok(), "{}", vector.scheme);
        }
        for off in [-301, 301] {
            let stale = AuthenticationError::Stale { seconds: off };
            assert_eq!(vector.outcome_at(vector.now + off), Err(stale), "{}", vector.scheme);
        }
        let raw = RawDelivery::new(&vector, vector.body.clone());
        let verifier = vector.verifier().tolerance(Duration::from_secs(9));
        let now = Timestamp::from_timestamp(vector.now + 10, 0).unwrap();
        let refused = verifier.authenticate(&raw.request(now));
        assert_eq!(refused, Err(AuthenticationError::Stale { seconds: 10 }));
    }
}

#[test]
fn hexadecimal_is_never_taken_for_base64() {
    for vector in vectors() {
        let mut scheme = SigningScheme::named(vector.scheme).unwrap();
        scheme.encoding = match scheme.encoding {
            SignatureEncoding::Hex => SignatureEncoding::Base64,
            SignatureEncoding::Base64 => SignatureEncoding::Hex,
        };
        let verifier = SigningVerifier::new(scheme, &Secret::new(vector.secret).unwrap()).unwrap();
        let raw = RawDelivery::new(&vector, vector.body.clone());
        let now = Timestamp::from_timestamp(vector.now, 0).unwrap();
        let refused = verifier.public_url(vector.url).authenticate(&raw.request(now));
        assert_eq!(refused, Err(AuthenticationError::Malformed), "{}", vector.scheme);
    }
}

#[test]
fn several_signatures_and_two_secrets_are_all_tried() {
    let one = vectors().into_iter().rfind(|it| it.scheme == "standard-webhooks").unwrap();
    let with = |value: String| {
        let mut changed = one.clone();
        changed.headers[2].1 = value.into_bytes();
        changed.outcome()
    };
    let right = String::from_utf8(one.headers[2].1.clone()).unwrap();
    let other = format!("v1,{}", STANDARD.encode([7; 32]));
    assert!(with(format!("{other} {right}")).is_ok() && with(format!("{right} {other}")).is_ok());
    assert!(with(format!("v1a,not-ours {right}")).is_ok(), "another version is passed over");
    assert_eq!(with(other.clone()), Err(AuthenticationError::Mismatch));
    let many = vec![other; MAX_SIGNATURES].join(" ");
    assert_eq!(with(format!("{many} {right}")), Err(AuthenticationError::Malformed));
    let secret = |text: &str| Secret::new(text).unwrap();
    let scheme = SigningScheme::named("standard-webhooks").unwrap();
    let new = format!("whsec_{}", STANDARD.encode("another secret"));
    let verifier = SigningVerifier::new(scheme.clone(), &secret(&new)).unwrap();
    let verifier = verifier.previous_secret(&secret(WHSEC)).unwrap();
    let raw = RawDelivery::new(&one, one.body.clone());
    let outcome = verifier.authenticate(&raw.request(Timestamp::from_timestamp(TIME, 0).unwrap()));
    assert_eq!(outcome, Ok(MatchedSecret::Previous));
    let unusable = |text: &str| SigningVerifier::new(scheme.clone(), &secret(text)).map(drop);
    assert_eq!(unusable("no whsec_ in front"), Err(UnusableKey::Whsec));
    assert_eq!(unusable("whsec_not base64"), Err(UnusableKey::Base64));
}

#[test]
fn an_id_with_a_dot_could_be_another_id_and_time() {
    let mut dotted = vectors().into_iter().rfind(|it| it.scheme == "standard-webhooks").unwrap();
    dotted.headers[0].1 = b"msg_local_1.1700000000".to_vec();
    assert_eq!(dotted.outcome(), Err(AuthenticationError::Malformed));
}

#[test]
fn a_template_names_what_is_signed() {
    // Zendesk's old documentation, which has the body first.
    let content = "{body}{ts}".parse().unwrap();
    let scheme = SigningScheme { content, ..SigningScheme::named("zendesk").unwrap() };
    let secret = Secret::new("HRkRd4BeOAoUkfZr-mhauJT64rvBASlJRoIyPsd3zeA=").unwrap();
    let verifier = SigningVerifier::new(scheme, &secret).unwrap();
    let headers = [
        ("X-Zendesk-Webhook-Signature-Timestamp", "2021-07-25T10:00:00Z"),
        ("X-Zendesk-Webhook-Signature", "tRDSF7URY8BLCDlaBcQ7FHu051Zk+aAB0NKMP53teMw="),
    ];
    let raw = RawDelivery::new(headers, r#"{"say": "hello"}"#);
    let now = Timestamp::from_timestamp(1_627_207_200, 0).unwrap();
    assert_eq!(verifier.authenticate(&raw.request(now)), Ok(MatchedSecret::Current));

    let read = |template: &str| template.parse::<SignedContent>().map(|content| content.0);
    assert_eq!(read("{body}"), Ok(vec![Part::Body]));
    let mixed = vec![Part::Method, Part::Text(" ".to_owned()), Part::Url, Part::Id, Part::Body];
    assert_eq!(read("{method} {url}{id}{body}"), Ok(mixed));
    for wrong in ["{body", "body}{body}", "{Body}", "{body}{}", "{{body}}"] {
        assert_eq!(read(wrong), Err(InvalidContent::Placeholder), "{wrong}");
    }
    for wrong in ["", "{ts}", "body"] {
        assert_eq!(read(wrong), Err(InvalidContent::NoBody), "{wrong}");
    }
}

#[test]
fn a_scheme_that_lacks_something_is_told_before_the_first_delivery() {
    let check = |scheme: SigningScheme| {
        SigningVerifier::new(scheme, &Secret::new("a secret").unwrap()).unwrap().check()
    };
    let named = |name| SigningScheme::named(name).unwrap();
    assert_eq!(check(named("hubspot-v3")), Err(IncompleteScheme::Url));
    assert_eq!(
        check(SigningScheme { timestamp_header: None, ..named("slack") }),
        Err(IncompleteScheme::Time)
    );
    let content: SignedContent = "{id}{body}".parse().unwrap();
    assert_eq!(check(SigningScheme { content, ..named("line") }), Err(IncompleteScheme::Id));
    assert_eq!(check(named("stripe")), Ok(()));
    assert_eq!(SigningScheme::named("unknown"), None);
}

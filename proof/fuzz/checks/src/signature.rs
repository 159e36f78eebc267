use cognigy_core::{
    AuthenticationError, MatchedSecret, SignatureScheme, SignatureVerifier, sign, testing::sample,
};

/// The signature header: it is valid if and only if it equals the output of [`sign`] (in
/// hexadecimal, in either case) and occurs exactly once.
///
/// The input's first byte chooses the scheme, how many headers there are and where their value
/// comes from: the input itself, or the valid value with one byte changed.
pub fn signature(input: &[u8]) {
    let [choice, place, input @ ..] = input else { return };
    let (scheme, hex) = match choice & 3 {
        0 => (SignatureScheme::Base64, false),
        1 => (SignatureScheme::Hex, true),
        2 => (SignatureScheme::Sha256Base64, false),
        _ => (SignatureScheme::Sha256Hex, true),
    };
    let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (value, body) = input.split_at(at);
    let right = sign(&sample::secret(), scheme, body);
    let value = if choice & 4 == 0 {
        value.to_vec()
    } else {
        let mut near = right.clone().into_bytes();
        let place = usize::from(*place) % near.len();
        match value.first() {
            Some(byte) if choice & 8 == 0 => near[place] = *byte,
            Some(byte) => near.insert(place, *byte),
            None if choice & 8 != 0 => drop(near.remove(place)),
            None => {}
        }
        near
    };
    let verifier = SignatureVerifier::new(&sample::secret()).scheme(scheme);
    let name = SignatureVerifier::DEFAULT_HEADER;
    let is_right = value == right.as_bytes() || (hex && same_hex(&value, &right));

    let one = verifier.check(&[("Host", b"t".as_slice()), (name, value.as_slice())], body);
    assert_eq!(one == Ok(MatchedSecret::Current), is_right, "{one:?}");
    let two = [(name, value.as_slice()), (name, right.as_bytes())];
    assert_eq!(verifier.check(&two, body), Err(AuthenticationError::Repeated));
    let none: [(&str, &[u8]); 0] = [];
    assert_eq!(verifier.check(&none, body), Err(AuthenticationError::Missing));
}

/// The digits may be of either case, the prefix may not.
fn same_hex(value: &[u8], right: &str) -> bool {
    let digits = right.len() - 64;
    value.len() == right.len()
        && value[..digits] == right.as_bytes()[..digits]
        && value[digits..].eq_ignore_ascii_case(&right.as_bytes()[digits..])
}

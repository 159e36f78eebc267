//! JSONTestSuite against the event parser: what must be accepted is, what must be refused is, and
//! the cases that the standard leaves open have a verdict that is written down here.
//!
//! The suite's texts are arrays, numbers and the like, and an event is an object: each text is put
//! into an otherwise valid event, as a further member's value.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use cognigy_core::{CognigyFormat, same_content};

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    text: String,
}

/// Cases that are not UTF-8, by their bytes.
const BYTES: [(&str, &[u8]); 28] = [
    ("i_string_UTF-16LE_with_BOM", b"\xff\xfe[\0\"\0\xe9\0\"\0]\0"),
    ("i_string_UTF-8_invalid_sequence", b"[\"\xe6\x97\xa5\xd1\x88\xfa\"]"),
    ("i_string_UTF8_surrogate_U+D800", b"[\"\xed\xa0\x80\"]"),
    ("i_string_invalid_utf-8", b"[\"\xff\"]"),
    ("i_string_iso_latin_1", b"[\"\xe9\"]"),
    ("i_string_lone_utf8_continuation_byte", b"[\"\x81\"]"),
    ("i_string_not_in_unicode_range", b"[\"\xf4\xbf\xbf\xbf\"]"),
    ("i_string_overlong_sequence_2_bytes", b"[\"\xc0\xaf\"]"),
    ("i_string_overlong_sequence_6_bytes", b"[\"\xfc\x83\xbf\xbf\xbf\xbf\"]"),
    ("i_string_overlong_sequence_6_bytes_null", b"[\"\xfc\x80\x80\x80\x80\x80\"]"),
    ("i_string_truncated-utf-8", b"[\"\xe0\xff\"]"),
    ("i_string_utf16BE_no_BOM", b"\0[\0\"\0\xe9\0\"\0]"),
    ("i_string_utf16LE_no_BOM", b"[\0\"\0\xe9\0\"\0]\0"),
    ("n_array_a_invalid_utf8", b"[a\xe5]"),
    ("n_array_invalid_utf8", b"[\xff]"),
    ("n_number_invalid-utf-8-in-bigger-int", b"[123\xe5]"),
    ("n_number_invalid-utf-8-in-exponent", b"[1e1\xe5]"),
    ("n_number_invalid-utf-8-in-int", b"[0\xe5]\n"),
    ("n_number_real_with_invalid_utf8_after_e", b"[1e\xe5]"),
    ("n_object_lone_continuation_byte_in_key_and_trailing_comma", b"{\"\xb9\":\"0\",}"),
    ("n_string_invalid-utf-8-in-escape", b"[\"\\u\xe5\"]"),
    ("n_string_invalid_utf8_after_escape", b"[\"\\\xe5\"]"),
    ("n_structure_incomplete_UTF8_BOM", b"\xef\xbb{}"),
    ("n_structure_lone-invalid-utf-8", b"\xe5"),
    ("n_structure_single_eacute", b"\xe9"),
    ("t_string_1_invalid_codepoint", b"[\"\xed\xa0\x80\"]"),
    ("t_string_2_invalid_codepoints", b"[\"\xed\xa0\x80\xed\xa0\x80\"]"),
    ("t_string_3_invalid_codepoints", b"[\"\xed\xa0\x80\xed\xa0\x80\xed\xa0\x80\"]"),
];

/// Undecided cases that are accepted. Numbers of any size: they are kept as sent and never become a
/// `double`. Escaped lone surrogates: the text is plain ASCII, and it need not be decoded; where it
/// stands in a field that is read, such as `eventId`, the field is invalid.
const ACCEPTED: &[&str] = &[
    "i_number_double_huge_neg_exp",
    "i_number_huge_exp",
    "i_number_neg_int_huge_exp",
    "i_number_pos_double_huge_exp",
    "i_number_real_neg_overflow",
    "i_number_real_pos_overflow",
    "i_number_real_underflow",
    "i_number_too_big_neg_int",
    "i_number_too_big_pos_int",
    "i_number_very_big_negative_int",
    "i_object_key_lone_2nd_surrogate",
    "i_string_1st_surrogate_but_2nd_missing",
    "i_string_1st_valid_surrogate_2nd_invalid",
    "i_string_incomplete_surrogate_and_escape_valid",
    "i_string_incomplete_surrogate_pair",
    "i_string_incomplete_surrogates_escape_valid",
    "i_string_invalid_lonely_surrogate",
    "i_string_invalid_surrogate",
    "i_string_inverted_surrogates_U+1D11E",
    "i_string_lone_second_surrogate",
];

/// Undecided cases that are refused: text that is not UTF-8 (RFC 8259, section 8.1, demands UTF-8),
/// a byte order mark, and nesting beyond the limit.
const REFUSED: &[&str] = &[
    "i_string_UTF-16LE_with_BOM",
    "i_string_UTF-8_invalid_sequence",
    "i_string_UTF8_surrogate_U+D800",
    "i_string_invalid_utf-8",
    "i_string_iso_latin_1",
    "i_string_lone_utf8_continuation_byte",
    "i_string_not_in_unicode_range",
    "i_string_overlong_sequence_2_bytes",
    "i_string_overlong_sequence_6_bytes",
    "i_string_overlong_sequence_6_bytes_null",
    "i_string_truncated-utf-8",
    "i_string_utf16BE_no_BOM",
    "i_string_utf16LE_no_BOM",
    "i_structure_500_nested_arrays",
    "i_structure_UTF-8_BOM_empty_object",
];

/// Transformations that are refused: not UTF-8.
const REFUSED_TRANSFORMATIONS: &[&str] = &[
    "t_string_1_invalid_codepoint",
    "t_string_2_invalid_codepoints",
    "t_string_3_invalid_codepoints",
];

fn cases() -> Vec<(String, Vec<u8>)> {
    let lines = include_str!("json_suite/cases.jsonl").lines();
    let mut cases: Vec<_> = lines
        .map(|line| serde_json::from_str::<Case>(line).unwrap())
        .map(|case| (case.name, case.text.into_bytes()))
        .collect();
    cases.extend(BYTES.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())));
    let mut built = |name: &str, text: String| cases.push((name.to_owned(), text.into_bytes()));
    built("n_structure_100000_opening_arrays", "[".repeat(100_000));
    built("n_structure_open_array_object", "[{\"\":".repeat(50_000));
    cases
}

fn event_with(text: &[u8]) -> Vec<u8> {
    let before = br#"{"eventId":"e1","timestamp":0,"type":"DIALOG_STARTED","payload":{},"more":"#;
    [before, text, b"}"].concat()
}

fn accepts(text: &[u8]) -> bool {
    CognigyFormat.read_body(&event_with(text)).is_ok()
}

#[test]
fn the_suite_is_whole() {
    let cases = cases();
    let count = |group| cases.iter().filter(|(name, _)| name.starts_with(group)).count();
    assert_eq!([count("y_"), count("n_"), count("i_"), count("t_")], [95, 188, 35, 22]);
}

#[test]
fn what_must_be_accepted_is_and_what_must_be_refused_is() {
    let cases = cases();
    let verdict = |group: &str, accepted: bool| -> Vec<_> {
        let wrong = cases
            .iter()
            .filter(|(name, text)| name.starts_with(group) && accepts(text) != accepted);
        wrong.map(|(name, _)| name.as_str()).collect()
    };
    assert_eq!(verdict("y_", true), [""; 0], "refused, and must be accepted");
    assert_eq!(verdict("n_", false), [""; 0], "accepted, and must be refused");
}

#[test]
fn what_the_standard_leaves_open_has_a_fixed_verdict() {
    let cases = cases();
    let of = |group: &str, accepted: bool| -> Vec<_> {
        let found = cases
            .iter()
            .filter(|(name, text)| name.starts_with(group) && accepts(text) == accepted);
        let mut names: Vec<_> = found.map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    };
    let sorted = |names: &[&'static str]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names
    };
    assert_eq!(of("i_", true), sorted(ACCEPTED));
    assert_eq!(of("i_", false), sorted(REFUSED));
    assert_eq!(of("t_", false), sorted(REFUSED_TRANSFORMATIONS));
}

#[test]
fn as_a_body_of_its_own_no_case_is_an_event_and_none_does_harm() {
    for (name, text) in cases() {
        assert!(CognigyFormat.read_body(&text).is_err(), "{name}");
        assert!(same_content(&text, &text), "{name}");
    }
}

#[test]
fn what_other_parsers_may_transform_is_told_apart() {
    // Some parser rounds, merges or normalises each of these texts into another of them. One
    // exception has the two keys of another text in the other order.
    let cases = cases();
    let others = |name: &str| name.starts_with("t_") && name != "t_object_key_nfd_nfc";
    let distinct: Vec<_> = cases.iter().filter(|(name, _)| others(name)).collect();
    for (index, (name, text)) in distinct.iter().enumerate() {
        for (other_name, other) in &distinct[index + 1..] {
            let same = same_content(&event_with(text), &event_with(other));
            assert!(!same, "{name} and {other_name}");
        }
    }
}

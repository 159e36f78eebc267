//! One escape function for each place and each language that a value is written into.
//!
//! A value is escaped for the innermost language first (a string of OData, say), then for what
//! holds it (a URL, or JSON). Contact keys are hostile input: none of these functions trusts them.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but what RFC 3986, section 2.3, calls unreserved.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the literal text of a query parameter cannot hold as it is. `,` `$` `(` `)` stay readable.
const LITERAL: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'\'')
    .add(b'+')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A value in the path or the query of a URL. A blank becomes `%20`, because not every server reads
/// `+` as a blank.
pub(super) fn url_value(text: &str) -> String {
    utf8_percent_encode(text, VALUE).to_string()
}

/// The text that a template has around the values of a query parameter.
pub(super) fn url_literal(text: &str) -> String {
    utf8_percent_encode(text, LITERAL).to_string()
}

/// The inside of a string literal of OData: a quote is doubled (OData 4.01, part 2, section 5.1.1.6.1).
pub(super) fn odata(text: &str) -> String {
    text.replace('\'', "''")
}

/// The inside of a string literal of SOQL: the characters of its table of escape sequences. `%` and
/// `_` are special to `LIKE` only, which no look-up uses.
pub(super) fn soql(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => escaped.extend(['\\', c]),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\u{8}' => escaped.push_str("\\b"),
            '\u{c}' => escaped.push_str("\\f"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A value in the `criteria` of a search in Zoho CRM: parentheses, commas and backslashes get a
/// backslash.
pub(super) fn criteria(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '(' | ')' | ',' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A field's name as part of a JSON pointer (RFC 6901). A dot leads into an object, as it does in the
/// names of related fields.
pub(super) fn pointer(field: &str) -> String {
    field.replace('~', "~0").replace('/', "~1").replace('.', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_a_url_keeps_only_unreserved_characters() {
        assert_eq!(url_value("aZ09-._~"), "aZ09-._~");
        assert_eq!(
            url_value("%'/../*\\,\n é😀+&=#?;:@"),
            "%25%27%2F..%2F%2A%5C%2C%0A%20%C3%A9%F0%9F%98%80%2B%26%3D%23%3F%3B%3A%40"
        );
    }

    #[test]
    fn literal_text_in_a_query_stays_readable_and_cannot_end_its_parameter() {
        assert_eq!(url_literal("id,name $(x):/*"), "id,name%20$(x):/*");
        assert_eq!(url_literal("a='b'&c+d%#é"), "a%3D%27b%27%26c%2Bd%25%23%C3%A9");
    }

    #[test]
    fn odata_doubles_quotes_and_nothing_else() {
        assert_eq!(odata("O'Brien' or 1 eq 1"), "O''Brien'' or 1 eq 1");
        assert_eq!(odata("\\ % / ''"), "\\ % / ''''");
    }

    #[test]
    fn soql_escapes_quotes_backslashes_and_line_breaks() {
        assert_eq!(soql("x' OR Name != '"), "x\\' OR Name != \\'");
        assert_eq!(soql("\\'"), "\\\\\\'");
        assert_eq!(soql("\"\n\r\t\u{8}\u{c}%_é"), "\\\"\\n\\r\\t\\b\\f%_é");
    }

    #[test]
    fn criteria_escapes_what_ends_a_criterion() {
        assert_eq!(criteria("a)or(b,c\\"), "a\\)or\\(b\\,c\\\\");
        assert_eq!(criteria("it's 100%"), "it's 100%");
    }

    #[test]
    fn a_field_s_name_leads_through_a_pointer() {
        assert_eq!(pointer("Account.Ext__c"), "Account/Ext__c");
        assert_eq!(pointer("a/b~c"), "a~1b~0c");
    }
}

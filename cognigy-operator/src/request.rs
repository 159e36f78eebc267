//! A request, as any web framework has it, and what its path and its query say.

use std::collections::BTreeMap;

use cognigy_core::{Headers, PageRequest};
use percent_encoding::percent_decode_str;

use crate::problem::Problem;

/// How many entries a page has by default, and at most.
const PAGE: usize = 50;
pub(crate) const MAX_PAGE: usize = 500;

/// The parameters of a query, each at most once.
pub type Parameters = BTreeMap<String, String>;

/// The head of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    pub(crate) method: &'r str,
    pub(crate) path: &'r str,
    pub(crate) query: &'r str,
    pub(crate) announced: Option<usize>,
    pub(crate) is_encoded: bool,
    pub(crate) is_foreign: bool,
}

impl<'r> Request<'r> {
    /// A request with this method, such as `GET`, and this path as it was sent, percent-encoded: from the
    /// point on at which the API is nested, such as `/admin/events`.
    #[must_use]
    pub fn new(method: &'r str, path: &'r str) -> Self {
        Self { method, path, query: "", announced: None, is_encoded: false, is_foreign: false }
    }

    /// The query as it was sent, without the question mark.
    #[must_use]
    pub fn query(self, query: &'r str) -> Self {
        Self { query, ..self }
    }

    /// The headers, such as a reference to the header map of a web framework. A body that is too long or in a
    /// content coding is refused unread, and a change that a page of another site asks for is refused.
    #[must_use]
    pub fn headers(self, headers: impl Headers) -> Self {
        let (mut announced, mut is_encoded, mut is_foreign) = (None, false, false);
        headers.visit("content-length", &mut |value| {
            announced = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        });
        headers.visit("content-encoding", &mut |coding| {
            is_encoded |= !coding.eq_ignore_ascii_case(b"identity");
        });
        // Browsers say whose page sends a request (Fetch Metadata); other clients say nothing. `none` is a
        // user who entered the address.
        headers.visit("sec-fetch-site", &mut |site| {
            is_foreign |= !matches!(site, b"same-origin" | b"none");
        });
        Self { announced, is_encoded, is_foreign, ..self }
    }

    /// Refuses a path or a query that is not UTF-8, and a body in a content coding.
    ///
    /// # Errors
    ///
    /// A 400 or a 415.
    pub fn check(&self) -> Result<(), Problem> {
        if !is_text(self.path) || !is_text(self.query) {
            let detail = "The path and the query have to be UTF-8, percent-encoded";
            return Err(Problem::bad_request(detail));
        }
        if self.is_encoded {
            let detail = "A body has to come without a content coding";
            return Err(Problem::new(415, "Unsupported Media Type", detail));
        }
        Ok(())
    }

    /// The parameters of the query, once [`check`](Self::check) has nothing against the request.
    ///
    /// # Errors
    ///
    /// Those of `check`, and a 400 for a parameter that is not among `known` or appears more than once.
    pub fn parameters(&self, known: &[&str]) -> Result<Parameters, Problem> {
        self.check()?;
        let parameters = parameters(self.query)?;
        no_other(&parameters, known)?;
        Ok(parameters)
    }
}

/// Whether a part of a URL is UTF-8, percent-encoded.
fn is_text(part: &str) -> bool {
    percent_decode_str(part).decode_utf8().is_ok()
}

/// A part of a URL, decoded.
pub(crate) fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// The parameters of a query, each at most once.
///
/// # Errors
///
/// A 400: one appears more than once.
pub fn parameters(query: &str) -> Result<Parameters, Problem> {
    let mut parameters = Parameters::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = |part: &str| decoded(&part.replace('+', " "));
        let name = text(name);
        if parameters.insert(name.clone(), text(value)).is_some() {
            return Err(Problem::bad_request(&format!("{name:?} appears more than once")));
        }
    }
    Ok(parameters)
}

/// Refuses a parameter that is not among `known`.
///
/// # Errors
///
/// A 400 that names it.
pub(crate) fn no_other(parameters: &Parameters, known: &[&str]) -> Result<(), Problem> {
    match parameters.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Problem::bad_request(&format!("{name:?} is not a parameter here"))),
        None => Ok(()),
    }
}

/// Takes `limit` and `cursor` out of the parameters.
pub(crate) fn page(parameters: &mut Parameters) -> Result<PageRequest, Problem> {
    let limit = match parameters.remove("limit") {
        None => PAGE,
        Some(text) => number(&text)
            .filter(|limit| (1..=MAX_PAGE).contains(limit))
            .ok_or_else(|| Problem::bad_request("limit: expected a number from 1 to 500"))?,
    };
    let after = match parameters.remove("cursor").filter(|cursor| !cursor.is_empty()) {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| Problem::bad_request("cursor: is not a next_cursor of this server"))?,
        ),
    };
    Ok(PageRequest { limit, after })
}

/// A number of a path or a query: digits alone, and the one way to write it.
#[must_use]
pub(crate) fn number<N: std::str::FromStr + ToString>(text: &str) -> Option<N> {
    text.parse().ok().filter(|number: &N| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        assert_eq!((number("0"), number("7"), number("500")), (Some(0_u64), Some(7), Some(500)));
        for text in ["", "+7", "07", "7.0", " 7", "-0", "7e0", "99999999999999999999"] {
            assert_eq!(number::<u64>(text), None, "{text}");
        }
    }

    #[test]
    fn a_query_is_read_as_a_form_is() {
        let read = |query| parameters(query).map_err(|problem| problem.status());
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(read(""), Ok(pairs(&[])));
        let all = "q=a+b%2Bc&&user=%C3%A4&empty=&bare&sum=1=2";
        let expected = [("bare", ""), ("empty", ""), ("q", "a b+c"), ("sum", "1=2"), ("user", "ä")];
        assert_eq!(read(all), Ok(pairs(&expected)));
        assert_eq!(read("a=1&%61=2"), Err(400));
    }
}

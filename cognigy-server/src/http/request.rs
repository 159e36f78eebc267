//! What holds for every request to the operator API, once its operator is known.

use std::{convert::Infallible, time::Duration};

use actix_web::{FromRequest, HttpRequest, dev, http::header, web};
use futures_util::future::LocalBoxFuture;
use percent_encoding::percent_decode_str;

use super::{ProblemResponse, bulk, openapi, operator};

/// A body has to be complete within this time, as that of a delivery.
const DEADLINE: Duration = Duration::from_secs(10);

/// The body of a request, or why there is none. Its length is bounded by the route's `PayloadConfig`.
pub(crate) struct WholeBody(
    Result<Result<web::Bytes, actix_web::Error>, tokio::time::error::Elapsed>,
);

impl WholeBody {
    /// The body, for a route that takes so many bytes.
    pub(crate) fn within(self, limit: usize) -> Result<web::Bytes, ProblemResponse> {
        let Ok(read) = self.0 else {
            let detail = "The body was not complete within 10 s";
            return Err(ProblemResponse::new(408, "Request Timeout", detail));
        };
        read.map_err(|error| match error.as_response_error().status_code().as_u16() {
            413 => {
                let may_be_shorter = limit == bulk::MAX_SELECTION;
                let hint = if may_be_shorter { "; a selection may be a filter" } else { "" };
                let detail = format!("The body is longer than {limit} bytes{hint}");
                ProblemResponse::new(413, "Content Too Large", &detail)
            }
            _ => ProblemResponse::bad_request("The body cannot be read"),
        })
    }
}

impl FromRequest for WholeBody {
    type Error = Infallible;
    type Future = LocalBoxFuture<'static, Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let body = web::Bytes::from_request(request, payload);
        Box::pin(async move { Ok(Self(tokio::time::timeout(DEADLINE, body).await)) })
    }
}

/// Refuses what the operation does not take: parameters that its description does not name, a path or a
/// query that is not UTF-8, and a body in a content coding.
pub(super) fn check(request: &HttpRequest) -> Result<(), ProblemResponse> {
    let bad = ProblemResponse::bad_request;
    let is_text = |text: &str| percent_decode_str(text).decode_utf8().is_ok();
    if !is_text(request.uri().path()) || !is_text(request.query_string()) {
        return Err(bad("The path and the query have to be UTF-8, percent-encoded"));
    }
    let pattern = request.match_pattern().unwrap_or_default();
    // Pages are not described, and read their own parameters.
    if let Some(known) = openapi::parameters_of(request.method().as_str(), &pattern) {
        operator::no_other(&operator::parameters(request)?, known)?;
    }
    let coding = request.headers().get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let detail = "A body has to come without a content coding";
        return Err(ProblemResponse::new(415, "Unsupported Media Type", detail));
    }
    Ok(())
}

/// A number of a path or a query: digits alone, and the one way to write it.
pub(super) fn number<N: std::str::FromStr + ToString>(text: &str) -> Option<N> {
    text.parse().ok().filter(|number: &N| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_number_has_one_spelling() {
        assert_eq!((number("0"), number("7"), number("500")), (Some(0_u64), Some(7), Some(500)));
        for text in ["", "+7", "07", "7.0", " 7", "-0", "7e0", "99999999999999999999"] {
            assert_eq!(number::<u64>(text), None, "{text}");
        }
    }
}

//! Answers that concern no delivery: problem documents (RFC 9457) for paths and methods.

use cognigy_core::Reply;

/// 404: there is nothing at the path.
#[must_use]
pub fn not_found() -> Reply {
    Reply::problem(404, "Not Found", "There is nothing at this path")
}

/// 405: the path takes other methods, which `allowed` lists (RFC 9110, section 15.5.6).
///
/// ```
/// let reply = cognigy_service::method_not_allowed("POST");
/// assert_eq!(reply.status(), 405);
/// assert!(reply.headers().any(|header| header == ("Allow", "POST".to_owned())));
/// ```
#[must_use]
pub fn method_not_allowed(allowed: &str) -> Reply {
    let detail = "This path does not take this method";
    Reply::problem(405, "Method Not Allowed", detail).with_header("Allow", allowed)
}

//! What SQS's refusals mean for a caller.
//!
//! The SDK retries within a call, but neither entries of a batch nor `KMS.ThrottlingException`, and
//! it does not say what is worth another try minutes later; so every answer is sorted here.

use cognigy_core::report;
use std::{error::Error, fmt::Write, panic::AssertUnwindSafe};

use aws_sdk_sqs::{
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId,
};
use futures_util::FutureExt;

use crate::error::{Class, SqsError};

/// Longer texts from SQS are cut, because they end up in logs and in the attempts table.
const MAX_REMOTE_CHARS: usize = 300;

/// SQS is busy or failing.
const BUSY: [&str; 10] = [
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "OverLimit",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
];

/// The credentials are expired, rotated or not there yet, or the request was signed by a wrong
/// clock: the next try may have better ones.
const CREDENTIALS: [&str; 10] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// The message is too long or holds characters that the queue refuses. `InvalidParameterValue` is
/// what SQS calls a single message that is too long.
const CONTENT: [&str; 4] =
    ["BatchRequestTooLong", "InvalidMessageContents", "InvalidParameterValue", "MessageTooLong"];

/// Sorts the answer to a whole call.
fn classify(code: &str, status: Option<u16>) -> Class {
    let name = short(code);
    if name.contains("Throttl") || name == "TooManyRequestsException" {
        return Class::Transient;
    }
    if BUSY.contains(&name) || CREDENTIALS.contains(&name) {
        return Class::Transient;
    }
    if CONTENT.contains(&name) {
        return Class::Content;
    }
    match status {
        Some(413) => Class::Content,
        Some(408 | 429) => Class::Transient,
        // All other faults of the caller: no such queue, no permission, a disabled KMS key.
        Some(300..500) => Class::Permanent,
        // Server faults; and a success that could not be read, whose effect is unknown.
        _ => Class::Transient,
    }
}

/// Sorts one entry's refusal in an answer that is a success as a whole.
pub(crate) fn entry_error(code: &str, sender_fault: bool) -> SqsError {
    let class = classify(code, Some(if sender_fault { 400 } else { 500 }));
    SqsError::new(class, format!("the queue refused this entry: {}", remote(code)))
}

/// The code without its namespace: `AWS.SimpleQueueService.` of the older protocol, `com.…#` of JSON.
fn short(code: &str) -> &str {
    let code = code.rsplit('#').next().unwrap_or(code);
    code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code)
}

/// Waits for a call's answer. The SDK panics, among other cases, where its credentials hold
/// characters that no header can hold. A panic fails the call like any other error. Its message may
/// quote a secret and is dropped.
pub(crate) async fn answer<T, E>(
    call: &'static str,
    queue: &str,
    sending: impl Future<Output = Result<T, SdkError<E>>>,
) -> Result<T, SqsError>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match AssertUnwindSafe(sending).catch_unwind().await {
        Ok(answer) => answer.map_err(|error| call_error(call, queue, &error)),
        Err(_panic) => {
            let text = format!(
                "{call} on {queue}: the AWS SDK failed before it sent anything; its credentials may \
                 hold characters that no header can"
            );
            Err(SqsError::new(Class::Permanent, text))
        }
    }
}

/// Turns a failed call into the crate's own error.
fn call_error<E>(call: &str, queue: &str, error: &SdkError<E>) -> SqsError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let mut text = format!("{call} on {queue}: ");
    let class = match error {
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or("no error code");
            text.push_str(&remote(code));
            if let Some(status) = status {
                let _ = write!(text, ", HTTP {status}");
            }
            if let Some(id) = error.request_id() {
                let _ = write!(text, ", request {}", remote(id));
            }
            if let Some(message) = service.err().message().filter(|_| names_no_content(code)) {
                let _ = write!(text, ": {}", remote(message));
            }
            classify(code, status)
        }
        SdkError::ResponseError(_) => {
            let _ = write!(text, "an answer that cannot be read, HTTP {}", status.unwrap_or(0));
            classify("", status)
        }
        // Not sent, or sent and unanswered: a name that does not resolve, a refused connection,
        // credentials that cannot be loaded, a deadline. None of these says anything about the
        // message.
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) => {
            text.push_str(&one_line(error));
            Class::Transient
        }
        // A setting with which no request can be made.
        _ => {
            text.push_str(&one_line(error));
            Class::Permanent
        }
    };
    SqsError::new(class, text)
}

/// Whether the service's message is about permissions, keys or the queue. Other messages may quote
/// the sent body or the signed headers.
fn names_no_content(code: &str) -> bool {
    let name = short(code);
    let known = ["AccessDenied", "KMS", "Kms", "QueueDoesNotExist", "NonExistentQueue"];
    known.iter().any(|start| name.starts_with(start))
}

/// An error and its causes in one line.
fn one_line(error: &(dyn Error + 'static)) -> String {
    remote(&report(error))
}

/// Makes foreign text fit for one line of a log.
fn remote(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_REMOTE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_by_what_the_caller_does() {
        for (code, status, expected) in [
            ("ThrottlingException", 400, Class::Transient),
            ("RequestThrottled", 403, Class::Transient),
            ("AWS.SimpleQueueService.RequestThrottled", 403, Class::Transient),
            ("KMS.ThrottlingException", 400, Class::Transient),
            ("KmsThrottled", 400, Class::Transient),
            ("com.amazonaws.sqs#KmsThrottled", 400, Class::Transient),
            ("ServiceUnavailable", 503, Class::Transient),
            ("InternalError", 500, Class::Transient),
            ("OverLimit", 403, Class::Transient),
            ("SomethingNew", 502, Class::Transient),
            ("SomethingNew", 429, Class::Transient),
            ("ExpiredToken", 403, Class::Transient),
            ("InvalidClientTokenId", 403, Class::Transient),
            ("RequestExpired", 400, Class::Transient),
            ("AWS.SimpleQueueService.NonExistentQueue", 400, Class::Permanent),
            ("com.amazonaws.sqs#QueueDoesNotExist", 400, Class::Permanent),
            ("InvalidAddress", 404, Class::Permanent),
            ("InvalidSecurity", 403, Class::Permanent),
            ("AccessDenied", 403, Class::Permanent),
            ("AWS.SimpleQueueService.UnsupportedOperation", 400, Class::Permanent),
            ("KMS.AccessDeniedException", 400, Class::Permanent),
            ("KMS.DisabledException", 400, Class::Permanent),
            ("KmsInvalidState", 400, Class::Permanent),
            ("AWS.SimpleQueueService.TooManyEntriesInBatchRequest", 400, Class::Permanent),
            ("SomethingNew", 400, Class::Permanent),
            ("AWS.SimpleQueueService.BatchRequestTooLong", 400, Class::Content),
            ("InvalidParameterValue", 400, Class::Content),
            ("InvalidMessageContents", 400, Class::Content),
            ("", 413, Class::Content),
            ("", 200, Class::Transient),
        ] {
            assert_eq!(classify(code, Some(status)), expected, "{code} {status}");
        }
    }

    #[test]
    fn an_entry_s_fault_decides_where_the_code_does_not() {
        assert_eq!(entry_error("Odd", true).class(), Class::Permanent);
        assert_eq!(entry_error("Odd", false).class(), Class::Transient);
        assert_eq!(entry_error("KMS.ThrottlingException", true).class(), Class::Transient);
        assert_eq!(entry_error("InvalidMessageContents", true).class(), Class::Content);
    }

    #[test]
    fn foreign_text_is_one_short_line() {
        assert_eq!(remote("a\r\nb\u{1b}[31m"), "ab[31m");
        assert_eq!(remote(&"x".repeat(1000)).len(), MAX_REMOTE_CHARS);
    }
}

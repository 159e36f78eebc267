//! The SDK's own settings, checked before the SDK reads them: the SDK panics on some malformed
//! settings, and reports others only at the first call.

use crate::queue_url::http_url;

/// What a variable has to hold.
enum Form {
    /// A secret that goes into a header or is used to make one.
    Credential,
    /// Part of a host name.
    Region,
    Endpoint,
    Attempts,
    RetryMode,
    /// One line.
    Other,
}

impl Form {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "AWS_ACCESS_KEY_ID"
            | "AWS_SECRET_ACCESS_KEY"
            | "AWS_SESSION_TOKEN"
            | "AWS_CONTAINER_AUTHORIZATION_TOKEN" => Self::Credential,
            "AWS_REGION" | "AWS_DEFAULT_REGION" => Self::Region,
            "AWS_MAX_ATTEMPTS" => Self::Attempts,
            "AWS_RETRY_MODE" => Self::RetryMode,
            _ if name.starts_with("AWS_ENDPOINT_URL") => Self::Endpoint,
            _ if name.starts_with("AWS_") => Self::Other,
            _ => return None,
        })
    }
}

/// Whether `name` is a variable of the AWS SDK's that holds a credential.
///
/// ```
/// use cognigy_sink_sqs::is_aws_secret;
///
/// assert!(is_aws_secret("AWS_SECRET_ACCESS_KEY"));
/// assert!(!is_aws_secret("AWS_REGION"));
/// ```
#[must_use]
pub fn is_aws_secret(name: &str) -> bool {
    matches!(Form::of(name), Some(Form::Credential))
}

/// Checks that `value` is valid for the environment variable `name`, if it is one of the AWS SDK's
/// (`AWS_…`). An empty value counts as unset, as it does to the SDK.
///
/// # Errors
///
/// What is wrong, as the rest of a sentence that begins with the variable's name. It repeats no part
/// of `value`.
///
/// ```
/// use cognigy_sink_sqs::check_variable;
///
/// assert!(check_variable("AWS_REGION", "eu-west-1").is_ok());
/// assert_eq!(check_variable("AWS_REGION", "eu-west-1 "), Err("has white space at an end"));
/// assert!(check_variable("PATH", " anything ").is_ok()); // none of the AWS SDK's
/// ```
pub fn check_variable(name: &str, value: &str) -> Result<(), &'static str> {
    let Some(form) = Form::of(name).filter(|_| !value.is_empty()) else { return Ok(()) };
    if value.trim() != value {
        return Err("has white space at an end");
    }
    if value.chars().any(char::is_control) {
        return Err("holds control characters");
    }
    let (is_well_formed, otherwise) = match form {
        Form::Credential => (
            value.bytes().all(|byte| matches!(byte, b' '..=b'~')),
            "holds something other than visible ASCII characters",
        ),
        Form::Region => (
            value.len() <= 63 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
            "is not the name of a region such as eu-west-1",
        ),
        Form::Endpoint => return http_url(value).map(drop),
        Form::Attempts => (
            value.parse().is_ok_and(|attempts: u32| attempts > 0),
            "is not a whole number above zero",
        ),
        Form::RetryMode => (
            ["standard", "adaptive"].iter().any(|mode| value.eq_ignore_ascii_case(mode)),
            "is neither standard nor adaptive",
        ),
        Form::Other => return Ok(()),
    };
    if is_well_formed { Ok(()) } else { Err(otherwise) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_sdk_cannot_use_is_refused_without_being_repeated() {
        for (name, good, bad) in [
            (
                "AWS_ACCESS_KEY_ID",
                "AKIDEXAMPLE",
                &["k\n", " k", "k\u{1}k", "ké", "k\r\nHost: x"][..],
            ),
            ("AWS_SECRET_ACCESS_KEY", "a/b+c=", &["s\n", "s\t", "s\u{a0}"]),
            ("AWS_SESSION_TOKEN", "t==", &["t ", "t\0"]),
            ("AWS_REGION", "eu-west-1", &["eu west", "eu-west-1\n", "eu/west", "évian"]),
            ("AWS_DEFAULT_REGION", "us-gov-east-1", &["a.b", "eu-west-1 "]),
            (
                "AWS_ENDPOINT_URL",
                "http://127.0.0.1:5000",
                &["localhost:5000", "http://u:marked@h", "http://h?x=1", "htps://h", "http://h\n"],
            ),
            ("AWS_ENDPOINT_URL_SQS", "https://sqs.example", &["sqs.example"]),
            ("AWS_MAX_ATTEMPTS", "3", &["0", "-1", "many"]),
            ("AWS_RETRY_MODE", "standard", &["never"]),
            ("AWS_PROFILE", "my profile", &["default\n"]),
        ] {
            assert_eq!(check_variable(name, good), Ok(()), "{name}");
            assert_eq!(check_variable(name, ""), Ok(()), "{name}");
            for value in bad {
                assert!(check_variable(name, value).is_err(), "{name} {value:?}");
            }
        }
        assert_eq!(check_variable("HOME", "k\n"), Ok(()));
        assert!(is_aws_secret("AWS_SESSION_TOKEN") && !is_aws_secret("AWS_REGION"));
    }
}

//! What a queue's URL says about the queue.

use std::{fmt, str::FromStr};

use url::Url;

use crate::ConnectError;

/// The longest queue name, `.fifo` included (Amazon SQS Developer Guide, quotas related to queues).
const MAX_NAME_CHARS: usize = 80;

/// The suffix that every FIFO queue's name ends in, and no standard queue's name can.
const FIFO_SUFFIX: &str = ".fifo";

/// A well-formed queue URL: `scheme://host/account/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueUrl {
    text: String,
    fifo: bool,
    region: Option<String>,
    own_endpoint: Option<String>,
}

impl QueueUrl {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_fifo(&self) -> bool {
        self.fifo
    }

    /// The region that the host names: the queue can be reached only in that region.
    pub(crate) fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// The URL's origin, where it is not one of AWS's public hosts: an emulator, a proxy or a VPC
    /// endpoint. Dead letters hold personal data, so one meant for a host nearby must not go to AWS
    /// because an endpoint was not configured as well.
    pub(crate) fn own_endpoint(&self) -> Option<&str> {
        self.own_endpoint.as_deref()
    }
}

impl fmt::Display for QueueUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for QueueUrl {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        let url = http_url(text).map_err(|reason| ConnectError::QueueUrl { reason })?;
        let segments: Vec<&str> = url.path_segments().into_iter().flatten().collect();
        let (Some(name), true) = (segments.last(), segments.len() >= 2) else {
            return Err(ConnectError::QueueUrl { reason: "has no account and queue name" });
        };
        let fifo = name.ends_with(FIFO_SUFFIX);
        let stem = name.strip_suffix(FIFO_SUFFIX).unwrap_or(name);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if stem.is_empty() || name.len() > MAX_NAME_CHARS || !stem.bytes().all(allowed) {
            return Err(ConnectError::QueueUrl { reason: "does not end in a queue's name" });
        }
        let host = url.host_str().unwrap_or_default();
        Ok(Self {
            text: text.to_owned(),
            fifo,
            region: region_of(host),
            own_endpoint: (!is_public_aws(host)).then(|| url.origin().ascii_serialization()),
        })
    }
}

/// Reads a queue's URL as [`SqsSink::connect`](crate::SqsSink::connect) does, and connects to nothing:
/// for programs that check their settings before anything else.
///
/// # Errors
///
/// The URL is not that of a queue.
///
/// ```
/// use cognigy_sink_sqs::check_queue_url;
///
/// assert!(check_queue_url("https://sqs.eu-west-1.amazonaws.com/123456789012/dead.fifo").is_ok());
/// assert!(check_queue_url("https://example.com").is_err());
/// ```
pub fn check_queue_url(text: &str) -> Result<(), ConnectError> {
    text.parse().map(|_: QueueUrl| ())
}

/// Reads an HTTP URL without user, query and fragment; the error completes a sentence about the
/// URL.
pub(crate) fn http_url(text: &str) -> Result<Url, &'static str> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds spaces or characters that no URL has");
    }
    // The parser alone would read `http:host` and `http:///host` as `http://host`.
    let beginning = text.split_once("://").filter(|(_, rest)| !rest.starts_with(['/', '\\']));
    if !beginning.is_some_and(|(scheme, _)| matches!(scheme, "http" | "https")) {
        return Err("does not begin with http:// or https:// and a host");
    }
    let url = Url::parse(text).map_err(|_| "is no URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or a fragment");
    }
    Ok(url)
}

/// The region in `sqs.eu-west-1.amazonaws.com` and similar hosts, and in the older
/// `eu-west-1.queue.amazonaws.com`.
fn region_of(host: &str) -> Option<String> {
    let labels: Vec<&str> = host.split('.').collect();
    let after = labels.iter().position(|label| matches!(*label, "sqs" | "sqs-fips"));
    let before = labels.iter().position(|label| *label == "queue");
    let region = match (after, before) {
        (Some(at), _) => labels.get(at + 1),
        (None, Some(at)) if at > 0 => labels.get(at - 1),
        _ => None,
    }?;
    // `eu-west-1`, `us-gov-east-1`: no other label ends in a number after a hyphen.
    let (name, number) = region.rsplit_once('-')?;
    (name.contains('-') && number.parse::<u8>().is_ok()).then(|| (*region).to_owned())
}

/// Hosts for which the SDK chooses a better endpoint than the URL, because it follows the FIPS and
/// dual-stack settings.
fn is_public_aws(host: &str) -> bool {
    let aws = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"];
    aws.iter().any(|suffix| host.ends_with(suffix)) && !host.contains(".vpce.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_url_tells_kind_region_and_endpoint() {
        for (text, fifo, region, endpoint) in [
            ("https://sqs.eu-west-1.amazonaws.com/123456789012/dlq", false, "eu-west-1", ""),
            ("https://sqs.us-gov-east-1.amazonaws.com/1/dlq.fifo", true, "us-gov-east-1", ""),
            ("https://sqs-fips.us-east-1.amazonaws.com/1/dlq.fifo", true, "us-east-1", ""),
            ("https://sqs.cn-north-1.amazonaws.com.cn/1/dlq", false, "cn-north-1", ""),
            ("https://sqs.eu-west-1.api.aws/1/dlq", false, "eu-west-1", ""),
            ("https://eu-west-2.queue.amazonaws.com/1/dlq", false, "eu-west-2", ""),
            ("https://queue.amazonaws.com/1/dlq", false, "", ""),
            (
                "https://vpce-1-2.sqs.eu-west-1.vpce.amazonaws.com/1/dlq",
                false,
                "eu-west-1",
                "https://vpce-1-2.sqs.eu-west-1.vpce.amazonaws.com",
            ),
            (
                "http://sqs.us-east-1.localhost.localstack.cloud:4566/000000000000/dlq.fifo",
                true,
                "us-east-1",
                "http://sqs.us-east-1.localhost.localstack.cloud:4566",
            ),
            ("http://127.0.0.1:5000/123456789012/dlq.fifo", true, "", "http://127.0.0.1:5000"),
            ("http://sqs:9324/queue/dlq", false, "", "http://sqs:9324"),
        ] {
            let url: QueueUrl = text.parse().unwrap();
            assert_eq!(url.is_fifo(), fifo, "{text}");
            assert_eq!(url.region().unwrap_or_default(), region, "{text}");
            assert_eq!(url.own_endpoint().unwrap_or_default(), endpoint, "{text}");
        }
    }

    #[test]
    fn what_is_no_queue_url_is_refused_without_being_repeated() {
        for text in [
            "",
            "dead-letters.fifo",
            "arn:aws:sqs:eu-west-1:123456789012:dlq",
            "ftp://sqs.eu-west-1.amazonaws.com/1/dlq",
            "https://sqs.eu-west-1.amazonaws.com",
            "https://sqs.eu-west-1.amazonaws.com/dlq",
            "https://sqs.eu-west-1.amazonaws.com/1/dlq/",
            "https://sqs.eu-west-1.amazonaws.com/1/.fifo",
            "https://sqs.eu-west-1.amazonaws.com/1/dead letters",
            "https://sqs.eu-west-1.amazonaws.com/1/dead%20letters",
            "https://sqs.eu-west-1.amazonaws.com/1/dlq?x=1",
            "https://user:hunter2@localhost/1/dlq",
            "https://sqs.eu-west-1.amazonaws.com/1/dlq\n",
            " https://sqs.eu-west-1.amazonaws.com/1/dlq",
            "https:sqs.eu-west-1.amazonaws.com/1/dlq",
            "https:///sqs.eu-west-1.amazonaws.com/1/dlq",
            &format!("https://localhost/1/{}", "q".repeat(81)),
        ] {
            let error = text.parse::<QueueUrl>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

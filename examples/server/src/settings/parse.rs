//! Texts of settings to values. Errors say what was expected; the caller names the setting.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    str::FromStr,
    time::Duration,
};

use cognigy_core::{AfterDeadLetter, SourceName};
use ipnet::IpNet;

use super::{Database, Hidden, LogFormat};

/// The shortest lease: below it, renewals three times a lease would be most of the work.
const MIN_LEASE: Duration = Duration::from_secs(1);

pub(super) fn source_name(text: &str) -> Result<SourceName, String> {
    let name: SourceName = text.parse().map_err(|error| format!("{error}"))?;
    if name.is_default() {
        return Err("is the plain path's own source, with the plain settings".to_owned());
    }
    Ok(name)
}

/// `shop,support`
pub(super) fn source_names(text: &str) -> Result<Vec<SourceName>, String> {
    let mut names = Vec::new();
    for name in text.split(',') {
        let name = source_name(name.trim())?;
        if names.contains(&name) {
            return Err(format!("{name} is named twice"));
        }
        names.push(name);
    }
    Ok(names)
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| "expected an address such as 127.0.0.1:8000".to_owned())
}

/// An address, or nothing.
pub(super) fn own_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() { Ok(None) } else { address(text).map(Some) }
}

/// `10.0.0.0/8, 192.0.2.1`: an address alone is a network of one.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let network = |text: &str| {
        let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse().ok().or_else(alone).ok_or_else(|| {
            "expected networks such as 10.0.0.0/8 or 2001:db8::/32, comma-separated".to_owned()
        })
    };
    text.split(',').map(|entry| network(entry.trim())).collect()
}

pub(super) fn header_name(text: &str) -> Result<String, String> {
    // RFC 9110, section 5.6.2: a token.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_token) {
        Ok(text.to_owned())
    } else {
        Err("expected the name of an HTTP header".to_owned())
    }
}

pub(super) fn database(text: &str) -> Result<Database, String> {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Ok(Database::Postgres(Hidden::new(text)));
    }
    let path = text.strip_prefix("sqlite:").ok_or("expected sqlite:PATH or postgres://…")?;
    // Both `sqlite:file` and the URL forms `sqlite://file` and `sqlite:///absolute` are in use.
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path == ":memory:" || path.contains('?') {
        return Err("expected sqlite:PATH with the path of a file".to_owned());
    }
    Ok(Database::Sqlite(path.into()))
}

/// Whether the order of each contact's events is kept.
pub(super) fn ordering(text: &str) -> Result<bool, String> {
    match text {
        "none" => Ok(false),
        "per_contact" => Ok(true),
        _ => Err("expected none or per_contact".to_owned()),
    }
}

pub(super) fn after_dead_letter(text: &str) -> Result<AfterDeadLetter, String> {
    match text {
        "continue" => Ok(AfterDeadLetter::Continue),
        "stop" => Ok(AfterDeadLetter::Stop),
        _ => Err("expected continue or stop".to_owned()),
    }
}

pub(super) fn http_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.to_owned()),
        _ => Err("expected an http:// or https:// URL".to_owned()),
    }
}

/// `500ms`, `2s`, `5m`, `1h`, `30d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration such as 500ms, 2s, 5m, 1h or 30d".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    // A hundred years is for ever here, and keeps every sum of times within the calendar.
    const LONGEST: u64 = 100 * 365 * 86_400_000;
    number
        .checked_mul(milliseconds)
        .filter(|total| *total <= LONGEST)
        .map(Duration::from_millis)
        .ok_or_else(|| "is longer than a hundred years".to_owned())
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must not be zero".to_owned()),
        duration => Ok(duration),
    }
}

pub(super) fn lease(text: &str) -> Result<Duration, String> {
    let lease = duration(text)?;
    if lease < MIN_LEASE { Err(format!("must be at least {MIN_LEASE:?}")) } else { Ok(lease) }
}

pub(super) fn number<N>(text: &str, low: N, high: N) -> Result<N, String>
where
    N: FromStr + PartialOrd + Display + Copy,
{
    text.parse()
        .ok()
        .filter(|number| (low..=high).contains(number))
        .ok_or_else(|| format!("expected a whole number from {low} to {high}"))
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|_| "expected a level (error, warn, info, debug, trace) or directives".to_owned())
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected text or json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, milliseconds) in
            [("500ms", 500), ("2s", 2000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for text in ["", "5", "s", "-1s", "1.5s", "1w", "1 s", "99999999999999999999s", "999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(positive_duration("0s").is_err() && lease("999ms").is_err());
    }

    #[test]
    fn networks_are_cidr_or_addresses() {
        let shown = |text| {
            networks(text)
                .map(|it| it.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(shown("10.0.0.0/8").as_deref(), Ok("10.0.0.0/8"));
        let several = shown("192.0.2.1, 2001:db8::/32,::1");
        assert_eq!(several.as_deref(), Ok("192.0.2.1/32 2001:db8::/32 ::1/128"));
        for text in ["", "10.0.0.0/8,", "10.0.0.0/33", "10.0.0", "proxy.example", "*", "10.0.0.0 8"]
        {
            assert!(networks(text).is_err(), "{text}");
        }
    }

    #[test]
    fn databases_are_files_or_servers() {
        for (text, path) in [
            ("sqlite:webhooks.db", "webhooks.db"),
            ("sqlite://webhooks.db", "webhooks.db"),
            ("sqlite:///var/lib/webhooks.db", "/var/lib/webhooks.db"),
            ("sqlite:/var/lib/webhooks.db", "/var/lib/webhooks.db"),
        ] {
            assert_eq!(database(text), Ok(Database::Sqlite(path.into())));
        }
        for text in ["postgres://u:p@h/db", "postgresql:///db?host=/run"] {
            assert_eq!(database(text), Ok(Database::Postgres(Hidden::new(text))));
        }
        for text in ["", "webhooks.db", "sqlite:", "sqlite::memory:", "postgres:db", "mysql://h"] {
            assert!(database(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_urls_and_headers_are_checked() {
        assert_eq!(number("64", 1, 4096), Ok(64));
        for text in ["0", "4097", "-1", "many", "1e3", ""] {
            assert!(number(text, 1, 4096).is_err(), "{text}");
        }
        assert!(http_url("https://crm.example/api").is_ok());
        for text in ["crm.example", "ftp://crm.example", "http://", "http:///x"] {
            assert!(http_url(text).is_err(), "{text}");
        }
        assert!(header_name("X-Hub-Signature-256").is_ok() && header_name("a b").is_err());
    }
}

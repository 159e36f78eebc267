//! Turns the texts of settings into values. An error says what was expected; the caller names the
//! setting.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    str::FromStr,
    time::Duration,
};

use cognigy_core::{AfterDeadLetter, EventType, OnAmbiguous, SourceName};
use cognigy_http::{BaseUrl, ConfigError};
pub(super) use cognigy_operator::filter::duration;
use ipnet::IpNet;

use super::{Database, Hidden, LogFormat};

/// The shortest lease. A lease is renewed three times; below this, renewals would be most of the
/// work.
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

/// An address. None for an empty text.
pub(super) fn own_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() { Ok(None) } else { address(text).map(Some) }
}

/// Reads `10.0.0.0/8, 192.0.2.1`. An address alone is a network of one.
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
        return postgres(text);
    }
    let path = text.strip_prefix("sqlite:").ok_or("expected sqlite:PATH or postgres://…")?;
    // Both `sqlite:file` and the URL forms `sqlite://file` and `sqlite:///absolute` are in use.
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path == ":memory:" || path.contains('?') {
        return Err("expected sqlite:PATH with the path of a file".to_owned());
    }
    Ok(Database::Sqlite(path.into()))
}

#[cfg(feature = "postgres")]
fn postgres(url: &str) -> Result<Database, String> {
    let checked = cognigy_store_postgres::check_url(url);
    // The innermost error says what is wrong and does not quote the URL.
    let checked = checked.map_err(|error| match std::error::Error::source(&error) {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    });
    checked.map(|()| Database::Postgres(Hidden::new(url)))
}

#[cfg(not(feature = "postgres"))]
fn postgres(_: &str) -> Result<Database, String> {
    Err("this build has no PostgreSQL support".to_owned())
}

/// `a,b`: names of event types.
pub(super) fn event_types(text: &str) -> Result<Vec<EventType>, String> {
    let kind = |name: &str| match name.trim() {
        "" => Err("expected names of event types, comma-separated".to_owned()),
        name => Ok(EventType::from_name(name)),
    };
    text.split(',').map(kind).collect()
}

/// `a,b`
pub(super) fn names(text: &str) -> Result<Vec<String>, String> {
    let name = |name: &str| match name.trim() {
        "" => Err("expected names, comma-separated".to_owned()),
        name => Ok(name.to_owned()),
    };
    text.split(',').map(name).collect()
}

/// `a=1,b=2`
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("expected name=value, comma-separated".to_owned()),
    };
    text.split(',').map(pair).collect()
}

/// A duration, or none for `off`.
pub(super) fn duration_or_off(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "off" => Ok(None),
        _ => positive_duration(text).map(Some).map_err(|why| format!("{why} (or off)")),
    }
}

pub(super) fn on_ambiguous(text: &str) -> Result<OnAmbiguous, String> {
    match text {
        "dead-letter" => Ok(OnAmbiguous::DeadLetter),
        "none" => Ok(OnAmbiguous::NoContact),
        "first" => Ok(OnAmbiguous::First),
        _ => Err("expected dead-letter, none or first".to_owned()),
    }
}

/// A value that knows how it is written.
pub(super) fn with_from_str<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
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
    match BaseUrl::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(ConfigError::BaseUrl(why)) => Err(why),
        Err(other) => Err(other.to_string()),
    }
}

/// A URL that a sender posts to, with a path and perhaps a query.
pub(super) fn whole_url(text: &str) -> Result<String, String> {
    cognigy_http::absolute_url(text).map(|_| text.to_owned())
}

#[cfg(feature = "sqs")]
pub(super) fn queue_url(text: &str) -> Result<String, String> {
    cognigy_sink_sqs::check_queue_url(text)
        .map(|()| text.to_owned())
        .map_err(|error| error.to_string())
}

#[cfg(not(feature = "sqs"))]
pub(super) fn queue_url(_: &str) -> Result<String, String> {
    Err("this build has no SQS support".to_owned())
}

/// A token that this program sends in a header.
pub(super) fn bearer_token(text: &str) -> Result<Hidden, String> {
    match cognigy_http::bearer(text) {
        Some(_) => Ok(Hidden::new(text)),
        None => Err("may hold visible ASCII characters only: no space, no control character, no letter with an accent".to_owned()),
    }
}

/// A token that this program receives in a header.
pub(super) fn admin_token(text: &str) -> Result<Hidden, String> {
    if text.chars().any(char::is_control) {
        return Err("holds control characters, which no request header can contain".to_owned());
    }
    Ok(Hidden::new(text))
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must not be zero".to_owned()),
        duration => Ok(duration),
    }
}

/// A duration, or none for `never`.
pub(super) fn duration_or_never(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "never" => Ok(None),
        _ => positive_duration(text).map(Some).map_err(|why| format!("{why} (or never)")),
    }
}

/// `1048576`, `512KiB`, `64MiB`, `2GiB`: a number of bytes of at least 1.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let expected =
        || "expected a number of bytes such as 1048576, 512KiB, 64MiB or 2GiB".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(expected)
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

/// A level, or tracing directives. A single word that is no level is refused: it would be the name
/// of a target, and all other lines would be missing from the log.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    let is_level =
        |word: &str| word.eq_ignore_ascii_case("off") || word.parse::<tracing::Level>().is_ok();
    let mut words = text.split(',').map(str::trim);
    let well_formed = words.all(|word| word.contains(['=', '[']) || is_level(word));
    tracing_subscriber::EnvFilter::try_new(text)
        .ok()
        .filter(|_| well_formed)
        .map(|_| text.to_owned())
        .ok_or_else(|| {
            "expected a level (error, warn, info, debug, trace, off) or directives such as \
             info,cognigy_server=debug"
                .to_owned()
        })
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
        for (text, milliseconds) in [
            ("500ms", 500),
            ("2s", 2000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("0s", 0),
            ("1.5s", 1500),
            ("0.25s", 250),
            ("1m30s", 90_000),
            ("1d12h30m15s500ms", 131_415_500),
            ("1h0.5m", 3_630_000),
            ("36500d", 3_153_600_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1w",
            "1 s",
            "99999999999999999999s",
            "999999d",
            "1.s",
            ".5s",
            ".s",
            "1..5s",
            "1.5.5s",
            "1.5m30s",
            "30s1m",
            "1m1m",
            "1m30",
            "1e3s",
            "+1s",
            "1m 30s",
            "infs",
            "NaNs",
            "1µs",
            "1S",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(positive_duration("0s").is_err() && lease("999ms").is_err());
        assert!(positive_duration("0.0001ms").is_err(), "it rounds to nothing");
    }

    #[test]
    fn a_word_that_is_no_level_does_not_silence_the_log() {
        for text in ["info", "WARN", "off", "info,actix_server=warn", "cognigy_server[span]=debug"]
        {
            assert_eq!(log_filter(text), Ok(text.to_owned()));
        }
        for text in ["warning", "verbose", "loud", "info;debug", "info,loud", "", "a=b=c"] {
            assert!(log_filter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn retention_may_never_end() {
        assert_eq!(duration_or_never("never"), Ok(None));
        assert_eq!(duration_or_never("2s"), Ok(Some(Duration::from_secs(2))));
        assert!(duration_or_never("0s").is_err() && duration_or_never("Never").is_err());
    }

    #[test]
    fn bytes_have_binary_units() {
        for (text, expected) in [("7", 7), ("1KiB", 1024), ("64MiB", 64 << 20), ("2GiB", 2 << 30)] {
            assert_eq!(bytes(text), Ok(expected));
        }
        for text in ["", "0", "1MB", "1 MiB", "MiB", "-1", "99999999999GiB", "1.5MiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
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
        for text in [
            "",
            "webhooks.db",
            "sqlite:",
            "sqlite::memory:",
            "postgres:db",
            "mysql://h",
            "postgres://u:p@h/db?sslmode=odd",
            "postgres://u:p@h:port/db",
        ] {
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
        for text in [
            "crm.example",
            "ftp://crm.example",
            "http://",
            "http:///x",
            "http://crm.example/a b",
            "http://crm.example\n",
            "http://user@crm.example",
            "http://crm.example?x=1",
            "http://crm.example#x",
        ] {
            assert!(http_url(text).is_err(), "{text}");
        }
        assert!(header_name("X-Hub-Signature-256").is_ok() && header_name("a b").is_err());
    }
}

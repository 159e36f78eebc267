//! The database URL: the parts that tokio-postgres reads, and those that it does not.
//!
//! `sslmode` and `sslrootcert` mean what they mean to libpq, with one difference: without `sslmode`
//! a server on another machine has to show a certificate for its name. Bodies hold what people say,
//! and must not cross a network unencrypted only because a setting is missing.

use std::{net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use cognigy_core::StoreError;
use percent_encoding::percent_decode_str;
use tokio_postgres::{
    Config,
    config::{Host, SslMode, TargetSessionAttrs},
};

use crate::{
    config::{
        GRACE, IDLE_IN_TRANSACTION, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES,
        PostgresOptions,
    },
    error::PostgresError,
    server::tls::{Roots, Trust},
    transactional::transaction::TransactionOptions,
};

/// Shows that a session has the settings it was opened with. A pooler that drops settings drops
/// this one too.
pub(crate) const SESSION_MARK: &str = "cognigy.session";

/// Where the server's socket lies if the URL names no host, as in `postgresql:///database`: libpq's
/// built-in folder. It is the first one on Debian, Red Hat and their derivatives, and the second
/// one where PostgreSQL was built with its default settings. Where there is no socket, `localhost`
/// is tried.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Reads a database URL as [`PostgresStore::open`](crate::PostgresStore::open) does, and connects to
/// nothing: for programs that check their settings before anything else.
///
/// # Errors
///
/// `Unavailable`, as `open`: the URL cannot be used. The message holds no part of the URL's values.
///
/// ```
/// use cognigy_store_postgres::check_url;
///
/// assert!(check_url("postgres://events@db.example.com/events?sslmode=verify-full").is_ok());
/// assert!(check_url("mysql://events@db.example.com/events").is_err());
/// ```
pub fn check_url(url: &str) -> Result<(), StoreError> {
    Target::parse(url, &PostgresOptions::default())?;
    Ok(())
}

/// Which server to connect to, and which certificates to trust.
pub(crate) struct Target {
    pub(crate) config: Config,
    pub(crate) trust: Trust,
    /// The session settings that the URL names.
    theirs: String,
}

impl Target {
    pub(crate) fn parse(url: &str, options: &PostgresOptions) -> Result<Self, PostgresError> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(PostgresError::Url("expected postgres://user@host/database".to_owned()));
        }
        let (plain, ssl) = SslParameters::take(url)?;
        // The parser's own message names the parameter, never its value.
        let mut config =
            Config::from_str(&plain).map_err(|error| PostgresError::Url(words(&error)))?;
        if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.is_empty()))
        {
            return Err(PostgresError::Url("a host is empty".to_owned()));
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            for folder in SOCKET_FOLDERS {
                config.host_path(folder);
            }
            config.host("localhost");
        }
        let trust = ssl.trust(is_local(&config))?;
        config.ssl_mode(match &trust {
            Trust::NoTls => SslMode::Disable,
            Trust::AnyoneIfOffered => SslMode::Prefer,
            _ => SslMode::Require,
        });
        if config.get_target_session_attrs() == TargetSessionAttrs::Any {
            // After a failover the old primary must not be taken for the new one.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if config.get_application_name().is_none() {
            config.application_name("cognigy");
        }
        let theirs = config.get_options().unwrap_or_default().to_owned();
        config
            .options(format!("{} {PLANNER} {theirs}", limits(options).join(" ")))
            .connect_timeout(options.connect_timeout)
            .tcp_user_timeout(options.statement_timeout + GRACE)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES);
        Ok(Self { config, trust, theirs })
    }

    /// The same server for a handler's statements: with limits of their own, and with the planner
    /// settings of the database's owner.
    pub(crate) fn for_transactions(&self, options: &TransactionOptions) -> Config {
        let mut config = self.config.clone();
        config.options(format!("{} {}", options.limits().join(" "), self.theirs));
        config
    }
}

/// Makes the planner plan for a long queue whatever the statistics say. They describe an empty
/// table when a backlog begins to grow; a plan that reads the whole queue is right then and far too
/// slow a minute later. Every table that grows has an index for each of our statements.
const PLANNER: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off \
     -c enable_bitmapscan=off -c enable_mergejoin=off -c jit=off";

/// The limits of the store's own sessions.
fn limits(options: &PostgresOptions) -> [String; 6] {
    session_limits(options.statement_timeout, options.lock_timeout, IDLE_IN_TRANSACTION)
}

/// The settings with which every session begins.
pub(crate) fn session_limits(statement: Duration, lock: Duration, idle: Duration) -> [String; 6] {
    let millis = |duration: Duration| duration.as_millis().max(1).to_string();
    [
        (SESSION_MARK, "on".to_owned()),
        ("statement_timeout", millis(statement)),
        ("lock_timeout", millis(lock)),
        ("idle_in_transaction_session_timeout", millis(idle)),
        ("default_transaction_isolation", r"read\ committed".to_owned()),
        ("timezone", "UTC".to_owned()),
    ]
    .map(|(name, value)| format!("-c {name}={value}"))
}

fn is_local(config: &Config) -> bool {
    let is_loopback = |name: &str| {
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let named = config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => is_loopback(name),
        Host::Unix(_) => true,
    });
    named && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

fn words(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// What the URL says about TLS.
#[derive(Default)]
struct SslParameters {
    mode: Option<String>,
    roots: Option<String>,
}

impl SslParameters {
    /// Takes the TLS settings out of a URL.
    fn take(url: &str) -> Result<(String, Self), PostgresError> {
        let Some((base, query)) = url.split_once('?') else {
            return Ok((url.to_owned(), Self::default()));
        };
        let mut ssl = Self::default();
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match name {
                "sslmode" => &mut ssl.mode,
                "sslrootcert" => &mut ssl.roots,
                _ => {
                    others.push(pair);
                    continue;
                }
            };
            let value = percent_decode_str(value).decode_utf8();
            *place = Some(
                value.map_err(|_| PostgresError::Url(format!("{name} is not UTF-8")))?.into_owned(),
            );
        }
        let plain = if others.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{}", others.join("&"))
        };
        Ok((plain, ssl))
    }

    fn trust(self, is_local: bool) -> Result<Trust, PostgresError> {
        let roots = match self.roots.as_deref() {
            None | Some("system") => Roots::System,
            Some(path) => Roots::File(PathBuf::from(path)),
        };
        Ok(match self.mode.as_deref() {
            None if is_local => Trust::NoTls,
            None | Some("verify-full") => Trust::Named(roots),
            Some("verify-ca") => Trust::Issued(roots),
            // As in libpq, a root certificate that is named is used.
            Some("require") if self.roots.is_some() => Trust::Issued(roots),
            Some("require") => Trust::Anyone,
            Some("prefer" | "allow") => Trust::AnyoneIfOffered,
            Some("disable") => Trust::NoTls,
            Some(_) => {
                return Err(PostgresError::Url(
                    "sslmode: expected disable, prefer, require, verify-ca or verify-full"
                        .to_owned(),
                ));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, PostgresError> {
        Target::parse(url, &PostgresOptions::default())
    }

    #[test]
    fn another_machine_has_to_prove_its_name_unless_the_url_says_otherwise() {
        for (url, expected) in [
            ("postgres://u@localhost/db", "NoTls"),
            ("postgres://u@127.0.0.1/db", "NoTls"),
            ("postgres://u@[::1]/db", "NoTls"),
            ("postgres://u@%2Fvar%2Frun%2Fpostgresql/db", "NoTls"),
            ("postgresql:///db", "NoTls"),
            ("postgres://u@/db?sslmode=verify-full", "Named(System)"),
            ("postgres://u@db.example/db", "Named(System)"),
            ("postgres://u@localhost,db.example/db", "Named(System)"),
            ("postgresql://u:p%40@db.example/db?sslmode=disable", "NoTls"),
            ("postgres://u@db.example/db?sslmode=prefer", "AnyoneIfOffered"),
            ("postgres://u@db.example/db?sslmode=require", "Anyone"),
            (
                "postgres://u@db.example/db?sslmode=require&sslrootcert=%2Fca.pem",
                "Issued(File(\"/ca.pem\"))",
            ),
            ("postgres://u@localhost/db?sslmode=verify-ca&sslrootcert=system", "Issued(System)"),
            ("postgres://u@localhost/db?connect_timeout=3&sslmode=verify-full", "Named(System)"),
        ] {
            let target = target(url).unwrap_or_else(|problem| panic!("{url}: {problem}"));
            assert_eq!(format!("{:?}", target.trust), expected, "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_without_the_password() {
        for url in [
            "mysql://u:marked@h/db",
            "postgres://u:marked@h/db?sslmode=marked",
            "postgres://u:marked@h:port/db",
            "postgres://u:marked@:5432/db",
            "postgres://u:marked@h,/db",
            "postgres://u:marked@h/db?unknown=marked",
            "postgres://u:marked@h/db?target_session_attrs=marked",
        ] {
            let problem = target(url).err().unwrap_or_else(|| panic!("{url} is taken")).to_string();
            assert!(!problem.contains("marked"), "{problem}");
        }
    }

    #[test]
    fn the_url_s_own_options_come_last_and_win() {
        let target = target("postgres://u@h/db?options=-c%20statement_timeout%3D9").unwrap();
        let options = target.config.get_options().unwrap();
        assert!(options.ends_with("-c statement_timeout=9"), "{options}");
        assert!(options.starts_with("-c cognigy.session=on "), "{options}");
    }

    #[test]
    fn without_a_host_it_is_the_socket_and_then_this_machine() {
        for url in ["postgresql:///db", "postgres://u@/db?port=5433", "postgres://"] {
            let hosts = target(url).unwrap().config.get_hosts().to_vec();
            let folders = SOCKET_FOLDERS.map(|folder| Host::Unix(folder.into()));
            assert_eq!(hosts[..2], folders, "{url}");
            assert_eq!(hosts[2..], [Host::Tcp("localhost".to_owned())], "{url}");
        }
        let named = target("postgresql:///db?host=/run/pg").unwrap();
        assert_eq!(named.config.get_hosts(), [Host::Unix("/run/pg".into())]);
    }
}

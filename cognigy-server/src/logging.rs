//! Log lines: text for people, JSON for machines, to standard error.
//!
//! A thread of its own writes the lines. If the log is not read fast enough, lines are dropped and
//! counted, and no request waits.

mod scoped;

use std::sync::OnceLock;

use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter,
    filter::{FilterFn, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::settings::{LogFormat, Settings};
use scoped::Scoped;

/// Libraries that log requests, and with them tokens, credentials and bodies, at their lower
/// levels. They stay at `warn` whatever is set.
const KEPT_QUIET: [&str; 9] = [
    "aws_config",
    "aws_runtime",
    "aws_sdk_sqs",
    "aws_sigv4",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    "h2",
    "hyper",
    "hyper_util",
];

/// The module in which actix-http logs each unreadable request as an error. A sender could cause as
/// many such lines as it likes. The server logs those requests itself, with a bound: see
/// `telemetry/refusals.rs`.
const ERRORS_OF_SENDERS: &str = "actix_http::h1";

/// How many lines may wait to be written: some seconds of a server under load at `debug`, and a few
/// MiB.
const WAITING_LINES: usize = 8192;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// How many lines were dropped since the start, because too many waited.
pub(crate) fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |dropped| u64::try_from(dropped.dropped_lines()).unwrap_or(u64::MAX))
}

/// Starts the log as the settings say. When the guard is dropped, the waiting lines are written,
/// for at most a second if the log is not read. Standard output stays free for what commands print.
pub(crate) fn start(settings: &Settings) -> WorkerGuard {
    // The setting was checked when it was read.
    let mut filter = EnvFilter::try_new(&settings.log).unwrap_or_default();
    for noisy in KEPT_QUIET {
        if let Ok(directive) = format!("{noisy}=warn").parse() {
            filter = filter.add_directive(directive);
        }
    }
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    DROPPED.get_or_init(|| writer.error_counter());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match settings.log_format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let format = Scoped::text(colours);
            let builder = builder.with_ansi(colours).event_format(format);
            builder.finish().with(without_errors_of_senders()).try_init()
        }
        LogFormat::Json => {
            let builder = builder.json().event_format(Scoped::json());
            builder.finish().with(without_errors_of_senders()).try_init()
        }
    };
    if let Err(error) = started {
        eprintln!("cognigy-server: logging could not be started: {error}");
    }
    guard
}

fn without_errors_of_senders() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    filter_fn(|line| *line.level() != Level::ERROR || !line.target().starts_with(ERRORS_OF_SENDERS))
}

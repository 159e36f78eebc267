//! Log lines: text for people, JSON for machines, to standard error.

use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, Settings};

/// Libraries that log requests, and with them tokens, credentials and bodies, at their lower
/// levels; they stay at `warn` whatever is set.
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

/// Starts logging as set. Standard output stays free for what commands print.
pub(crate) fn start(settings: &Settings) {
    // The setting was checked when it was read.
    let mut filter = EnvFilter::try_new(&settings.log).unwrap_or_default();
    for noisy in KEPT_QUIET {
        if let Ok(directive) = format!("{noisy}=warn").parse() {
            filter = filter.add_directive(directive);
        }
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.log_format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colours).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        eprintln!("cognigy-server: logging could not be started: {error}");
    }
}

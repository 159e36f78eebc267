//! The whole server, commands included, with a handler of one's own.
//!
//! ```sh
//! COGNIGY_WEBHOOK_SECRET=change-me-please cargo run -p cognigy-own-handler -- serve
//! cargo run -p cognigy-own-handler -- list
//! ```

use std::{
    io::{Write, stdout},
    process::ExitCode,
    sync::Arc,
};

use cognigy_core::{Contact, Event, Failure};
use cognigy_server::Server;

fn main() -> ExitCode {
    Server::new().handler(greet).run()
}

/// Writes a line for each event. The same event may come again after a crash, with the same
/// idempotency key.
async fn greet(event: Arc<Event>, contact: Option<Contact>) -> Result<(), Failure> {
    let known = contact.map_or("unknown".to_owned(), |contact| contact.to_string());
    writeln!(stdout().lock(), "{} {} {known}", event.kind(), event.idempotency_key())
        // Retried, as often as the settings say.
        .map_err(|error| Failure::transient(format!("stdout: {error}")))
}

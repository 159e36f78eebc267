//! The server as it is shipped, without a handler of its own.

use std::process::ExitCode;

use cognigy_server::Server;

fn main() -> ExitCode {
    Server::new().run()
}

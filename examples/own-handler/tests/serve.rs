//! The example as processes of their own: `serve` takes a signed event in and runs the handler, and
//! `replay` runs it again.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use cognigy_core::{Secret, SignatureScheme, sign};
use serde_json::Value;

const SECRET: &str = "the-secret-of-this-test";

/// Kills the server when the test ends, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(command: &[&str], folder: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_cognigy-own-handler"));
    program.args(command).env_clear().current_dir(folder);
    program.env("COGNIGY_WEBHOOK_SECRET", SECRET).env("COGNIGY_LISTEN", "127.0.0.1:0");
    program.env("COGNIGY_LOG_FORMAT", "json");
    program
}

#[test]
fn serve_and_replay_run_the_handler_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = program(&["serve"], folder.path());
    server.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Running(server.spawn().unwrap());

    let log = BufReader::new(server.0.stderr.take().unwrap()).lines();
    let mut entries = log.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let listening = entries.find(|entry| entry["message"] == "listening").expect("it starts");
    let address = listening["address"].as_str().unwrap();

    // Without a contact key no CRM is asked.
    let body = r#"{"eventId":"evt-1","timestamp":"2026-03-01T12:00:00Z","type":"DIALOG_STARTED","payload":{}}"#;
    let signature = sign(&Secret::new(SECRET).unwrap(), SignatureScheme::Base64, body.as_bytes());
    let mut connection = TcpStream::connect(address).unwrap();
    write!(
        connection,
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
         X-Cognigy-Signature: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "DIALOG_STARTED cognigy/evt-1/1 unknown\n");

    // The handler has run, but its run may not be settled yet: until then a replay ends with 1.
    let mut replays = (0..100).map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        program(&["replay", "evt-1"], folder.path()).output().unwrap()
    });
    let replayed = replays.find(|output| output.status.success()).expect("it is settled in time");
    let said = String::from_utf8(replayed.stdout).unwrap();
    assert!(said.starts_with("DIALOG_STARTED cognigy/evt-1/2 unknown\n"), "{said}");
}

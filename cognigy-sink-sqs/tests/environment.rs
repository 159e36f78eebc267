//! How `connect` uses the environment. A process's environment is the same for all its tests, so
//! each case runs in a process of its own: this program again, with one ignored test chosen.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::process::Command;

use cognigy_core::DeadLetterSink;
use cognigy_sink_sqs::{ConnectError, SqsOptions, SqsSink, SqsSource};
use common::{Moto, dead_letter, free_port};

const KEYS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", common::SECRET_KEY)];

/// Sends a dead letter from a process that has these variables and hardly any other.
fn send_with(queue_url: &str, variables: &[(&str, &str)]) -> String {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sends_one_letter_by_the_environment", "--ignored", "--nocapture"])
        .env_clear()
        .env("HOME", home.path())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("TEST_QUEUE_URL", queue_url)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
#[ignore = "run by the other tests, with an environment"]
async fn sends_one_letter_by_the_environment() {
    let Ok(url) = std::env::var("TEST_QUEUE_URL") else { return };
    // The next call prints the message of a panic, as any program without a panic hook does.
    std::panic::set_hook(Box::new(|_| {}));
    let options =
        SqsOptions::default().proxy_from_env(std::env::var_os("TEST_USE_PROXY").is_some());
    let sink = match SqsSink::connect_with(url, options).await {
        Ok(sink) => sink,
        Err(error) => return println!("{error:?}"),
    };
    match sink.send(&[dead_letter("e1", "{}")]).await.pop().unwrap() {
        Ok(()) => println!("sent"),
        Err(failure) => println!("{:?} {}", failure.kind(), failure.report()),
    }
}

#[tokio::test]
async fn the_usual_variables_name_endpoint_region_and_credentials() {
    let moto = Moto::start();
    // Emulators keep queues by region and name; the host in the URL does not matter to them.
    let unused = format!("http://127.0.0.1:{}", free_port());
    for (name, host, endpoints) in [
        ("all.fifo", "http://sqs.invalid", vec![("AWS_ENDPOINT_URL", &moto.endpoint)]),
        (
            "service.fifo",
            "http://sqs.invalid",
            vec![("AWS_ENDPOINT_URL_SQS", &moto.endpoint), ("AWS_ENDPOINT_URL", &unused)],
        ),
        (
            "aws.fifo",
            "https://sqs.eu-west-1.amazonaws.com",
            vec![("AWS_ENDPOINT_URL", &moto.endpoint)],
        ),
        ("none.fifo", &moto.endpoint, vec![]),
    ] {
        let url = moto.queue(name, &[]).await;
        let mut variables = vec![("AWS_REGION", "eu-west-1"), KEYS[0], KEYS[1]];
        variables.extend(endpoints.iter().map(|(name, value)| (*name, value.as_str())));
        let output = send_with(&format!("{host}/123456789012/{name}"), &variables);
        assert!(output.contains("sent"), "{name}: {output}");
        assert_eq!(moto.drain(&url).await.len(), 1, "{name}");
    }
}

/// Plain HTTP needs no certificates and an emulator no region; their absence must not prevent a
/// connection.
#[tokio::test]
async fn an_emulator_is_reached_without_a_region_or_root_certificates() {
    let moto = Moto::start();
    let variables = [KEYS[0], KEYS[1], ("SSL_CERT_FILE", "/dev/null")];
    // The emulator keeps its queues by region, so it answers that this queue does not exist.
    let output = send_with(&moto.queue("dlq.fifo", &[]).await, &variables);
    assert!(output.contains("NonExistentQueue"), "{output}");
}

#[test]
fn missing_credentials_are_a_transient_failure_that_says_so() {
    let output = send_with("http://127.0.0.1:1/123456789012/dlq", &[("AWS_REGION", "eu-west-1")]);
    assert!(output.contains("Transient"), "{output}");
    assert!(output.to_lowercase().contains("credential"), "{output}");
}

#[tokio::test]
async fn a_malformed_url_is_refused_at_once() {
    for url in ["", "dlq.fifo", "https://sqs.eu-west-1.amazonaws.com/dlq", "https://a:b@c/1/q"] {
        let error = SqsSink::connect(url).await.unwrap_err();
        assert!(matches!(error, ConnectError::QueueUrl { .. }), "{error}");
        assert!(SqsSource::connect(url).await.is_err());
    }
    let options = SqsOptions::default().endpoint("localhost:4566");
    let error = SqsSink::connect_with("http://localhost/1/q", options).await.unwrap_err();
    assert!(matches!(error, ConnectError::Endpoint { .. }), "{error}");
}

/// A proxy in the environment is used only where that was asked for.
#[tokio::test]
async fn a_proxy_is_used_only_where_asked_for() {
    let moto = Moto::start();
    let url = moto.queue("dlq", &[]).await;
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let (seen, requests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in proxy.incoming().flatten() {
            use std::io::{BufRead, BufReader, Write};
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            let _ = stream.write_all(b"HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n");
            let _ = seen.send(line);
        }
    });
    let region = ("AWS_REGION", "eu-west-1");
    let mut variables = vec![KEYS[0], KEYS[1], region, ("ALL_PROXY", address.as_str())];
    let sent = send_with(&url, &variables);
    assert!(sent.contains("sent"), "{sent}");
    assert_eq!(requests.try_recv().ok(), None);

    variables.push(("TEST_USE_PROXY", "1"));
    let refused = send_with(&url, &variables);
    assert!(!refused.contains("sent"), "{refused}");
    // Asked for an absolute URL, as a proxy is.
    let lines: Vec<_> = requests.try_iter().collect();
    let absolute = format!("POST {}", moto.endpoint);
    assert!(!lines.is_empty(), "the proxy was not asked");
    assert!(lines.iter().all(|line| line.starts_with(&absolute)), "{lines:?}");
    // HTTPS goes through a tunnel.
    send_with("https://sqs.invalid/123456789012/dlq", &variables);
    // The SDK tries more than once.
    let lines: Vec<_> = requests.try_iter().collect();
    assert!(!lines.is_empty(), "the proxy was not asked");
    assert!(lines.iter().all(|line| line.starts_with("CONNECT sqs.invalid:443 ")), "{lines:?}");

    variables.push(("NO_PROXY", "127.0.0.1"));
    let sent = send_with(&url, &variables);
    assert!(sent.contains("sent") && requests.try_recv().is_err(), "{sent}");
}

/// The SDK panics on what its profile files hold. The panic's message may quote a secret and is not
/// repeated.
#[test]
fn a_panic_of_the_sdk_is_an_error_without_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile");
    let send = |profile: &[u8], variable: &str| {
        std::fs::write(&path, profile).unwrap();
        let variables = [("AWS_REGION", "eu-west-1"), (variable, path.to_str().unwrap())];
        send_with("http://127.0.0.1:1/123456789012/dlq", &variables)
    };
    let output = send(b"[default]\nmax_attempts = 0\n", "AWS_CONFIG_FILE");
    assert!(output.contains("Settings\n"), "{output}");
    let output = send(
        b"[default]\naws_access_key_id = marked\x01\naws_secret_access_key = marked\n",
        "AWS_SHARED_CREDENTIALS_FILE",
    );
    let told = "Permanent SQS did not take the dead letter: SendMessageBatch on \
                http://127.0.0.1:1/123456789012/dlq: the AWS SDK failed";
    assert!(output.contains(told) && !output.contains("marked"), "{output}");
}

//! The sink and the source against moto, an emulator of SQS: `./scripts/install/moto` installs it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::{Duration, Instant};

use aws_sdk_sqs::types::{MessageSystemAttributeName as Attribute, QueueAttributeName};
use cognigy_core::{DeadLetterMessage, DeadLetterSink, DeadLetterSource, FailureKind};
use cognigy_sink_sqs::{QueueLength, SqsSink, SqsSource};
use common::{Moto, attribute, body, dead_letter, free_port, is_transient, json, options};
use serde_json::Value;

async fn sink(moto: &Moto, url: &str) -> SqsSink {
    SqsSink::connect_with(url, options(&moto.endpoint)).await.unwrap()
}

fn all_ok(answers: &[Result<(), cognigy_core::Failure>]) -> bool {
    answers.iter().all(Result::is_ok)
}

#[tokio::test]
async fn a_fifo_queue_gets_the_contract_s_message_under_the_event_s_id() {
    let moto = Moto::start();
    let url = moto.queue("dlq.fifo", &[]).await;
    let payload = r#"{"eventId":"e1","payload":{"input":"ä 😀 \"quoted\""},"n":1.50}"#;

    let sink = sink(&moto, &url).await;
    sink.check().await.unwrap();
    assert!(all_ok(&sink.send(&[dead_letter("e1", payload)]).await));

    let messages = moto.drain(&url).await;
    let [message] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(attribute(message, Attribute::MessageGroupId), Some("cognigy-events"));
    assert_eq!(attribute(message, Attribute::MessageDeduplicationId), Some("e1"));
    assert_eq!(
        body(message),
        serde_json::json!({
            "eventId": "e1",
            "type": "USER_INPUT_RECEIVED",
            "timestamp": "2026-03-01T12:00:00Z",
            "errorMessage": "the CRM answered 503",
            "rawPayload": json(payload),
            "attempts": 4,
            "firstReceivedAt": "1970-01-01T00:00:00.000000Z",
        })
    );
    assert!(message.body().unwrap().contains(payload), "the payload's text is unchanged");
}

#[tokio::test]
async fn a_run_sent_again_is_one_message_and_a_later_run_another() {
    let moto = Moto::start();
    let url = moto.queue("dlq.fifo", &[]).await;
    let sink = sink(&moto, &url).await;
    let first = dead_letter("e1", "{}");
    let mut second = first.clone();
    second.run = 2;
    let look_alike = dead_letter("e1-run-2", "{}");

    for dead_letters in [[first.clone(), second.clone()], [second, first]] {
        assert!(all_ok(&sink.send(&dead_letters).await));
    }
    assert!(all_ok(&sink.send(&[look_alike]).await));

    let messages = moto.drain(&url).await;
    let ids: Vec<_> = messages.iter().map(|m| body(m)["eventId"].clone()).collect();
    assert_eq!(ids, ["e1", "e1", "e1-run-2"]);
}

#[tokio::test]
async fn ids_that_sqs_refuses_are_hashed() {
    let moto = Moto::start();
    let url = moto.queue("dlq.fifo", &[]).await;
    let sink = sink(&moto, &url).await;
    let odd = ["an id with spaces", "名前", &"x".repeat(200)].map(|id| dead_letter(id, "{}"));
    assert!(all_ok(&sink.send(&odd).await));
    assert!(all_ok(&sink.send(&odd).await));

    let messages = moto.drain(&url).await;
    assert_eq!(messages.len(), 3);
    for message in &messages {
        let id = attribute(message, Attribute::MessageDeduplicationId).unwrap();
        assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
}

#[tokio::test]
async fn a_standard_queue_gets_neither_group_nor_deduplication_id() {
    let moto = Moto::start();
    let url = moto.queue("dlq", &[]).await;
    assert!(all_ok(&sink(&moto, &url).await.send(&[dead_letter("e1", "{}")]).await));

    let messages = moto.drain(&url).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(attribute(&messages[0], Attribute::MessageGroupId), None);
    assert_eq!(attribute(&messages[0], Attribute::MessageDeduplicationId), None);
}

#[tokio::test]
async fn twenty_five_letters_arrive_in_order() {
    let moto = Moto::start();
    let url = moto.queue("dlq.fifo", &[]).await;
    let dead_letters: Vec<_> = (0..25).map(|n| dead_letter(&format!("e{n}"), "{}")).collect();
    let answers = sink(&moto, &url).await.send(&dead_letters).await;
    assert!(answers.len() == 25 && all_ok(&answers));

    let ids: Vec<_> = moto.drain(&url).await.iter().map(|m| body(m)["eventId"].clone()).collect();
    let expected: Vec<_> = (0..25).map(|n| Value::from(format!("e{n}"))).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn what_is_over_the_queue_s_own_limit_goes_without_its_payload() {
    let moto = Moto::start();
    let limit = [(QueueAttributeName::MaximumMessageSize, "2048")];
    let url = moto.queue("small.fifo", &limit).await;
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(2000));
    let mut wordy = dead_letter("wordy", "{}");
    wordy.error_message = "why ".repeat(1000);
    let dead_letters =
        [dead_letter("e1", "{}"), dead_letter("long", &long), wordy, dead_letter("e2", "{}")];
    assert!(all_ok(&sink(&moto, &url).await.send(&dead_letters).await));

    let messages: Vec<_> = moto.drain(&url).await.iter().map(body).collect();
    let omitted: Vec<_> = messages.iter().map(|m| m["rawPayloadOmitted"] == true).collect();
    assert_eq!(omitted, [false, true, true, false]);
    assert_eq!(messages[1]["errorMessage"], "the CRM answered 503");
    assert_eq!(messages[2]["errorMessage"].as_str().unwrap().len(), 1024);
    assert!(messages[1].get("rawPayload").is_none());
}

#[tokio::test]
async fn one_mebibyte_is_the_limit_of_a_message_and_of_a_batch() {
    const LIMIT: usize = 1_048_576;
    let moto = Moto::start();
    let url = moto.queue("dlq", &[]).await;
    let sized = |id: &str, bytes: usize| {
        let empty = dead_letter(id, "{\"t\":\"\"}").to_message(false).len();
        dead_letter(id, &format!("{{\"t\":\"{}\"}}", "x".repeat(bytes - empty)))
    };
    let dead_letters = [
        sized("exact", LIMIT),
        sized("over", LIMIT + 1),
        sized("half-1", LIMIT / 2),
        sized("half-2", LIMIT / 2),
        sized("half-3", LIMIT / 2 + 1),
    ];
    assert!(all_ok(&sink(&moto, &url).await.send(&dead_letters).await));

    let mut omitted = Vec::new();
    let messages = moto.drain(&url).await;
    for message in &messages {
        let body = body(message);
        assert_eq!(body.get("rawPayload").is_none(), body["rawPayloadOmitted"] == true);
        if body["rawPayloadOmitted"] == true {
            omitted.push(body["eventId"].clone());
        }
    }
    assert_eq!((messages.len(), omitted), (5, vec!["over".into()]));
}

#[tokio::test]
async fn characters_that_sqs_refuses_arrive_as_the_same_json() {
    let moto = Moto::start();
    let url = moto.queue("dlq.fifo", &[]).await;
    let payload = "{\"a\u{fffe}\":\"\u{ffff} \\u0000 \\\\\u{fffe}\"}";
    assert!(all_ok(&sink(&moto, &url).await.send(&[dead_letter("e1", payload)]).await));

    let messages = moto.drain(&url).await;
    assert!(!messages[0].body().unwrap().contains(['\u{fffe}', '\u{ffff}']));
    assert_eq!(body(&messages[0])["rawPayload"], json(payload));
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_back_and_what_is_does_not() {
    let moto = Moto::start();
    let url = moto.queue("dlq.fifo", &[]).await;
    let options = options(&moto.endpoint)
        .visibility_timeout(Duration::from_secs(2))
        .receive_wait(Duration::from_secs(1));
    let dead_letters: Vec<_> = (0..12).map(|n| dead_letter(&format!("e{n}"), "{}")).collect();
    let sink = SqsSink::connect_with(&url, options.clone()).await.unwrap();
    assert!(all_ok(&sink.send(&dead_letters).await));
    let source = SqsSource::connect_with(&url, options).await.unwrap();
    assert_eq!(source.approximate_len().await.unwrap(), QueueLength { waiting: 12, hidden: 0 });

    assert!(source.receive(0).await.unwrap().is_empty());
    let received = source.receive(1).await.unwrap();
    let [first] = received.as_slice() else { panic!("{received:?}") };
    let read: DeadLetterMessage = serde_json::from_str(&first.body).unwrap();
    assert_eq!(read.key().unwrap(), dead_letters[0].key);
    assert!(source.receive(10).await.unwrap().is_empty(), "hidden, and the group's rest behind it");

    tokio::time::sleep(Duration::from_secs(1)).await;
    let again = source.receive(1000).await.unwrap();
    assert_eq!(again.len(), 10, "as many as SQS gives at a time");
    assert_eq!(again[0].body, first.body);
    let mut receipts: Vec<_> = again.into_iter().map(|message| message.receipt).collect();
    receipts.push("not a receipt".into());
    let answers = source.acknowledge(&receipts).await;
    assert!(all_ok(&answers[..10]) && answers.len() == 11);
    let refused = answers[10].as_ref().unwrap_err();
    assert_eq!(refused.kind(), FailureKind::Permanent);
    assert!(source.acknowledge(&[]).await.is_empty());

    let rest = sink.source().receive(10).await.unwrap();
    let ids: Vec<_> = rest.iter().map(|message| json(&message.body)["eventId"].clone()).collect();
    assert_eq!(ids, ["e10", "e11"]);
}

#[tokio::test]
async fn what_is_released_is_there_at_once_under_the_same_id() {
    let moto = Moto::start();
    for (name, holds_back) in [("dlq.fifo", true), ("dlq", false)] {
        let url = moto.queue(name, &[]).await;
        let options = options(&moto.endpoint).receive_wait(Duration::from_secs(1));
        let sink = SqsSink::connect_with(&url, options).await.unwrap();
        let dead_letters: Vec<_> = (0..12).map(|n| dead_letter(&format!("e{n}"), "{}")).collect();
        assert!(all_ok(&sink.send(&dead_letters).await));
        let source = sink.source();
        assert_eq!(source.holds_back(), holds_back);

        let received = source.receive(10).await.unwrap();
        let length = source.approximate_len().await.unwrap();
        assert_eq!((received.len(), length), (10, QueueLength { waiting: 2, hidden: 10 }));
        let mut receipts: Vec<_> = received.iter().map(|it| it.receipt.clone()).collect();
        receipts.push("not a receipt".into());
        let answers = source.release(&receipts).await;
        assert!(all_ok(&answers[..10]) && answers.len() == 11 && answers[10].is_err());
        assert!(source.release(&[]).await.is_empty());
        let again = [source.receive(10).await.unwrap(), source.receive(10).await.unwrap()].concat();
        for message in &received {
            assert!(!message.id.is_empty());
            assert!(again.iter().any(|other| other.id == message.id), "{name}: {message:?}");
        }
    }
}

#[tokio::test]
async fn a_queue_that_does_not_exist_is_a_permanent_failure_until_it_does() {
    let moto = Moto::start();
    let url = format!("{}/123456789012/dlq.fifo", moto.endpoint);
    let sink = sink(&moto, &url).await;
    let dead_letters = [dead_letter("e1", "{}"), dead_letter("e2", "{}")];

    let answers = sink.send(&dead_letters).await;
    assert_eq!(answers.len(), 2);
    for answer in [&answers[0], &answers[1], &sink.check().await] {
        let failure = answer.as_ref().unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Permanent);
        assert!(failure.report().contains("NonExistentQueue"), "{}", failure.report());
        assert!(failure.report().contains(&url), "{}", failure.report());
    }
    assert!(sink.source().receive(1).await.is_err());

    moto.queue("dlq.fifo", &[]).await;
    assert!(all_ok(&sink.send(&dead_letters).await));
    sink.check().await.unwrap();
}

#[tokio::test]
async fn a_queue_that_is_down_is_a_transient_failure_and_the_same_sink_finds_it_again() {
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/123456789012/dlq.fifo");
    // With the SDK's retries, as in production.
    let config = common::sdk_config(&format!("http://127.0.0.1:{port}"));
    let config =
        config.into_builder().retry_config(aws_sdk_sqs::config::retry::RetryConfig::standard());
    let options = cognigy_sink_sqs::SqsOptions::default().sdk_config(config.build());
    let sink = SqsSink::connect_with(&url, options).await.unwrap();
    let dead_letters: Vec<_> = (0..12).map(|n| dead_letter(&format!("e{n}"), "{}")).collect();

    let started = Instant::now();
    let answers = sink.send(&dead_letters).await;
    assert!(answers.len() == 12 && answers.iter().all(is_transient));
    assert!(is_transient(&sink.check().await));
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());

    let moto = Moto::start_on(port);
    moto.queue("dlq.fifo", &[]).await;
    assert!(all_ok(&sink.send(&dead_letters).await));
    assert_eq!(moto.drain(&url).await.len(), 12);
}

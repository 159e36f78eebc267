//! The sink against a stand-in that speaks SQS's JSON protocol and answers as a test tells it to:
//! answers that no emulator gives.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cognigy_core::{DeadLetter, DeadLetterSink, DeadLetterSource, Failure, FailureKind};
use cognigy_sink_sqs::{SqsOptions, SqsSink};
use common::{SECRET_KEY, dead_letter, is_transient, json, options};
use serde_json::{Value, json as object};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What the stand-in does with a request.
enum Answer {
    Reply(u16, Value),
    /// Sends no answer for as long as the caller waits.
    Hang,
    /// Reads the request and closes the connection.
    Close,
}

#[derive(Debug, Clone)]
struct Request {
    operation: String,
    body: Value,
}

impl Request {
    fn entries(&self) -> &[Value] {
        self.body["Entries"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The messages of a batch.
    fn messages(&self) -> Vec<Value> {
        self.entries().iter().map(|entry| json(entry["MessageBody"].as_str().unwrap())).collect()
    }
}

/// Every entry of the batch is sent, except those for which `failed` has an answer.
fn batch_answer(
    request: &Request,
    failed: impl Fn(usize) -> Option<(bool, &'static str)>,
) -> Answer {
    let (mut successful, mut refused) = (Vec::new(), Vec::new());
    for index in 0..request.entries().len() {
        let id = index.to_string();
        match failed(index) {
            None => successful.push(object!({"Id": id, "MessageId": "m", "MD5OfMessageBody": "x"})),
            Some((fault, code)) => refused.push(object!({
                "Id": id, "SenderFault": fault, "Code": code, "Message": "hunter2",
            })),
        }
    }
    let mut answer = object!({ "Successful": successful });
    // SQS leaves the list out where it is empty.
    if !refused.is_empty() {
        answer["Failed"] = refused.into();
    }
    Answer::Reply(200, answer)
}

fn taken(request: &Request) -> Answer {
    batch_answer(request, |_| None)
}

fn error(status: u16, code: &str) -> Answer {
    let text = format!("the text of {code}");
    Answer::Reply(
        status,
        object!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": text }),
    )
}

struct StandIn {
    endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl StandIn {
    /// Answers the nth batch with `answer`; the queue's attributes may not be read.
    async fn start(answer: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(|| error(403, "AccessDeniedException"), answer).await
    }

    async fn start_with(
        attributes: fn() -> Answer,
        answer: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (answer, seen) = (Arc::new(answer), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                tokio::spawn(async move {
                    let mut connection = BufReader::new(connection);
                    while let Some(request) = read(&mut connection).await {
                        let answer = if request.operation == "GetQueueAttributes" {
                            attributes()
                        } else {
                            let number = seen.lock().unwrap().len();
                            seen.lock().unwrap().push(request.clone());
                            answer(number, &request)
                        };
                        match answer {
                            Answer::Reply(status, body) => {
                                write(&mut connection, status, body).await
                            }
                            Answer::Hang => std::future::pending().await,
                            Answer::Close => return,
                        }
                    }
                });
            }
        });
        Self { endpoint, requests }
    }

    fn options(&self) -> SqsOptions {
        options(&self.endpoint)
    }

    async fn sink(&self, options: SqsOptions) -> SqsSink {
        SqsSink::connect_with(format!("{}/1/dlq.fifo", self.endpoint), options).await.unwrap()
    }

    /// Sends the dead letters and returns the answers and the requests seen.
    async fn send(&self, dead_letters: &[DeadLetter]) -> (Vec<Result<(), Failure>>, Vec<Request>) {
        let answers = self.sink(self.options()).await.send(dead_letters).await;
        assert_eq!(answers.len(), dead_letters.len());
        (answers, self.requests.lock().unwrap().clone())
    }
}

async fn read(connection: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let header = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap().to_owned()
    };
    let mut body = vec![0; header("content-length").parse().unwrap()];
    connection.read_exact(&mut body).await.ok()?;
    let operation = match header("x-amz-target").trim_start_matches("amazonsqs.") {
        "getqueueattributes" => "GetQueueAttributes",
        "sendmessagebatch" => "SendMessageBatch",
        "deletemessagebatch" => "DeleteMessageBatch",
        "receivemessage" => "ReceiveMessage",
        "changemessagevisibilitybatch" => "ChangeMessageVisibilityBatch",
        other => panic!("{other}"),
    };
    Some(Request { operation: operation.into(), body: serde_json::from_slice(&body).unwrap() })
}

async fn write(connection: &mut BufReader<TcpStream>, status: u16, body: Value) {
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-type: application/x-amz-json-1.0\r\n\
         x-amzn-requestid: request-1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(answer.as_bytes()).await.unwrap();
}

fn dead_letters(count: usize) -> Vec<DeadLetter> {
    (0..count).map(|n| dead_letter(&format!("e{n}"), "{\"secret\":\"hunter2\"}")).collect()
}

fn kinds(answers: &[Result<(), Failure>]) -> Vec<&'static str> {
    let kind = |answer: &Result<(), Failure>| match answer {
        Ok(()) => "sent",
        Err(failure) if failure.kind() == FailureKind::Permanent => "permanent",
        Err(_) => "transient",
    };
    answers.iter().map(kind).collect()
}

#[tokio::test]
async fn a_success_with_failed_entries_marks_only_the_others_sent() {
    let stand_in = StandIn::start(|_, request| {
        batch_answer(request, |index| match index {
            1 => Some((false, "InternalError")),
            2 => Some((true, "AccessDenied")),
            3 => Some((true, "KMS.ThrottlingException")),
            4 => Some((false, "SomethingNew")),
            _ => None,
        })
    })
    .await;
    let (answers, requests) = stand_in.send(&dead_letters(6)).await;
    let expected = ["sent", "transient", "permanent", "transient", "transient", "sent"];
    assert_eq!(kinds(&answers), expected);
    assert_eq!(requests.len(), 1, "what failed goes again from the outbox, not from here");
    let report = answers[2].as_ref().unwrap_err().report();
    assert!(report.contains("AccessDenied") && !report.contains("hunter2"), "{report}");
}

#[tokio::test]
async fn an_entry_that_the_answer_does_not_name_is_not_taken_for_sent() {
    let only_first = object!({"Id": "0", "MessageId": "m", "MD5OfMessageBody": "x"});
    let stray = object!({"Id": "7", "MessageId": "m", "MD5OfMessageBody": "x"});
    let answer = object!({ "Successful": [only_first, stray] });
    let stand_in = StandIn::start(move |_, _| Answer::Reply(200, answer.clone())).await;
    let (answers, _) = stand_in.send(&dead_letters(2)).await;
    assert_eq!(kinds(&answers), ["sent", "transient"]);
}

#[tokio::test]
async fn answers_to_a_whole_call_are_sorted_by_status_and_code() {
    for (status, code, expected) in [
        (503, "ServiceUnavailable", "transient"),
        (500, "Odd", "transient"),
        (400, "ThrottlingException", "transient"),
        (400, "KmsThrottled", "transient"),
        (403, "RequestThrottled", "transient"),
        (403, "ExpiredTokenException", "transient"),
        (403, "InvalidClientTokenId", "transient"),
        (400, "QueueDoesNotExist", "permanent"),
        (403, "AccessDeniedException", "permanent"),
        (400, "KmsDisabled", "permanent"),
        (400, "Odd", "permanent"),
    ] {
        let stand_in = StandIn::start(move |_, _| error(status, code)).await;
        let (answers, requests) = stand_in.send(&dead_letters(12)).await;
        assert_eq!(kinds(&answers), [expected; 12], "{status} {code}");
        assert_eq!(requests.len(), 1, "the second batch would fail too");
        let report = answers[11].as_ref().unwrap_err().report();
        assert!(report.contains(code) && report.contains("request-1"), "{report}");
        let safe = code.starts_with("Access") || code.starts_with("K") || code.starts_with("Queue");
        assert_eq!(report.contains("the text of"), safe, "{report}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_sqs_s_is_not_taken_for_sent() {
    for answer in [Value::from("<html>"), object!({}), object!({"Successful": 5})] {
        let stand_in = StandIn::start(move |_, _| Answer::Reply(200, answer.clone())).await;
        assert_eq!(kinds(&stand_in.send(&dead_letters(2)).await.0), ["transient"; 2]);
    }
    let stand_in = StandIn::start(|_, _| Answer::Reply(502, Value::from("Bad Gateway"))).await;
    assert_eq!(kinds(&stand_in.send(&dead_letters(1)).await.0), ["transient"]);
    let stand_in = StandIn::start(|_, _| Answer::Close).await;
    assert_eq!(kinds(&stand_in.send(&dead_letters(1)).await.0), ["transient"]);
}

#[tokio::test]
async fn a_queue_that_hangs_is_left_in_time_and_what_was_sent_before_counts() {
    let stand_in = StandIn::start(|number, request| match number {
        0 => taken(request),
        _ => Answer::Hang,
    })
    .await;
    let options = stand_in.options().attempt_timeout(Duration::from_millis(300));
    let started = Instant::now();
    let answers = stand_in.sink(options).await.send(&dead_letters(35)).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(answers[..10].iter().all(Result::is_ok));
    assert!(answers[10..].iter().all(is_transient));
    let report = answers[10].as_ref().unwrap_err().report();
    assert!(report.contains("timeout"), "{report}");
}

#[tokio::test]
async fn the_same_ids_go_out_again_after_an_unknown_outcome() {
    let stand_in = StandIn::start(|number, request| match number {
        0 => Answer::Close,
        _ => taken(request),
    })
    .await;
    let sink = stand_in.sink(stand_in.options()).await;
    assert_eq!(kinds(&sink.send(&dead_letters(2)).await), ["transient"; 2]);
    assert_eq!(kinds(&sink.send(&dead_letters(2)).await), ["sent"; 2]);
    let requests = stand_in.requests.lock().unwrap();
    assert_eq!(requests[0].entries(), requests[1].entries());
    assert_eq!(requests[0].entries()[1]["MessageDeduplicationId"], "e1");
    assert_eq!(requests[0].entries()[1]["MessageGroupId"], "cognigy-events");
}

#[tokio::test]
async fn a_batch_that_is_too_long_after_all_goes_one_by_one_and_the_culprit_without_payload() {
    const REAL_LIMIT: usize = 1000;
    for code in ["BatchRequestTooLong", "InvalidParameterValue", "InvalidMessageContents"] {
        let stand_in = StandIn::start(move |_, request| {
            let length = |entry: &Value| entry["MessageBody"].as_str().unwrap().len();
            match request.entries().iter().map(length).sum::<usize>() {
                0..REAL_LIMIT => taken(request),
                _ => error(400, code),
            }
        })
        .await;
        let mut batch = dead_letters(4);
        batch[1] = dead_letter("e1", &format!("{{\"text\":\"{}\"}}", "x".repeat(REAL_LIMIT)));
        batch[2].error_message = "x".repeat(REAL_LIMIT);
        let (answers, requests) = stand_in.send(&batch).await;
        assert_eq!(kinds(&answers), ["sent"; 4], "{code}");
        let sizes: Vec<_> = requests.iter().map(|request| request.entries().len()).collect();
        assert_eq!(sizes, [4, 1, 1, 1, 1, 1, 1]);
        assert!(requests[3].messages()[0]["rawPayloadOmitted"] == true);
        assert_eq!(requests[5].messages()[0]["errorMessage"], "x".repeat(128));
        assert!(requests[6].messages()[0].get("rawPayload").is_some());
    }
}

#[tokio::test]
async fn a_message_refused_in_every_form_is_a_permanent_failure_and_its_own() {
    let stand_in = StandIn::start(|_, request| {
        match request.messages().iter().any(|message| message["eventId"] == "e1") {
            true => error(400, "InvalidMessageContents"),
            false => taken(request),
        }
    })
    .await;
    let (answers, requests) = stand_in.send(&dead_letters(3)).await;
    assert_eq!(kinds(&answers), ["sent", "permanent", "sent"]);
    assert_eq!(requests.len(), 5);
}

#[tokio::test]
async fn an_entry_whose_content_is_refused_goes_without_its_payload() {
    let stand_in = StandIn::start(|number, request| {
        batch_answer(request, |index| {
            (number == 0 && index == 1).then_some((true, "InvalidMessageContents"))
        })
    })
    .await;
    let (answers, requests) = stand_in.send(&dead_letters(3)).await;
    assert_eq!(kinds(&answers), ["sent"; 3]);
    assert_eq!(requests.len(), 2);
    let again = requests[1].messages();
    assert!(
        again.len() == 1 && again[0]["eventId"] == "e1" && again[0]["rawPayloadOmitted"] == true
    );
}

#[tokio::test]
async fn deleting_and_releasing_report_each_message_and_stop_where_the_queue_is_gone() {
    for deletes in [true, false] {
        let stand_in = StandIn::start(|number, request| match number {
            0 => batch_answer(request, |index| (index == 3).then_some((false, "InternalError"))),
            _ => error(503, "ServiceUnavailable"),
        })
        .await;
        let source = stand_in.sink(stand_in.options()).await.source();
        let receipts: Vec<_> = (0..25).map(|n| format!("receipt-{n}")).collect();
        let answers = match deletes {
            true => source.acknowledge(&receipts).await,
            false => source.release(&receipts).await,
        };
        let done = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!((answers.len(), done), (25, 9));
        assert!(is_transient(&answers[3]) && answers[10..].iter().all(is_transient));
        assert_eq!(stand_in.requests.lock().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_receive_repeated_by_the_sdk_is_the_same_receive_to_a_fifo_queue() {
    let stand_in = StandIn::start(|number, _| match number {
        0 => Answer::Close,
        _ => Answer::Reply(200, object!({})),
    })
    .await;
    let config = common::sdk_config(&stand_in.endpoint).into_builder();
    let retry = aws_sdk_sqs::config::retry::RetryConfig::standard();
    let options = SqsOptions::default().sdk_config(config.retry_config(retry).build());
    let source = stand_in.sink(options).await.source();
    assert!(source.receive(10).await.unwrap().is_empty());
    assert!(source.receive(10).await.unwrap().is_empty());

    let requests = stand_in.requests.lock().unwrap();
    let ids: Vec<_> = requests.iter().map(|r| &r.body["ReceiveRequestAttemptId"]).collect();
    assert!(ids.len() == 3 && ids[0] == ids[1] && ids[1] != ids[2] && ids[0].is_string());
    assert_eq!(requests[0].body["MaxNumberOfMessages"], 10);
    assert_eq!(requests[0].body["VisibilityTimeout"], 60);
}

#[tokio::test]
async fn check_names_the_permission_that_is_missing() {
    let stand_in = StandIn::start(|_, request| taken(request)).await;
    let sink = stand_in.sink(stand_in.options()).await;
    let failure = sink.check().await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Permanent);
    assert!(failure.report().contains("GetQueueAttributes"), "{}", failure.report());
    assert_eq!(kinds(&sink.send(&dead_letters(1)).await), ["sent"], "it can send all the same");
}

#[tokio::test]
async fn a_queue_whose_attributes_cannot_be_read_is_sent_to_all_the_same() {
    let failures: [fn() -> Answer; 3] =
        [|| Answer::Hang, || Answer::Close, || error(501, "NotImplemented")];
    for attributes in failures {
        let stand_in = StandIn::start_with(attributes, |_, request| taken(request)).await;
        let options = stand_in.options().attempt_timeout(Duration::from_millis(300));
        let sink = stand_in.sink(options).await;
        assert!(is_transient(&sink.check().await));
        assert_eq!(kinds(&sink.send(&dead_letters(1)).await), ["sent"]);
    }
}

#[tokio::test]
async fn nothing_secret_shows() {
    let stand_in = StandIn::start(|_, _| error(403, "SignatureDoesNotMatch")).await;
    let sink = stand_in.sink(stand_in.options()).await;
    let failure = sink.send(&dead_letters(1)).await.pop().unwrap().unwrap_err();
    let options = stand_in.options();
    let shown =
        format!("{sink:?} {:?} {options:?} {failure:?} {}", sink.source(), failure.report());
    for secret in [SECRET_KEY, "AKIDEXAMPLE", "hunter2", "the text of"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

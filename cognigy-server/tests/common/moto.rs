//! A real SQS emulator: moto, installed by `./scripts/install/moto`.

use std::{
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use super::{Answer, Site, eventually, workspace};

pub struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    pub fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_on(port)
    }

    pub fn start_on(port: u16) -> Self {
        let program = std::env::var_os("MOTO_SERVER")
            .map_or_else(|| workspace().join("target/moto-venv/bin/moto_server"), PathBuf::from);
        assert!(program.exists(), "{} is not there: run ./scripts/install/moto", program.display());
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { child, port };
        eventually("moto answers", || TcpStream::connect(("127.0.0.1", port)).ok());
        moto
    }

    /// Stops the emulator: it takes connections and answers none, until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a queue. Yields its URL.
    pub fn queue(&self, name: &str) -> String {
        let attributes =
            if name.ends_with(".fifo") { json!({"FifoQueue": "true"}) } else { json!({}) };
        let answer =
            self.call("CreateQueue", &json!({"QueueName": name, "Attributes": attributes}));
        answer["QueueUrl"].as_str().unwrap().to_owned()
    }

    /// Points a site at a queue of this emulator.
    pub fn configure(&self, site: &mut Site, queue: &str) {
        site.set("SQS_DLQ_URL", queue)
            .set("AWS_ENDPOINT_URL", self.endpoint())
            .set("AWS_REGION", "us-east-1")
            .set("AWS_ACCESS_KEY_ID", "marked-access-key")
            .set("AWS_SECRET_ACCESS_KEY", "marked-secret-key");
    }

    /// Removes up to ten messages from a queue. Yields body and system attributes.
    pub fn drain(&self, queue: &str) -> Vec<Value> {
        let messages = self.receive(queue);
        for message in &messages {
            let handle = &message["ReceiptHandle"];
            self.call("DeleteMessage", &json!({"QueueUrl": queue, "ReceiptHandle": handle}));
        }
        messages
    }

    /// Receives up to ten messages and leaves them hidden.
    pub fn receive(&self, queue: &str) -> Vec<Value> {
        let request = json!({
            "QueueUrl": queue, "MaxNumberOfMessages": 10, "AttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        });
        let answer = self.call("ReceiveMessage", &request);
        answer["Messages"].as_array().cloned().unwrap_or_default()
    }

    /// Puts a message into a FIFO queue. Yields its id.
    pub fn put(&self, queue: &str, body: &str) -> String {
        let request = json!({
            "QueueUrl": queue, "MessageBody": body, "MessageGroupId": "cognigy-events",
            // Each test puts a body once.
            "MessageDeduplicationId": format!("put-{}-{}", body.len(), self.count(queue)),
        });
        self.call("SendMessage", &request)["MessageId"].as_str().unwrap().to_owned()
    }

    /// How many messages a queue holds.
    pub fn count(&self, queue: &str) -> u64 {
        let request = json!({"QueueUrl": queue, "AttributeNames": ["ApproximateNumberOfMessages"]});
        let answer = self.call("GetQueueAttributes", &request);
        let count = &answer["Attributes"]["ApproximateNumberOfMessages"];
        count.as_str().unwrap().parse().unwrap()
    }

    fn call(&self, action: &str, request: &Value) -> Value {
        use std::io::Write;

        let body = request.to_string();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/x-amz-json-1.0\r\nX-Amz-Target: AmazonSQS.{action}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/sqs/aws4_request, \
             SignedHeaders=host, Signature=0\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let answer = Answer::read(stream);
        assert_eq!(answer.status, 200, "{action}: {answer:?}");
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

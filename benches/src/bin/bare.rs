//! The peer: a minimal durable receiver. A bare actix-web handler verifies, parses with serde and
//! hands the event to one thread that group-commits into SQLite (WAL, `synchronous=FULL`, a rowid
//! table with a unique index). No states, no quarantine, no limits.
//!
//! `bare DATABASE SECRET` prints the address it listens on.

use std::{
    error::Error,
    io::Write,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use rusqlite::Connection;
use sha2::Sha256;
use tokio::sync::oneshot;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    event_id: String,
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
    external_id: Option<String>,
    user_id: Option<String>,
    payload: serde_json::Map<String, serde_json::Value>,
}

struct Job {
    event: Event,
    body: web::Bytes,
    done: oneshot::Sender<bool>,
}

struct Shared {
    key: Hmac<Sha256>,
    queue: SyncSender<Job>,
}

fn main() -> Result<(), Box<dyn Error>> {
    actix_web::rt::System::new().block_on(serve())
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, secret] = arguments.as_slice() else {
        return Err("usage: bare DATABASE SECRET".into());
    };
    let connection = Connection::open(database)?;
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, event_id TEXT UNIQUE NOT NULL,
            type TEXT NOT NULL, timestamp TEXT NOT NULL, external_id TEXT, user_id TEXT,
            status TEXT NOT NULL, body BLOB NOT NULL);",
    )?;
    let (queue, jobs) = sync_channel(4096);
    thread::spawn(move || write(&connection, &jobs));
    let key = Hmac::new_from_slice(secret.as_bytes())?;
    let shared = web::Data::new(Shared { key, queue });
    let server = HttpServer::new(move || {
        App::new().app_data(shared.clone()).route("/webhooks/cognigy", web::post().to(receive))
    })
    .bind("127.0.0.1:0")?;
    println!("{}", server.addrs()[0]);
    std::io::stdout().flush()?;
    server.run().await?;
    Ok(())
}

async fn receive(
    request: HttpRequest,
    body: web::Bytes,
    shared: web::Data<Shared>,
) -> HttpResponse {
    let signature = request.headers().get("x-cognigy-signature");
    let tag = signature.and_then(|value| STANDARD.decode(value.as_bytes()).ok());
    let verified =
        tag.is_some_and(|tag| shared.key.clone().chain_update(&body).verify_slice(&tag).is_ok());
    if !verified {
        return HttpResponse::Unauthorized().finish();
    }
    let Ok(event) = serde_json::from_slice::<Event>(&body) else {
        return HttpResponse::BadRequest().finish();
    };
    let (done, outcome) = oneshot::channel();
    if shared.queue.try_send(Job { event, body, done }).is_err() {
        return HttpResponse::ServiceUnavailable().finish();
    }
    match outcome.await {
        Ok(true) => HttpResponse::Ok().json(serde_json::json!({ "status": "accepted" })),
        _ => HttpResponse::ServiceUnavailable().finish(),
    }
}

fn write(connection: &Connection, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut group = vec![first];
        group.extend(jobs.try_iter().take(1023));
        let committed = commit(connection, &group).is_ok();
        for job in group {
            let _ = job.done.send(committed);
        }
    }
}

fn commit(connection: &Connection, group: &[Job]) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    {
        let mut insert = connection.prepare_cached(
            "INSERT OR IGNORE INTO events (event_id, type, timestamp, external_id, user_id, status, body)
             VALUES (?1, ?2, ?3, ?4, ?5, 'pending', ?6)",
        )?;
        for Job { event, body, .. } in group {
            let _ = &event.payload;
            insert.execute((
                &event.event_id,
                &event.kind,
                &event.timestamp,
                &event.external_id,
                &event.user_id,
                &body[..],
            ))?;
        }
    }
    connection.execute_batch("COMMIT")
}

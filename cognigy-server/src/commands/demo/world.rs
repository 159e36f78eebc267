//! A pretend CRM, reached over real HTTP, and a pretend queue. Both keep their own books.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, web};
use async_trait::async_trait;
use cognigy_core::{DeadLetter, DeadLetterSink, Failure};
use serde_json::json;

use crate::error::StartError;

/// How often the CRM fails for a contact that it knows only "after a while".
pub(super) const SHAKY_FAILURES: u64 = 2;

#[derive(Default)]
struct Books {
    recovered: AtomicBool,
    asked: Mutex<HashMap<String, u64>>,
}

/// The pretend CRM. What it answers hangs on the contact: `customer-…` is known, `stranger-…` is
/// not, `shaky-…` fails twice first, `down-…` fails until the CRM recovers.
pub(super) struct PretendCrm {
    address: SocketAddr,
    server: ServerHandle,
    books: Arc<Books>,
}

impl PretendCrm {
    pub(super) async fn start() -> Result<Self, StartError> {
        let books = Arc::new(Books::default());
        let shared = web::Data::from(books.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .service(web::resource("/v1/contacts").route(web::get().to(contacts)))
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .map_err(|error| StartError::failed("the pretend CRM cannot listen", &error))?;
        let address = server
            .addrs()
            .first()
            .copied()
            .ok_or_else(|| StartError::Failed("the pretend CRM has no address".to_owned()))?;
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { address, server: handle, books })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on everybody's look-up works.
    pub(super) fn recover(&self) {
        self.books.recovered.store(true, Ordering::Relaxed);
    }

    /// How often it was asked, by the kind of contact.
    pub(super) fn asked(&self) -> BTreeMap<String, u64> {
        let mut kinds = BTreeMap::new();
        for (contact, times) in lock(&self.books.asked).iter() {
            let kind = contact.split('-').next().unwrap_or_default();
            *kinds.entry(kind.to_owned()).or_default() += times;
        }
        kinds
    }

    pub(super) async fn stop(self) {
        self.server.stop(false).await;
    }
}

async fn contacts(
    query: web::Query<HashMap<String, String>>,
    books: web::Data<Books>,
) -> HttpResponse {
    let contact = query.get("external_id").cloned().unwrap_or_default();
    let times = {
        let mut asked = lock(&books.asked);
        let times = asked.entry(contact.clone()).or_default();
        *times += 1;
        *times
    };
    let recovered = books.recovered.load(Ordering::Relaxed);
    match contact.split('-').next() {
        Some("stranger") => HttpResponse::NotFound().finish(),
        Some("shaky") if !recovered && times <= SHAKY_FAILURES => {
            HttpResponse::ServiceUnavailable().finish()
        }
        Some("down") if !recovered => HttpResponse::InternalServerError().finish(),
        _ => HttpResponse::Ok().json(json!({ "id": contact, "tier": "gold" })),
    }
}

/// The pretend dead-letter queue: down for its first call, like any real one now and then.
#[derive(Default)]
pub(super) struct PretendQueue {
    tried: AtomicBool,
    letters: Mutex<Vec<DeadLetter>>,
}

impl PretendQueue {
    pub(super) fn letters(&self) -> Vec<DeadLetter> {
        lock(&self.letters).clone()
    }
}

#[async_trait]
impl DeadLetterSink for PretendQueue {
    async fn send(&self, batch: &[DeadLetter]) -> Vec<Result<(), Failure>> {
        if !self.tried.swap(true, Ordering::Relaxed) {
            let down = || Failure::transient("the pretend queue is down");
            return batch.iter().map(|_| Err(down())).collect();
        }
        lock(&self.letters).extend_from_slice(batch);
        batch.iter().map(|_| Ok(())).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

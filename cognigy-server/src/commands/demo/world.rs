//! A pretend CRM, called over real HTTP, and a pretend queue. Each counts what it was asked to do.

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

/// How often the CRM fails for a `shaky-…` contact before it answers.
pub(super) const SHAKY_FAILURES: u64 = 2;

#[derive(Default)]
struct Calls {
    recovered: AtomicBool,
    asked: Mutex<HashMap<String, u64>>,
}

/// The pretend CRM. The contact decides its answer: `customer-…` is known, `stranger-…` is not,
/// `shaky-…` fails twice first, `down-…` fails until the CRM recovers.
pub(super) struct PretendCrm {
    address: SocketAddr,
    server: ServerHandle,
    calls: Arc<Calls>,
}

impl PretendCrm {
    pub(super) async fn start() -> Result<Self, StartError> {
        let calls = Arc::new(Calls::default());
        let shared = web::Data::from(calls.clone());
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
        Ok(Self { address, server: handle, calls })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on every look-up succeeds.
    pub(super) fn recover(&self) {
        self.calls.recovered.store(true, Ordering::Relaxed);
    }

    /// How often the CRM was asked, by the kind of contact.
    pub(super) fn asked(&self) -> BTreeMap<String, u64> {
        let mut kinds = BTreeMap::new();
        for (contact, times) in lock(&self.calls.asked).iter() {
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
    calls: web::Data<Calls>,
) -> HttpResponse {
    let contact = query.get("external_id").cloned().unwrap_or_default();
    let times = {
        let mut asked = lock(&calls.asked);
        let times = asked.entry(contact.clone()).or_default();
        *times += 1;
        *times
    };
    let recovered = calls.recovered.load(Ordering::Relaxed);
    match contact.split('-').next() {
        Some("stranger") => HttpResponse::NotFound().finish(),
        Some("shaky") if !recovered && times <= SHAKY_FAILURES => {
            HttpResponse::ServiceUnavailable().finish()
        }
        Some("down") if !recovered => HttpResponse::InternalServerError().finish(),
        _ => HttpResponse::Ok().json(json!({ "id": contact, "tier": "gold" })),
    }
}

/// The pretend dead-letter queue. Its first call fails, as a real queue's may.
#[derive(Default)]
pub(super) struct PretendQueue {
    tried: AtomicBool,
    dead_letters: Mutex<Vec<DeadLetter>>,
}

impl PretendQueue {
    pub(super) fn dead_letters(&self) -> Vec<DeadLetter> {
        lock(&self.dead_letters).clone()
    }
}

#[async_trait]
impl DeadLetterSink for PretendQueue {
    async fn send(&self, batch: &[DeadLetter]) -> Vec<Result<(), Failure>> {
        if !self.tried.swap(true, Ordering::Relaxed) {
            let down = || Failure::transient("the pretend queue is down");
            return batch.iter().map(|_| Err(down())).collect();
        }
        lock(&self.dead_letters).extend_from_slice(batch);
        batch.iter().map(|_| Ok(())).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

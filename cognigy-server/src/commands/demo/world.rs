//! A pretend CRM, called over real HTTP, and a pretend queue. Each counts what it was asked to do.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, web};
use async_trait::async_trait;
use cognigy_core::{
    Authenticator, DeadLetter, DeadLetterSink, Failure, RawDelivery, Secret, SigningScheme,
    SigningVerifier,
};
use serde_json::{Value, json};

use super::FORWARD_SECRET;
use crate::error::StartError;

/// How often the CRM fails for a `shaky-…` contact before it answers.
pub(super) const SHAKY_FAILURES: u64 = 2;

#[derive(Default)]
struct Calls {
    recovered: AtomicBool,
    asked: Mutex<HashMap<String, u64>>,
    /// The ids of messages that were handed on and whose signature is right.
    handed_on: Mutex<HashSet<String>>,
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
                .service(
                    web::resource("/crm/v3/objects/contacts/batch/read")
                        .route(web::post().to(hubspot_batch)),
                )
                .service(
                    web::resource("/crm/v3/objects/contacts/{key}").route(web::get().to(hubspot)),
                )
                .service(web::resource("/events").route(web::post().to(take_event)))
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

    /// How many messages were handed on, each counted once.
    pub(super) fn handed_on(&self) -> u64 {
        lock(&self.calls.handed_on).len() as u64
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

/// Counts a look-up of `key`.
fn count(calls: &Calls, key: &str) {
    *lock(&calls.asked).entry(key.to_owned()).or_default() += 1;
}

/// A contact as HubSpot writes it.
fn hubspot_contact(key: &str) -> Value {
    json!({ "id": "501", "properties": { "ext_id": key, "email": null }, "archived": false })
}

/// HubSpot's answer to a look-up of one contact.
async fn hubspot(key: web::Path<String>, calls: web::Data<Calls>) -> HttpResponse {
    count(&calls, &key);
    HttpResponse::Ok().json(hubspot_contact(&key))
}

/// HubSpot's answer to a look-up of many.
async fn hubspot_batch(body: web::Bytes, calls: web::Data<Calls>) -> HttpResponse {
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let keys = asked["inputs"].as_array().into_iter().flatten();
    let keys: Vec<_> = keys.filter_map(|input| input["id"].as_str()).collect();
    keys.iter().for_each(|key| count(&calls, key));
    let results: Vec<_> = keys.iter().map(|key| hubspot_contact(key)).collect();
    HttpResponse::Ok().json(json!({ "status": "COMPLETE", "results": results }))
}

/// A service that takes events which are handed on: it checks the signature and notes the id.
async fn take_event(
    request: HttpRequest,
    body: web::Bytes,
    calls: web::Data<Calls>,
) -> HttpResponse {
    let id = request.headers().get("webhook-id").and_then(|id| id.to_str().ok());
    let scheme = SigningScheme::named("standard-webhooks");
    let secret = Secret::new(FORWARD_SECRET).ok();
    let verifier =
        scheme.zip(secret).and_then(|(scheme, secret)| SigningVerifier::new(scheme, &secret).ok());
    let delivery = RawDelivery::new(request.headers(), body);
    let is_right = verifier.is_some_and(|verifier| {
        verifier.authenticate(&delivery.request(chrono::Utc::now())).is_ok()
    });
    match id.filter(|_| is_right) {
        Some(id) => {
            lock(&calls.handed_on).insert(id.to_owned());
            HttpResponse::NoContent().finish()
        }
        None => HttpResponse::Unauthorized().finish(),
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

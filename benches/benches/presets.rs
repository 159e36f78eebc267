//! Senders of other kinds and CRMs by templates, each beside what it is measured against:
//!
//! * reading a delivery of each preset beside code written by hand that makes the same check and parses
//!   the same fields;
//! * a batch of 100 CloudEvents beside 100 single ones, recorded durably;
//! * a look-up by each CRM's template beside one by the simple client, over HTTP on one machine.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{hint::black_box, net::SocketAddr, time::Duration};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use base64::{Engine, engine::general_purpose::STANDARD};
use cognigy_core::{
    ContactQuery, CredentialPlace, CredentialVerifier, CrmClient, FormatOptions, FormatPreset,
    Pipeline, RawDelivery, Secret, SigningScheme, SigningVerifier, Source, SourceName, Timestamp,
    ToSign,
};
use cognigy_crm_http::{CrmPreset, HttpCrm, TemplateCrm};
use cognigy_store_sqlite::SqliteStore;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const SECRET: &str = "a-secret-of-thirty-two-characters";
const USER: &str = "cognigy:a-password-of-some-length";

/// A call-back of about a kilobyte, as each sender would write it.
fn callback() -> String {
    let text = "a few words of a flow ".repeat(40);
    format!(
        r#"{{"userId":"u-42","sessionId":"s-7","AIOutput":{{"text":"{text}","data":{{}},"traceId":"t-1","disableSensitiveLogging":false,"source":"bot"}}}}"#
    )
}

fn call_status() -> String {
    let padding = "x".repeat(700);
    format!(
        r#"{{"call_sid":"c-1","direction":"inbound","from":"+4930000001","to":"+4930000002","call_status":"completed","sip_status":200,"note":"{padding}"}}"#
    )
}

fn source(preset: FormatPreset, authenticator: impl cognigy_core::Authenticator) -> Source {
    let format = preset.format(FormatOptions::default()).unwrap();
    Source::new(SourceName::default(), authenticator, format)
}

fn read(source: &Source, headers: &[(&str, String)], body: &str, now: Timestamp) -> usize {
    let pairs: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
    let raw = RawDelivery::new(Kept(&pairs), body.to_owned());
    let delivery = source.verify(raw, now).unwrap();
    source.read(&delivery).unwrap().len()
}

struct Kept<'a>(&'a [(&'a str, &'a str)]);

impl cognigy_core::Headers for Kept<'_> {
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.0.iter().for_each(|(name, value)| visit(name, value.as_bytes()));
    }
}

fn reading(criterion: &mut Criterion) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Callback {
        user_id: String,
        session_id: String,
        #[serde(rename = "AIOutput")]
        output: serde_json::Value,
    }
    #[derive(Deserialize)]
    struct Call {
        call_sid: String,
        call_status: String,
        from: String,
    }
    let now = Timestamp::from_timestamp(1_767_225_600, 0).unwrap();
    let mut group = criterion.benchmark_group("read");

    let body = callback();
    let secret = Secret::new(USER).unwrap();
    let by_preset = source(
        FormatPreset::CognigyCallback,
        CredentialVerifier::new(CredentialPlace::Basic, &secret),
    );
    let headers = [("Authorization", format!("Basic {}", STANDARD.encode(USER)))];
    group.bench_function("cognigy-callback", |bencher| {
        bencher.iter(|| read(&by_preset, black_box(&headers), black_box(&body), now));
    });
    let expected: [u8; 32] = Sha256::digest(USER).into();
    group.bench_function("cognigy-callback by hand", |bencher| {
        bencher.iter(|| {
            let shown = black_box(&headers[0].1).strip_prefix("Basic ").unwrap();
            let shown: [u8; 32] = Sha256::digest(STANDARD.decode(shown).unwrap()).into();
            assert!(bool::from(shown.ct_eq(&expected)));
            let owned = black_box(&body).clone();
            let read: Callback = serde_json::from_str(&owned).unwrap();
            let id = Sha256::digest(owned.as_bytes());
            (read.user_id.len(), read.session_id.len(), read.output.is_object(), id)
        });
    });

    let body = call_status();
    let scheme = SigningScheme::named("voice-gateway").unwrap();
    let secret = Secret::new(SECRET).unwrap();
    let to_sign =
        ToSign { body: body.as_bytes(), id: "", at: now, method: "POST", url: "http://h/" };
    let signed = scheme.sign(&secret, &to_sign).unwrap();
    let headers = [("Jambonz-Signature", signed[0].1.clone())];
    let by_preset =
        source(FormatPreset::VoiceGateway, SigningVerifier::new(scheme, &secret).unwrap());
    group.bench_function("voice-gateway", |bencher| {
        bencher.iter(|| read(&by_preset, black_box(&headers), black_box(&body), now));
    });
    let key = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    group.bench_function("voice-gateway by hand", |bencher| {
        bencher.iter(|| {
            let value = black_box(&headers[0].1);
            let (time, tag) = value.split_once(',').unwrap();
            let time = time.strip_prefix("t=").unwrap();
            let tag = tag.strip_prefix("v1=").unwrap();
            let mut mac = key.clone();
            mac.update(time.as_bytes());
            mac.update(b".");
            mac.update(body.as_bytes());
            let made = format!("{:x}", HexTag(mac.finalize().into_bytes().into()));
            assert!(bool::from(made.as_bytes().ct_eq(tag.as_bytes())));
            let owned = black_box(&body).clone();
            let read: Call = serde_json::from_str(&owned).unwrap();
            let id = Sha256::digest(owned.as_bytes());
            (read.call_sid.len(), read.call_status.len(), read.from.len(), id)
        });
    });
    group.finish();
}

struct HexTag([u8; 32]);

impl std::fmt::LowerHex for HexTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn batches(criterion: &mut Criterion) {
    const BATCH: u64 = 100;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("cloudevents");
    group.throughput(Throughput::Elements(BATCH)).sample_size(20);
    let secret = Secret::new(SECRET).unwrap();
    let event = |id: u64| {
        format!(
            r#"{{"specversion":"1.0","type":"order.placed","source":"/shop","id":"{id}","data":{{"total":12.5}}}}"#
        )
    };
    for (name, size) in [("one batch of 100", BATCH), ("100 single ones", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let store = runtime.block_on(SqliteStore::open(folder.path().join("b.db"))).unwrap();
        let verifier = CredentialVerifier::new(CredentialPlace::Bearer, &secret);
        let source = source(FormatPreset::CloudEvents, verifier);
        let pipeline = Pipeline::builder(source).store(store).build().unwrap();
        let mut next = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for _ in 0..BATCH / size {
                    let events: Vec<_> = (next..next + size).map(event).collect();
                    next += size;
                    let (kind, body) = match size {
                        1 => ("application/cloudevents+json", events[0].clone()),
                        _ => (
                            "application/cloudevents-batch+json",
                            format!("[{}]", events.join(",")),
                        ),
                    };
                    let bearer = format!("Bearer {SECRET}");
                    let headers = [("Authorization", &*bearer), ("Content-Type", kind)];
                    let raw = RawDelivery::new(Kept(&headers), body);
                    let now = std::time::SystemTime::now().into();
                    let reply = runtime.block_on(pipeline.ingest(raw, now));
                    assert_eq!(reply.status(), 202);
                }
            });
        });
    }
    group.finish();
}

/// What each CRM answers for the contact `c-1`, by the path it is asked at.
async fn answer(request: HttpRequest) -> HttpResponse {
    let body = match request.path() {
        "/v1/contacts" => r#"{"id":"501","email":"a@example.test"}"#,
        "/api/v2/users/show_many.json" => {
            r#"{"users":[{"id":9,"external_id":"c-1","email":"a@example.test"}],"count":1}"#
        }
        "/api/v2/contacts" => {
            r#"[{"id":3001,"unique_external_id":"c-1","email":"a@example.test"}]"#
        }
        path if path.contains("/query") => {
            r#"{"totalSize":1,"done":true,"records":[{"Id":"003X","ext":"c-1"}]}"#
        }
        path if path.contains("/crm/v3/") => {
            r#"{"id":"501","properties":{"ext":"c-1","email":"a@example.test"},"archived":false}"#
        }
        path if path.contains("find_by_external_id") => {
            r#"{"type":"contact","id":"66aa","external_id":"c-1","email":"a@example.test"}"#
        }
        path if path.contains("/Contacts") => r#"{"data":[{"id":"1111","ext":"c-1"}]}"#,
        path if path.contains("/contacts") => {
            r#"{"value":[{"contactid":"1","ext":"c-1"}],"contactid":"1","ext":"c-1"}"#
        }
        _ => "{}",
    };
    HttpResponse::Ok().content_type("application/json").body(body)
}

fn serve() -> SocketAddr {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let app = || App::new().default_service(web::to(answer));
            let server = HttpServer::new(app).workers(1).bind(("127.0.0.1", 0)).unwrap();
            sender.send(server.addrs()[0]).unwrap();
            server.run().await.unwrap();
        });
    });
    receiver.recv().unwrap()
}

fn look_ups(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let url = format!("http://{}", serve());
    let query = ContactQuery {
        contact_key: "c-1".to_owned(),
        idempotency_key: "cognigy/e1/1".to_owned(),
        fresh: true,
        traceparent: None,
    };
    let mut group = criterion.benchmark_group("crm");
    group.measurement_time(Duration::from_secs(4));
    let simple = HttpCrm::builder(&url).bearer_token("token").build().unwrap();
    group.bench_function("simple", |bencher| {
        bencher.iter(|| runtime.block_on(simple.find_contact(&query)).unwrap().unwrap());
    });
    // Pipedrive asks twice for each contact, so that it has no place beside the others.
    for preset in CrmPreset::ALL.into_iter().filter(|preset| *preset != CrmPreset::Pipedrive) {
        let template = preset.template().unwrap();
        let can_change = template.external_id_field_can_change();
        let mut builder = TemplateCrm::builder(template).base_url(&url).token("user:token");
        if can_change && preset != CrmPreset::Freshdesk {
            builder = builder.external_id_field("ext");
        }
        let crm = builder.build().unwrap();
        group.bench_function(preset.as_str(), |bencher| {
            bencher.iter(|| runtime.block_on(crm.find_contact(&query)).unwrap().unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, reading, batches, look_ups);
criterion_main!(benches);

//! The library inside a service of your own: thirty lines of actix-web.
//!
//! ```sh
//! WEBHOOK_SECRET=change-me-please cargo run -p cognigy-embedding
//! ```

use std::{error::Error, sync::Arc};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, http::StatusCode, web};
use cognigy_core::{
    Clock, Contact, Event, Pipeline, RawDelivery, Secret, SignatureVerifier, TokioClock, Worker,
};
use cognigy_store_sqlite::SqliteStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let secret = Secret::new(std::env::var("WEBHOOK_SECRET")?)?;
    let pipeline = Pipeline::builder(SignatureVerifier::new(&secret))
        .store(SqliteStore::open("embedded.db").await?)
        .handler(|event: Arc<Event>, _contact: Option<Contact>| async move {
            println!("{} {:?}", event.kind(), event.id());
            Ok(())
        })
        .build()?;
    let clock = TokioClock::new();
    let worker = Worker::spawn(pipeline.clone(), clock);

    let shared = web::Data::new((pipeline, clock));
    HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            // Add your routes here. actix's own limit applies to the body before the library's.
            .app_data(web::PayloadConfig::new(cognigy_core::DEFAULT_MAX_BODY_BYTES))
            .route("/webhooks/cognigy", web::post().to(receive))
    })
    .bind("127.0.0.1:8000")?
    .run()
    .await?;

    worker.shutdown().await;
    Ok(())
}

async fn receive(
    request: HttpRequest,
    body: web::Bytes,
    shared: web::Data<(Pipeline, TokioClock)>,
) -> HttpResponse {
    let (pipeline, clock) = &**shared;
    let reply = pipeline.ingest(RawDelivery::new(request.headers(), body), clock.now()).await;
    let status = StatusCode::from_u16(reply.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    for header in reply.headers() {
        response.insert_header(header);
    }
    response.body(reply.body().clone())
}

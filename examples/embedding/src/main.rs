//! The library inside an actix-web service of your own. `examples/embedding-axum` is the same with axum.
//!
//! ```sh
//! WEBHOOK_SECRET=change-me-please cargo run -p cognigy-embedding
//! ```

use std::error::Error;

use actix_web::{App, HttpServer};
use cognigy::{prelude::*, sqlite::SqliteStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let secret =
        Secret::new(std::env::var("WEBHOOK_SECRET").map_err(|_| "WEBHOOK_SECRET is not set")?)?;
    let pipeline = Pipeline::builder(SignatureVerifier::new(&secret))
        .store(SqliteStore::open("embedded.db").await?)
        .handler(Handlers::new().on(greet))
        .build()?;
    let service = Service::builder(pipeline).start().await?;

    let cognigy = service.clone();
    // Add your routes here.
    HttpServer::new(move || App::new().configure(cognigy::actix::configure(&cognigy)))
        .bind("127.0.0.1:8000")?
        .run()
        .await?;
    service.shutdown().await;
    Ok(())
}

async fn greet(said: UserInput<String>, cx: HandlerContext) -> Result<(), Failure> {
    println!("{:?} said {:?}", cx.event().contact_key(), said.input);
    Ok(())
}

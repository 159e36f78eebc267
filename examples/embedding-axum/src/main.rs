//! The library inside an axum service of your own. `examples/embedding` is the same with actix-web.
//!
//! ```sh
//! WEBHOOK_SECRET=change-me-please cargo run -p cognigy-embedding-axum
//! ```

use std::{error::Error, net::SocketAddr};

use axum::Router;
use cognigy::{prelude::*, sqlite::SqliteStore};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let secret =
        Secret::new(std::env::var("WEBHOOK_SECRET").map_err(|_| "WEBHOOK_SECRET is not set")?)?;
    let pipeline = Pipeline::builder(SignatureVerifier::new(&secret))
        .store(SqliteStore::open("embedded.db").await?)
        .handler(Handlers::new().on(greet))
        .build()?;
    let service = Service::builder(pipeline).start().await?;

    // Add your routes here.
    let app = Router::new().merge(cognigy::axum::router(&service));
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(TcpListener::bind("127.0.0.1:8000").await?, app)
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    service.shutdown().await;
    Ok(())
}

async fn greet(said: UserInput<String>, cx: HandlerContext) -> Result<(), Failure> {
    println!("{:?} said {:?}", cx.event().contact_key(), said.input);
    Ok(())
}

//! The service that the tests of the crates for web frameworks put behind their routes.

use std::path::Path;

use cognigy_core::{FormatOptions, FormatPreset, Pipeline, Secret, SignatureVerifier, Source};
use cognigy_service::Service;
use cognigy_store_sqlite::SqliteStore;

use crate::{SECRET, Setup};

/// A service of both sources, whose database is in `folder`.
pub async fn service(setup: Setup, folder: &Path) -> Service {
    let store = SqliteStore::open(folder.join("webhooks.db")).await.unwrap();
    let verifier = || SignatureVerifier::new(&Secret::new(SECRET).unwrap());
    let events = FormatPreset::CloudEvents.format(FormatOptions::default()).unwrap();
    let events = Source::new("events".parse().unwrap(), verifier(), events);
    let pipeline = |source: Source| {
        Pipeline::builder(source)
            .store(store.clone())
            .max_body_bytes(setup.max_body_bytes)
            .build()
            .unwrap()
    };
    let service = Service::builder(pipeline(verifier().into())).pipeline(pipeline(events));
    service.max_in_flight(setup.max_in_flight).start().await.unwrap()
}

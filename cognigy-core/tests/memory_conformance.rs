//! The reference store keeps the contract of stores.

use cognigy_core::memory::MemoryStore;

async fn fresh_store() -> (MemoryStore, ()) {
    (MemoryStore::new(), ())
}

cognigy_core::store_conformance!(#[tokio::test], fresh_store);

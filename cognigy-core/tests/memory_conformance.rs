//! The reference store fulfils the contract of stores, and the contract of stores that keep an
//! order. So does a shared store.

use std::sync::Arc;

use cognigy_core::{EventOrder, memory::MemoryStore};

async fn fresh_store() -> (MemoryStore, ()) {
    (MemoryStore::new(), ())
}

async fn ordered_store(order: EventOrder) -> (MemoryStore, ()) {
    (MemoryStore::keeping(order), ())
}

cognigy_core::store_conformance!(#[tokio::test], fresh_store);

mod shared {
    use super::{Arc, MemoryStore};

    async fn fresh_store() -> (Arc<MemoryStore>, ()) {
        (Arc::new(MemoryStore::new()), ())
    }

    cognigy_core::store_conformance!(#[tokio::test], fresh_store);
}

mod while_order_is_kept {
    use super::ordered_store;

    cognigy_core::ordered_store_conformance!(#[tokio::test], ordered_store);
}

//! The simulated disk fulfils the contract of a store, so that a failure on it is not its own
//! fault.

use cognigy_core::EventOrder;
use cognigy_simulation::Disk;

async fn fresh_store() -> (Disk, ()) {
    (Disk::new(), ())
}

async fn ordered_store(order: EventOrder) -> (Disk, ()) {
    (Disk::keeping(order, None), ())
}

cognigy_core::store_conformance!(#[tokio::test], fresh_store);

mod while_order_is_kept {
    use super::ordered_store;

    cognigy_core::ordered_store_conformance!(#[tokio::test], ordered_store);
}

//! The simulated disk keeps the contract of a store, so that what fails on it is not its own fault.

use cognigy_simulation::Disk;

async fn fresh_store() -> (Disk, ()) {
    (Disk::new(), ())
}

cognigy_core::store_conformance!(#[tokio::test], fresh_store);

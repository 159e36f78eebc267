//! The HTTP contract that the server shares with the crates for web frameworks. What is the server's alone
//! is in `contract_http`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use cognigy_contract_tests::{ANNA, BILL, RITA, Running, SECRET, Setup};
use common::Site;

cognigy_contract_tests::contract_tests!(start);
cognigy_contract_tests::operator_tests!(start);

fn start(setup: Setup) -> Running {
    let mut site = Site::new();
    site.set("COGNIGY_WEBHOOK_SECRET", SECRET)
        .set("COGNIGY_MAX_BODY_BYTES", setup.max_body_bytes.to_string())
        .set("COGNIGY_MAX_IN_FLIGHT", setup.max_in_flight.to_string())
        .set("COGNIGY_SOURCES", "events")
        .set("COGNIGY_SOURCE_EVENTS_PRESET", "cloudevents")
        .set("COGNIGY_SOURCE_EVENTS_WEBHOOK_SECRET", SECRET);
    for (name, token, role) in
        [("ANNA", ANNA, "operator"), ("RITA", RITA, "reader"), ("BILL", BILL, "reader,bodies")]
    {
        site.set(&format!("COGNIGY_OPERATOR_{name}_TOKEN"), token);
        site.set(&format!("COGNIGY_OPERATOR_{name}_ROLE"), role);
    }
    let server = site.serve();
    Running::new(server.address, (server, site))
}

//! The client's own rate limit.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cognigy_crm_http::{CrmPreset::*, TemplateCrm};
use futures_util::future::join_all;

use crate::{
    KEY, Told, builder, find, record,
    stand_in::{StandIn, json},
};

/// A CRM that notes when requests arrive.
async fn timed(answer: String) -> (StandIn, Arc<Mutex<Vec<Instant>>>) {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&arrivals);
    let server = StandIn::start(move |_, seen| {
        noted.lock().unwrap().push(Instant::now());
        match seen.target().contains("/search") {
            true => json("200 OK", r#"{"data":{"items":[{"item":{"id":77}}]}}"#),
            false => json("200 OK", &answer),
        }
    })
    .await;
    (server, arrivals)
}

fn limited(server: &StandIn, limit: &str) -> TemplateCrm {
    builder(HubSpot, &server.url()).rate_limit(limit.parse().unwrap()).build().unwrap()
}

#[tokio::test]
async fn requests_beyond_the_limit_wait_for_their_turn() {
    let (server, arrivals) = timed(record(HubSpot, KEY).1).await;
    let crm = limited(&server, "5/500ms");
    let twin = crm.clone();
    let found = join_all((0..14).map(|n| find(if n % 2 == 0 { &crm } else { &twin }))).await;
    assert!(found.iter().all(|told| matches!(told, Told::Contact(_))), "{found:?}");
    let arrivals = arrivals.lock().unwrap();
    assert_eq!(arrivals.len(), 14);
    for window in arrivals.windows(6) {
        let span = window[5] - window[0];
        assert!(span > Duration::from_millis(450), "{span:?}");
    }
}

#[tokio::test]
async fn every_request_of_a_look_up_counts() {
    let (server, arrivals) = timed(record(Pipedrive, KEY).1).await;
    let limit = "1/300ms".parse().unwrap();
    let crm = builder(Pipedrive, &server.url()).rate_limit(limit).build().unwrap();
    assert!(matches!(find(&crm).await, Told::Contact(_)));
    let arrivals = arrivals.lock().unwrap();
    assert!(arrivals[1] - arrivals[0] > Duration::from_millis(250));
}

#[tokio::test]
async fn a_turn_that_comes_too_late_is_told_at_once() {
    let (server, arrivals) = timed(record(HubSpot, KEY).1).await;
    let crm = limited(&server, "1/1h");
    assert!(matches!(find(&crm).await, Told::Contact(_)));
    let began = Instant::now();
    let told = find(&crm).await;
    assert!(told.is_of_service(), "{told:?}");
    assert!((3590..=3601).contains(&told.wait().unwrap().as_secs()), "{told:?}");
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(arrivals.lock().unwrap().len(), 1);
}

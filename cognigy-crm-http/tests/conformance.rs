//! The contract of a CRM client, on the client of the generic CRM and on look-ups that are shared.
#![allow(clippy::unwrap_used)]

#[path = "../../cognigy-http/tests/stand_in/mod.rs"]
mod stand_in;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{CrmClient, testing::crm_conformance::CrmFixture};
use cognigy_crm_http::{CoalescingCrm, HttpCrm};
use percent_encoding::percent_decode_str;
use stand_in::{Act, Seen, StandIn, json};

/// The people that the stand-in knows; none while it is down.
type People = Arc<Mutex<Option<BTreeMap<String, String>>>>;

struct Fixture<C> {
    client: C,
    people: People,
    /// What it knew before it went down.
    kept: Mutex<BTreeMap<String, String>>,
    _server: StandIn,
}

fn asked_for(request: &Seen) -> String {
    let (path, query) = request.target().split_once('?').unwrap();
    assert_eq!(path, "/v1/contacts");
    let parameters: Vec<_> = query.split('&').collect();
    let [parameter] = parameters[..] else { panic!("{query}: one parameter is asked for") };
    let key = parameter.strip_prefix("external_id=").unwrap();
    percent_decode_str(key).decode_utf8().unwrap().into_owned()
}

async fn served<C>(client: impl FnOnce(HttpCrm) -> C) -> Fixture<C> {
    let people = People::new(Mutex::new(Some(BTreeMap::new())));
    let known = Arc::clone(&people);
    let server = StandIn::start(move |number, request| {
        let key = asked_for(request);
        let known = known.lock().unwrap();
        let Some(known) = &*known else {
            return if number.is_multiple_of(2) { Act::Reset } else { json("503 Down", "{}") };
        };
        match known.get(&key) {
            Some(marker) => json("200 OK", &format!(r#"{{"id":"{marker}"}}"#)),
            None => json("404 Not Found", "{}"),
        }
    })
    .await;
    let crm = HttpCrm::builder(server.url()).timeout(Duration::from_secs(10)).build().unwrap();
    Fixture { client: client(crm), people, kept: Mutex::default(), _server: server }
}

#[async_trait]
impl<C: CrmClient> CrmFixture for Fixture<C> {
    fn client(&self) -> &dyn CrmClient {
        &self.client
    }

    async fn knows(&self, contact_key: &str, marker: &str) {
        let mut people = self.people.lock().unwrap();
        people.as_mut().unwrap().insert(contact_key.to_owned(), marker.to_owned());
    }

    async fn goes_down(&self) {
        *self.kept.lock().unwrap() = self.people.lock().unwrap().take().unwrap();
    }

    async fn comes_back(&self) {
        *self.people.lock().unwrap() = Some(self.kept.lock().unwrap().clone());
    }
}

mod generic {
    use super::*;

    async fn fresh() -> Fixture<HttpCrm> {
        served(|crm| crm).await
    }

    cognigy_core::crm_conformance!(#[tokio::test], fresh);
}

mod shared_look_ups {
    use super::*;

    async fn fresh() -> Fixture<CoalescingCrm<HttpCrm>> {
        served(CoalescingCrm::new).await
    }

    cognigy_core::crm_conformance!(#[tokio::test], fresh);
}

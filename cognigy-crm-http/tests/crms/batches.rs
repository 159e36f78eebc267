//! Several look-ups in one request.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cognigy_crm_http::{Batching, CrmPreset, CrmPreset::*, TemplateCrm};
use futures_util::future::join_all;
use percent_encoding::percent_decode_str;

use crate::{
    Told, builder, find_key, list, record,
    stand_in::{Act, Seen, StandIn, answer, json},
};

fn batching(preset: CrmPreset, server: &StandIn) -> TemplateCrm {
    let batching = Batching::new(Duration::from_millis(30));
    builder(preset, &server.url()).batching(batching).build().unwrap()
}

async fn find_all(crm: &TemplateCrm, keys: &[&str]) -> Vec<Told> {
    join_all(keys.iter().map(|key| find_key(crm, key))).await
}

fn decoded(seen: &Seen) -> String {
    percent_decode_str(seen.target()).decode_utf8().unwrap().into_owned()
}

fn holder(preset: CrmPreset, records: &[&str]) -> String {
    let records = records.join(",");
    match preset {
        HubSpot => format!(r#"{{"status":"COMPLETE","results":[{records}]}}"#),
        Dynamics => format!(r#"{{"value":[{records}]}}"#),
        Intercom => format!(r#"{{"type":"list","data":[{records}],"total_count":1}}"#),
        _ => list(preset, &[&records]),
    }
}

#[tokio::test]
async fn look_ups_of_a_moment_make_one_request_and_each_key_gets_its_answer() {
    for preset in [Salesforce, Zendesk, Dynamics, Zoho] {
        let (one, _) = record(preset, "k-1");
        let (two, _) = record(preset, "k-2");
        let twin = two.replace("body", "another-body");
        let (stranger, _) = record(preset, "k-9");
        let body = holder(preset, &[&twin, &stranger, &one, &two]);
        let server = StandIn::always(json("200 OK", &body)).await;
        let told = find_all(&batching(preset, &server), &["k-1", "k-2", "k-3", "k-1"]).await;
        let first = Told::Contact(one);
        assert_eq!(told[1], Told::Ambiguous(Some(twin)), "{preset}");
        assert_eq!(told[2], Told::NoContact, "{preset}");
        assert!(told[0] == first && told[3] == first, "{preset}: {told:?}");
        let seen = server.seen();
        assert_eq!(seen.len(), 1, "{preset}");
        let keys = match preset {
            Salesforce => "IN ('k-1','k-2','k-3')",
            Dynamics => "PropertyValues=['k-1','k-2','k-3']",
            Zendesk => "external_ids=k-1,k-2,k-3",
            _ => "ids=k-1,k-2,k-3",
        };
        assert!(decoded(&seen[0]).contains(keys), "{}", decoded(&seen[0]));
    }
}

#[tokio::test]
async fn a_single_key_is_looked_up_as_ever() {
    let (found, body) = record(HubSpot, "k-1");
    let server = StandIn::always(json("200 OK", &body)).await;
    assert_eq!(find_key(&batching(HubSpot, &server), "k-1").await, Told::Contact(found));
    assert!(server.seen()[0].line().starts_with("GET /crm/v3/objects/contacts/k-1?"));
}

#[tokio::test]
async fn what_a_partial_answer_leaves_open_is_looked_up_alone() {
    for preset in [HubSpot, Intercom] {
        let (one, _) = record(preset, "k-1");
        let (two, alone) = record(preset, "k-2");
        let partial = holder(preset, &[&one]);
        let server = StandIn::start(move |_, seen| {
            if seen.line().starts_with("POST") {
                let status = if preset == HubSpot { "207 Multi-Status" } else { "200 OK" };
                return json(status, &partial);
            }
            match (seen.target().contains("k-2"), preset) {
                (true, _) => json("200 OK", &alone),
                (_, HubSpot) => json("404 x", r#"{"category":"OBJECT_NOT_FOUND"}"#),
                _ => json("404 x", r#"{"errors":[{"code":"not_found"}]}"#),
            }
        })
        .await;
        let told = find_all(&batching(preset, &server), &["k-1", "k-2", "k-3"]).await;
        assert_eq!(told, [Told::Contact(one), Told::Contact(two), Told::NoContact]);
        assert_eq!(server.seen().len(), 3);
        let body: serde_json::Value = serde_json::from_slice(&server.seen()[0].body).unwrap();
        let (keys, expected) = match preset {
            HubSpot => {
                (&body["inputs"], serde_json::json!([{"id":"k-1"},{"id":"k-2"},{"id":"k-3"}]))
            }
            _ => (&body["query"]["value"][0]["value"], serde_json::json!(["k-1", "k-2", "k-3"])),
        };
        assert_eq!(*keys, expected);
        if preset == HubSpot {
            assert_eq!(
                body["properties"],
                serde_json::json!(["email", "firstname", "lastname", "ext_id"])
            );
            assert_eq!(body["propertiesWithHistory"], serde_json::json!([]));
        }
    }
    // An answer that says itself that there is more leaves every missing key open.
    let (one, _) = record(Salesforce, "k-1");
    let cut = holder(Salesforce, &[&one]).replace("true", "false");
    let server = StandIn::start(move |n, _| match n {
        0 => json("200 OK", &cut),
        _ => json("200 OK", &holder(Salesforce, &[])),
    })
    .await;
    let told = find_all(&batching(Salesforce, &server), &["k-1", "k-2"]).await;
    assert_eq!(told, [Told::Contact(one), Told::NoContact]);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_refused_batch_is_not_the_fault_of_its_keys() {
    let (found, alone) = record(HubSpot, "k-1");
    let server = StandIn::start(move |_, seen| match seen.line() {
        line if line.starts_with("POST") => json("400 Bad Request", "{}"),
        line if line.contains("k-1") => json("200 OK", &alone),
        _ => json("400 Bad Request", "{}"),
    })
    .await;
    let told = find_all(&batching(HubSpot, &server), &["k-1", "poison"]).await;
    assert_eq!(told[0], Told::Contact(found));
    assert!(told[1].is_permanent());
}

#[tokio::test]
async fn a_crm_that_takes_no_requests_is_not_asked_once_more_for_each_key() {
    let throttled = Act::Say(answer("429 x", "Retry-After: 5\r\n", ""));
    for act in [throttled, json("401 x", ""), json("503 x", "")] {
        let server = StandIn::always(act).await;
        let told = find_all(&batching(HubSpot, &server), &["k-1", "k-2", "k-3"]).await;
        assert!(told.iter().all(Told::is_of_service), "{told:?}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_batch_holds_no_more_than_the_crm_takes() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&sizes);
    let server = StandIn::start(move |_, seen| {
        let ids = decoded(seen).split_once('=').unwrap().1.split(',').count();
        noted.lock().unwrap().push(ids);
        json("200 OK", r#"{"users":[]}"#)
    })
    .await;
    let keys: Vec<String> = (0..230).map(|n| format!("k-{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let told = find_all(&batching(Zendesk, &server), &keys).await;
    assert!(told.iter().all(|told| *told == Told::NoContact));
    let mut sizes = sizes.lock().unwrap().clone();
    sizes.sort_unstable();
    assert_eq!(sizes, [30, 100, 100]);
}

#[tokio::test]
async fn a_key_that_a_batch_cannot_express_goes_alone() {
    let (found, body) = record(Zendesk, "a,b");
    let server = StandIn::always(json("200 OK", &body)).await;
    let told = find_all(&batching(Zendesk, &server), &["a,b", "k-1", "k-2"]).await;
    assert_eq!(told, [Told::Contact(found), Told::NoContact, Told::NoContact]);
    let mut targets: Vec<_> = server.seen().iter().map(decoded).collect();
    targets.sort();
    let batch = "/api/v2/users/show_many.json?external_ids=k-1,k-2";
    assert_eq!(targets, ["/api/v2/users/search.json?external_id=a,b", batch].map(sort_key));
    fn sort_key(text: &str) -> String {
        text.to_owned()
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_affect_the_others() {
    let (found, body) = record(Zendesk, "k-2");
    let server = StandIn::always(json("200 OK", &body)).await;
    let crm = batching(Zendesk, &server);
    let gone = tokio::time::timeout(Duration::from_millis(5), find_key(&crm, "k-1"));
    let (gone, told) = tokio::join!(gone, find_key(&crm, "k-2"));
    assert!(gone.is_err());
    assert_eq!(told, Told::Contact(found));
}

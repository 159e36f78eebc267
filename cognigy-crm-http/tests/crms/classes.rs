//! What everything else becomes, the same for all templates.

use std::time::{Duration, Instant};

use cognigy_crm_http::{CrmPreset, CrmPreset::*};

use crate::{
    BODY, KEY, Scene, Told, builder, crm, find, record,
    stand_in::{Act, StandIn, answer, closed_port, json},
    told_of,
};

#[tokio::test]
async fn every_status_has_its_class() {
    for preset in CrmPreset::ALL {
        let scene = Scene::new(preset).await;
        for status in
            [300, 301, 302, 304, 307, 308, 400, 402, 403, 404, 405, 406, 410, 415, 422, 451]
        {
            let told = scene.told(json(&format!("{status} x"), BODY)).await;
            assert!(told.is_permanent(), "{preset} {status}: {told:?}");
        }
        for status in [408, 409, 423, 425, 500, 501, 502, 504, 520, 524] {
            let told = scene.told(json(&format!("{status} x"), BODY)).await;
            assert!(told.is_transient(), "{preset} {status}: {told:?}");
        }
        for status in [401, 429, 503] {
            let told = scene.told(json(&format!("{status} x"), BODY)).await;
            assert!(told.is_of_service(), "{preset} {status}: {told:?}");
        }
    }
}

#[tokio::test]
async fn a_retry_after_travels_along() {
    for (status, of_service) in
        [("429 x", true), ("503 x", true), ("403 x", true), ("502 x", false)]
    {
        let act = Act::Say(answer(status, "Retry-After: 120\r\n", ""));
        let told = told_of(HubSpot, act).await;
        assert_eq!(told.wait(), Some(Duration::from_secs(120)), "{status}");
        assert_eq!(told.is_of_service(), of_service, "{status}");
    }
    let past = Act::Say(answer("503 x", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", ""));
    assert_eq!(told_of(HubSpot, past).await.wait(), Some(Duration::ZERO));
}

#[tokio::test]
async fn a_fixed_credential_that_is_refused_is_no_event_s_fault() {
    let server = StandIn::always(json("401 x", r#"{"category":"EXPIRED_AUTHENTICATION"}"#)).await;
    let told = find(&crm(HubSpot, &server)).await;
    assert!(told.is_of_service());
    let message =
        "CRM refused the credential: it answered 401 Unauthorized (EXPIRED_AUTHENTICATION)";
    assert_eq!(told.message(), message);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_crm_that_cannot_be_reached_is_down_for_every_event() {
    let told = find(&builder(HubSpot, &closed_port().await).build().unwrap()).await;
    assert!(told.is_of_service(), "{told:?}");
    let crm = builder(HubSpot, "http://nowhere.invalid").build().unwrap();
    assert!(find(&crm).await.is_of_service());
}

#[tokio::test]
async fn no_look_up_takes_longer_than_its_time_limit() {
    let hurried = |preset, server: &StandIn| {
        builder(preset, &server.url()).timeout(Duration::from_millis(400)).build().unwrap()
    };
    let drip = Act::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n".to_vec());
    let drip_error = Act::Drip(b"HTTP/1.1 404 x\r\nContent-Length: 9999\r\n\r\n".to_vec());
    for act in [Act::Hang, drip] {
        let server = StandIn::always(act).await;
        let began = Instant::now();
        let told = find(&hurried(HubSpot, &server)).await;
        assert!(told.is_transient(), "{told:?}");
        assert_eq!(told.message(), "CRM did not answer within 400ms");
        assert!(began.elapsed() < Duration::from_secs(3));
    }
    let server = StandIn::always(drip_error).await;
    assert!(!matches!(find(&hurried(HubSpot, &server)).await, Told::NoContact | Told::Contact(_)));
    // The limit is one for all requests of a look-up.
    let server = StandIn::start(|_, seen| {
        let found = r#"{"data":{"items":[{"item":{"id":1}},{"item":{"id":2}},{"item":{"id":3}}]}}"#;
        let body = if seen.target().contains("/search") { found } else { "{\"data\":{}}" };
        Act::SayLater(Duration::from_millis(250), answer("200 OK", "", body))
    })
    .await;
    let began = Instant::now();
    assert_eq!(
        find(&hurried(Pipedrive, &server)).await.message(),
        "CRM did not answer within 400ms"
    );
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_transient() {
    for act in [
        Act::Reset,
        Act::SayAndClose(Vec::new()),
        Act::SayAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"id\"".to_vec()),
    ] {
        assert!(told_of(HubSpot, act).await.is_transient());
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_permanent() {
    let mut scenes = Vec::new();
    for preset in CrmPreset::ALL {
        scenes.push((preset, Scene::new(preset).await));
    }
    for body in [
        "".to_owned(),
        format!("<html>{BODY}"),
        format!("{{\"id\":\"{BODY}"),
        format!("{{}}{BODY}"),
        "null".to_owned(),
        format!("\"{BODY}\""),
        "7".to_owned(),
    ] {
        for (preset, scene) in &scenes {
            let told = scene.told(json("200 OK", &body)).await;
            assert!(told.is_permanent(), "{preset} {body}: {told:?}");
        }
    }
    let told = told_of(HubSpot, Act::Say(answer("200 OK", "", b"\xff\xfe{}"))).await;
    assert_eq!(told.message(), "CRM answered with text that is not UTF-8");
    let marked = format!("\u{feff}{}", record(HubSpot, KEY).1);
    assert!(matches!(told_of(HubSpot, json("200 OK", &marked)).await, Told::Contact(_)));
}

#[tokio::test]
async fn no_answer_takes_more_memory_than_allowed() {
    let flood = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    for act in
        [Act::Flood(flood, 64 << 20), Act::Say(answer("200 OK", "", vec![b' '; (1 << 20) + 1]))]
    {
        let server = StandIn::always(act).await;
        let told = find(&crm(HubSpot, &server)).await;
        assert_eq!(told.message(), "CRM answered with more than 1048576 bytes");
        assert!(told.is_permanent());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(server.written() < 16 << 20, "{} bytes went out", server.written());
    }
    let flood = b"HTTP/1.1 404 x\r\nConnection: close\r\n\r\n".to_vec();
    let server = StandIn::always(Act::Flood(flood, 64 << 20)).await;
    assert!(find(&crm(HubSpot, &server)).await.is_permanent());
    let (_, body) = record(HubSpot, KEY);
    let server = StandIn::always(json("200 OK", &body)).await;
    for (limit, taken) in [(body.len(), true), (body.len() - 1, false)] {
        let crm = builder(HubSpot, &server.url()).max_response_bytes(limit).build().unwrap();
        assert_eq!(matches!(find(&crm).await, Told::Contact(_)), taken);
    }
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let other = StandIn::always(json("200 OK", &record(HubSpot, KEY).1)).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}/contacts\r\n", other.url());
        let told = told_of(HubSpot, Act::Say(answer(&format!("{status} x"), &location, ""))).await;
        assert!(told.is_permanent() && told.message().ends_with("redirects are not followed"));
    }
    assert_eq!(other.accepted(), 0);
}

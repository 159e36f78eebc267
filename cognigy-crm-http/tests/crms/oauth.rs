//! Tokens that are fetched: when, how often, and what a refusal becomes.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cognigy_crm_http::{AuthKind, CrmPreset, CrmPreset::*, TemplateCrm, TemplateCrmBuilder};
use futures_util::future::join_all;

use crate::{
    KEY, Told, builder, find, record,
    stand_in::{Act, Seen, StandIn, answer, closed_port, json},
};

const ID: &str = "id-marker";
const SECRET: &str = "secret-marker&=";

fn fetching(preset: CrmPreset, kind: AuthKind, server: &StandIn) -> TemplateCrmBuilder {
    let tokens = format!("{}/token", server.url());
    let builder = builder(preset, &server.url()).auth(kind).token_url(tokens);
    builder.client_id(ID).client_secret(SECRET).refresh_token("refresh-marker-0")
}

fn form(seen: &Seen) -> Vec<(String, String)> {
    let pairs = seen.text().split('&').map(|pair| pair.split_once('=').unwrap());
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(&text.replace('+', " "))
            .decode_utf8()
            .unwrap()
            .into_owned()
    };
    pairs.map(|(name, value)| (name.to_owned(), decode(value))).collect()
}

/// A CRM that takes only its latest token, which its token server gives out; `more` is what the
/// token server says besides the token.
async fn strict(preset: CrmPreset, more: &'static str) -> (StandIn, Arc<AtomicUsize>) {
    let issued = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&issued);
    let (_, body) = record(preset, KEY);
    let server = StandIn::start(move |_, seen| {
        if seen.target() == "/token" {
            let n = counter.fetch_add(1, SeqCst) + 1;
            return json("200 OK", &format!(r#"{{"access_token":"access-marker-{n}"{more}}}"#));
        }
        let latest = counter.load(SeqCst);
        match seen.header("authorization").unwrap().ends_with(&format!(" access-marker-{latest}")) {
            true => json("200 OK", &body),
            false => json("401 Unauthorized", r#"[{"errorCode":"INVALID_SESSION_ID"}]"#),
        }
    })
    .await;
    (server, issued)
}

fn token_requests(server: &StandIn) -> Vec<Seen> {
    server.seen().into_iter().filter(|seen| seen.target() == "/token").collect()
}

#[tokio::test]
async fn client_credentials_are_sent_in_the_form_and_the_token_is_used_until_refused() {
    let more = r#","instance_url":"https://elsewhere.example","token_type":"Bearer""#;
    let (server, issued) = strict(Salesforce, more).await;
    let kind = AuthKind::OAuthClientCredentials;
    let crm = fetching(Salesforce, kind, &server).build().unwrap();
    for _ in 0..3 {
        assert!(matches!(find(&crm).await, Told::Contact(_)));
    }
    assert_eq!(issued.load(SeqCst), 1);
    let mut sent = form(&token_requests(&server)[0]);
    sent.sort();
    let expected =
        [("client_id", ID), ("client_secret", SECRET), ("grant_type", "client_credentials")];
    assert_eq!(sent, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    // The session ends: one new token, and the look-up goes on.
    issued.fetch_add(1, SeqCst);
    assert!(matches!(find(&crm).await, Told::Contact(_)));
    assert_eq!(token_requests(&server).len(), 2);
}

#[tokio::test]
async fn a_scope_may_hold_the_base_url() {
    let (server, _) = strict(Dynamics, "").await;
    let kind = AuthKind::OAuthClientCredentials;
    _ = find(&fetching(Dynamics, kind, &server).build().unwrap()).await;
    let scope = ("scope".to_owned(), format!("{}/.default", server.url()));
    assert!(form(&token_requests(&server)[0]).contains(&scope));
}

#[tokio::test]
async fn a_token_that_is_refused_again_is_not_renewed_again() {
    let server = StandIn::start(|_, seen| match seen.target() {
        "/token" => json("200 OK", r#"{"access_token":"access-marker","expires_in":3600}"#),
        _ => json("401 Unauthorized", r#"{"code":"INVALID_TOKEN"}"#),
    })
    .await;
    for kind in [AuthKind::OAuthClientCredentials, AuthKind::OAuthRefreshToken] {
        let crm = fetching(Zoho, kind, &server).build().unwrap();
        let before = (token_requests(&server).len(), server.seen().len());
        let told = find(&crm).await;
        assert!(told.is_of_service(), "{told:?}");
        assert_eq!(
            told.message(),
            "CRM refused the credential: it answered 401 Unauthorized (INVALID_TOKEN)"
        );
        assert_eq!(token_requests(&server).len() - before.0, 2, "one, and one after the 401");
        assert_eq!(server.seen().len() - before.1, 4);
    }
}

#[tokio::test]
async fn one_look_up_renews_its_token_once_however_many_requests_it_makes() {
    let server = StandIn::start(|n, seen| match seen.target() {
        "/token" => json("200 OK", &format!(r#"{{"access_token":"access-marker-{n}"}}"#)),
        // Each token is good for one request only.
        target if target.contains("/search") && n < 3 => json("401 Unauthorized", ""),
        target if target.contains("/search") => {
            json("200 OK", r#"{"data":{"items":[{"item":{"id":1}}]}}"#)
        }
        _ => json("401 Unauthorized", ""),
    })
    .await;
    let crm = fetching(Pipedrive, AuthKind::OAuthRefreshToken, &server).build().unwrap();
    assert!(find(&crm).await.is_of_service());
    assert_eq!(token_requests(&server).len(), 2);
}

#[tokio::test]
async fn all_callers_wait_for_one_token() {
    for kind in [AuthKind::OAuthClientCredentials, AuthKind::OAuthRefreshToken] {
        let (server, issued) = strict(Salesforce, "").await;
        let crm = fetching(Salesforce, kind, &server).build().unwrap();
        for round in 1..=2 {
            let found = join_all((0..30).map(|_| find(&crm))).await;
            assert!(found.iter().all(|told| matches!(told, Told::Contact(_))), "{found:?}");
            assert_eq!(token_requests(&server).len(), round, "{kind}");
            issued.fetch_add(1, SeqCst);
        }
    }
}

#[tokio::test]
async fn callers_that_wait_share_a_failure_too() {
    let refusal = answer("400 x", "", r#"{"error":"invalid_grant"}"#);
    let server = StandIn::always(Act::SayLater(Duration::from_millis(100), refusal)).await;
    for kind in [AuthKind::OAuthClientCredentials, AuthKind::OAuthRefreshToken] {
        let crm = fetching(Zoho, kind, &server).build().unwrap();
        let before = server.seen().len();
        let told = join_all((0..20).map(|_| find(&crm))).await;
        assert!(told.iter().all(Told::is_of_service), "{told:?}");
        assert_eq!(server.seen().len() - before, 1, "{kind}");
    }
}

#[tokio::test]
async fn a_token_is_replaced_before_it_expires() {
    for kind in [AuthKind::OAuthClientCredentials, AuthKind::OAuthRefreshToken] {
        let (server, _) = strict(Salesforce, r#","expires_in":"1""#).await;
        let crm = fetching(Salesforce, kind, &server).build().unwrap();
        assert!(matches!(find(&crm).await, Told::Contact(_)));
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert!(matches!(find(&crm).await, Told::Contact(_)));
        assert_eq!(token_requests(&server).len(), 2);
        let refused = server.seen().len() - token_requests(&server).len() - 2;
        assert_eq!(refused, 0, "no request went out with the old token");
    }
}

#[tokio::test]
async fn a_rotated_refresh_token_replaces_the_one_before() {
    // Each refresh token works once, and brings the next one.
    let next = Arc::new(Mutex::new(0));
    let expected = Arc::clone(&next);
    let (_, body) = record(Pipedrive, KEY);
    let server = StandIn::start(move |_, seen| {
        if seen.target() == "/token" {
            let mut n = expected.lock().unwrap();
            if !form(seen).contains(&("refresh_token".to_owned(), format!("refresh-marker-{n}"))) {
                return json("400 Bad Request", r#"{"error":"invalid_grant"}"#);
            }
            *n += 1;
            let tokens = format!(
                r#""access_token":"access-marker-{n}","refresh_token":"refresh-marker-{n}""#
            );
            return json("200 OK", &format!("{{{tokens},\"expires_in\":0}}"));
        }
        match seen.target().contains("/search") {
            true => json("200 OK", r#"{"data":{"items":[{"item":{"id":77}}]}}"#),
            false => json("200 OK", &body),
        }
    })
    .await;
    let crm = fetching(Pipedrive, AuthKind::OAuthRefreshToken, &server).build().unwrap();
    for _ in 0..3 {
        let told = find(&crm).await;
        assert!(matches!(told, Told::Contact(_)), "{told:?}");
    }
    assert_eq!(*next.lock().unwrap(), 6, "two requests a look-up, each with a token of its own");
    let seen = token_requests(&server).remove(0);
    // printf 'id-marker:secret-marker&=' | base64
    assert_eq!(seen.header("authorization"), Some("Basic aWQtbWFya2VyOnNlY3JldC1tYXJrZXImPQ=="));
    assert!(!seen.text().contains("client_"), "{}", seen.text());
}

#[tokio::test]
async fn no_token_means_that_no_look_up_can_succeed_for_now() {
    let answers = [
        (
            json("200 OK", r#"{"error":"invalid_code"}"#),
            "refused the credential (invalid_code)",
            None,
        ),
        (
            json("400 x", r#"{"error":"invalid_grant"}"#),
            "refused the credential (invalid_grant)",
            None,
        ),
        (json("401 x", r#"{"error":"secret-marker&="}"#), "refused the credential", None),
        (json("500 x", ""), "answered 500 Internal Server Error", None),
        (
            Act::Say(answer("429 x", "Retry-After: 9\r\n", "")),
            "answered 429 Too Many Requests",
            Some(9),
        ),
        (json("200 OK", "<html>marker"), "answered with something that is not JSON", None),
        (Act::Reset, "gave no usable answer", None),
    ];
    for (act, message, wait) in answers {
        let server = StandIn::always(act).await;
        for kind in [AuthKind::OAuthClientCredentials, AuthKind::OAuthRefreshToken] {
            let told = find(&fetching(Zoho, kind, &server).build().unwrap()).await;
            assert!(told.is_of_service() && told.message().contains(message), "{told:?}");
            assert_eq!(told.wait(), wait.map(Duration::from_secs));
        }
        assert!(server.seen().iter().all(|seen| seen.target() == "/token"), "the CRM is not asked");
    }
    let server = StandIn::always(json("200 OK", "{}")).await;
    let nowhere = closed_port().await;
    let builder = fetching(Zoho, AuthKind::OAuthClientCredentials, &server);
    assert!(find(&builder.token_url(nowhere).build().unwrap()).await.is_of_service());
}

#[tokio::test]
async fn a_token_server_that_hangs_is_no_event_s_fault() {
    let server = StandIn::always(Act::Hang).await;
    for kind in [AuthKind::OAuthClientCredentials, AuthKind::OAuthRefreshToken] {
        let crm =
            fetching(Zoho, kind, &server).timeout(Duration::from_millis(400)).build().unwrap();
        let told = join_all((0..3).map(|_| find(&crm))).await;
        for told in told {
            assert!(told.is_of_service(), "{told:?}");
            assert_eq!(told.message(), "the CRM's token server did not answer in time");
        }
    }
}

#[tokio::test]
async fn waiting_for_a_token_counts_in_the_time_limit_and_the_token_is_not_lost() {
    let slow = Arc::new(AtomicBool::new(true));
    let is_slow = Arc::clone(&slow);
    let (_, body) = record(Zoho, KEY);
    let server = StandIn::start(move |_, seen| match seen.target() {
        "/token" if is_slow.swap(false, SeqCst) => {
            let tokens = r#"{"access_token":"access-marker","refresh_token":"refresh-marker-1"}"#;
            Act::SayLater(Duration::from_millis(600), answer("200 OK", "", tokens))
        }
        "/token" => json("400 x", r#"{"error":"invalid_grant"}"#),
        _ => json("200 OK", &body),
    })
    .await;
    let builder = fetching(Zoho, AuthKind::OAuthRefreshToken, &server);
    // The client's own limit is longer than that of a caller that gives up.
    let crm: TemplateCrm = builder.build().unwrap();
    let gave_up = tokio::time::timeout(Duration::from_millis(200), find(&crm)).await;
    assert!(gave_up.is_err());
    assert!(matches!(find(&crm).await, Told::Contact(_)));
    assert_eq!(token_requests(&server).len(), 1);
}

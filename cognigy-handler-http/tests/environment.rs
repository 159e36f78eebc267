//! What the environment decides: the proxy, where it was asked for, and the roots. A process's environment
//! cannot be changed from within, so each test runs itself again in a child that has another one.
#![allow(clippy::unwrap_used)]

mod common;

use std::{process::Command, sync::Arc};

use cognigy_core::EventHandler;
use cognigy_handler_http::ConfigError;

use common::{
    builder, event,
    stand_in::{self, Act, StandIn, answer},
};

/// Runs the test called `test` in a child with these variables. True in the child.
fn in_child(test: &str, variables: &[(&str, &str)]) -> bool {
    const MARK: &str = "COGNIGY_HANDLER_HTTP_CHILD";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env_remove("SSL_CERT_DIR")
        .env(MARK, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && told.contains("1 passed"), "{done:?}");
    false
}

#[tokio::test]
async fn a_proxy_is_used_only_where_asked_for() {
    let proxy = stand_in::closed_port().await;
    let variables = [("HTTP_PROXY", &*proxy), ("http_proxy", &*proxy)];
    if !in_child("a_proxy_is_used_only_where_asked_for", &variables) {
        return;
    }
    let server = StandIn::always(Act::Say(answer("200 OK", "", ""))).await;
    let direct = builder(&server.url()).build().unwrap();
    direct.handle(Arc::new(event("e")), None).await.unwrap();
    let proxied = builder(&server.url()).proxy_from_env().build().unwrap();
    let failure = proxied.handle(Arc::new(event("e")), None).await.unwrap_err();
    assert_eq!(failure.report(), "the forward URL could not be reached: connection refused");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn an_https_url_needs_roots_to_check_its_server_against() {
    let variables = [("SSL_CERT_FILE", "/dev/null")];
    if !in_child("an_https_url_needs_roots_to_check_its_server_against", &variables) {
        return;
    }
    let error = builder("https://h.example/hooks?a=b").build().unwrap_err();
    assert!(matches!(error, ConfigError::Client(cognigy_http::ConfigError::NoRoots(_))), "{error}");
    assert!(builder("http://h.example/hooks?a=b").build().is_ok());
}

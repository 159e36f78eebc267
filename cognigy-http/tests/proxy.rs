//! A proxy in the environment is used only where that was asked for. A process's environment cannot
//! be changed from within, so the test runs itself again in a child that has one.
#![allow(clippy::unwrap_used)]

mod stand_in;

use std::process::Command;

use cognigy_http::{BaseUrl, ClientOptions, TransportError, TransportErrorKind, client};
use stand_in::{Act, StandIn, answer};

const MARK: &str = "COGNIGY_HTTP_PROXY_CHILD";

#[tokio::test]
async fn a_proxy_is_used_only_where_asked_for() {
    if std::env::var_os(MARK).is_none() {
        let proxy = stand_in::closed_port().await;
        let done = Command::new(std::env::current_exe().unwrap())
            .env(MARK, "1")
            .env("HTTP_PROXY", &proxy)
            .env("http_proxy", &proxy)
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        return;
    }
    let server = StandIn::always(Act::Say(answer("200 OK", "", ""))).await;
    let base = BaseUrl::parse(&server.url()).unwrap();
    let mut options = ClientOptions::new("tests");
    let direct = client(&base, &options).unwrap().get(server.url()).send().await.unwrap();
    assert_eq!(direct.status().as_u16(), 200);
    options.proxy_from_env = true;
    let error = client(&base, &options).unwrap().get(server.url()).send().await.unwrap_err();
    assert_eq!(TransportError::from(error).kind(), TransportErrorKind::Connect);
    assert_eq!(server.seen().len(), 1);
}

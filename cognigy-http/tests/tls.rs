//! TLS against real servers: a trusted server gets a request, any other gets none.
//!
//! The roots belong to the process (`SSL_CERT_FILE`), and a test cannot change them in the process
//! in which it runs. So each test runs itself again in a child, with the roots it asks for.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use cognigy_http::{BaseUrl, ClientOptions, ConfigError, TransportError, TransportErrorKind};
use rustls::{
    ServerConfig, ServerConnection, Stream,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// Runs the test called `test` in a child that trusts `roots` alone. True in the child.
fn in_child_that_trusts(roots: &str, test: &str) -> bool {
    const MARK: &str = "COGNIGY_HTTP_TLS_CHILD";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MARK, "1")
        .env("SSL_CERT_FILE", format!("{}/tests/tls/{roots}", env!("CARGO_MANIFEST_DIR")))
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && told.contains("1 passed"), "{done:?}");
    false
}

/// Takes one connection with `certificate`; the flag says whether a request came over it.
fn serve(certificate: &'static [u8]) -> (String, Arc<AtomicBool>) {
    let key =
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(include_bytes!("tls/key.der").to_vec()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(certificate)], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&asked);
    thread::spawn(move || -> std::io::Result<()> {
        let (mut socket, _) = listener.accept()?;
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = Stream::new(&mut connection, &mut socket);
        let mut request = [0; 1024];
        if stream.read(&mut request)? > 0 {
            flag.store(true, SeqCst);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    (url, asked)
}

async fn ask(certificate: &'static [u8]) -> (Result<u16, TransportError>, bool) {
    let (url, asked) = serve(certificate);
    let base = BaseUrl::parse(&url).unwrap();
    let client = cognigy_http::client(&base, &ClientOptions::new("tests")).unwrap();
    let answer = client.get(base.join(&["x"])).bearer_auth("marker").send().await;
    let answer = answer.map(|answer| answer.status().as_u16()).map_err(TransportError::from);
    (answer, asked.load(SeqCst))
}

async fn refused(certificate: &'static [u8]) -> String {
    let (answer, asked) = ask(certificate).await;
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), TransportErrorKind::Connect);
    assert!(!asked, "the request went out all the same");
    error.to_string()
}

#[tokio::test]
async fn a_certificate_that_a_trusted_authority_signed_is_taken() {
    if in_child_that_trusts("ca.pem", "a_certificate_that_a_trusted_authority_signed_is_taken") {
        assert_eq!(ask(include_bytes!("tls/server.der")).await, (Ok(200), true));
    }
}

#[tokio::test]
async fn an_expired_certificate_and_one_for_another_host_are_refused() {
    let test = "an_expired_certificate_and_one_for_another_host_are_refused";
    if in_child_that_trusts("ca.pem", test) {
        let expired = refused(include_bytes!("tls/expired.der")).await;
        assert!(expired.contains("invalid peer certificate: certificate expired"), "{expired}");
        let other = refused(include_bytes!("tls/other-host.der")).await;
        assert!(other.contains("certificate not valid for name \"127.0.0.1\""), "{other}");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_trusted_signed_is_refused() {
    let test = "a_certificate_that_nobody_trusted_signed_is_refused";
    if in_child_that_trusts("other-ca.pem", test) {
        let unknown = refused(include_bytes!("tls/server.der")).await;
        assert_eq!(unknown, "could not be reached: invalid peer certificate: UnknownIssuer");
    }
}

#[test]
fn without_any_root_an_https_client_is_refused_and_an_http_client_is_not() {
    let test = "without_any_root_an_https_client_is_refused_and_an_http_client_is_not";
    if in_child_that_trusts("no-such-file.pem", test) {
        let options = ClientOptions::new("tests");
        let https = BaseUrl::parse("https://crm.example").unwrap();
        let error = cognigy_http::client(&https, &options).unwrap_err();
        assert!(matches!(error, ConfigError::NoRoots(Some(_))), "{error:?}");
        let http = BaseUrl::parse("http://crm.example").unwrap();
        assert!(cognigy_http::client(&http, &options).is_ok());
    }
}

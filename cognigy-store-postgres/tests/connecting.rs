//! Which servers the store connects to, and with which session settings: TLS, passwords, poolers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use base64::{Engine, engine::general_purpose::STANDARD};
use cognigy_core::{EventStore, Recorded, StoreErrorKind};
use cognigy_store_postgres::PostgresStore;
use cognigy_test_postgres::Cluster;
use common::{Place, event, eventually, impatient, now};

/// The certificates of another crate's tests; its README says what each is.
const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cognigy-http/tests/tls");

fn pem(label: &str, file: &str) -> String {
    let der = std::fs::read(format!("{CERTIFICATES}/{file}")).unwrap();
    let text = STANDARD.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Makes the server show `certificate` from now on.
async fn show(cluster: &Cluster, certificate: &str) {
    cluster.write("server.key", &pem("PRIVATE KEY", "key.der"));
    cluster.write("server.crt", &pem("CERTIFICATE", certificate));
    cluster.sql("postgres", "ALTER SYSTEM SET ssl = on");
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    let secured = async || {
        let shown = cluster.sql("postgres", "SHOW ssl");
        (shown == "on").then_some(())
    };
    eventually("TLS is on", secured).await;
    // Each server process reloads at a different time.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
}

/// The error of opening, outermost cause first.
async fn refusal(url: &str) -> String {
    let error = PostgresStore::open_with(url, impatient()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    std::error::Error::source(&error).unwrap().to_string()
}

#[tokio::test]
async fn tls_modes_mean_what_they_mean_to_libpq() {
    let cluster = Cluster::start();
    let place = Place::in_cluster(&cluster);
    let with = |mode: &str| format!("{}?{mode}", place.url());
    let (ours, others) = (
        format!("sslrootcert={CERTIFICATES}/ca.pem"),
        format!("sslrootcert={CERTIFICATES}/other-ca.pem"),
    );

    let plain = refusal(&with("sslmode=require")).await;
    assert!(plain.contains("TLS"), "the server has none yet: {plain}");

    // Which certificate, which mode, and a word of the refusal or whether the session is encrypted.
    let cases = [
        ("server.der", format!("sslmode=verify-full&{ours}"), Ok("t")),
        ("server.der", format!("sslmode=verify-full&{others}"), Err("UnknownIssuer")),
        ("server.der", format!("sslmode=require&{others}"), Err("UnknownIssuer")),
        ("server.der", "sslmode=require".to_owned(), Ok("t")),
        ("server.der", "sslmode=prefer".to_owned(), Ok("t")),
        ("server.der", "sslmode=disable".to_owned(), Ok("f")),
        ("server.der", "sslmode=verify-full".to_owned(), Err("UnknownIssuer")),
        ("server.der", "sslmode=verify-full&sslrootcert=/nowhere".to_owned(), Err("/nowhere")),
        ("other-host.der", format!("sslmode=verify-full&{ours}"), Err("not valid for name")),
        ("other-host.der", format!("sslmode=verify-ca&{ours}"), Ok("t")),
        ("expired.der", format!("sslmode=verify-ca&{ours}"), Err("expired")),
        ("expired.der", "sslmode=require".to_owned(), Ok("t")),
    ];
    let mut shown = "";
    for (certificate, mode, expected) in cases {
        if shown != certificate {
            show(&cluster, certificate).await;
            shown = certificate;
        }
        match expected {
            Ok(encrypted) => {
                let store = PostgresStore::open_with(&with(&mode), impatient()).await;
                let _store =
                    store.unwrap_or_else(|error| panic!("{certificate} {mode}: {error:?}"));
                let sessions = place.sql(
                    "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name = 'cognigy' AND datname = current_database()",
                );
                assert_eq!(sessions, encrypted, "{certificate} {mode}");
            }
            Err(word) => {
                let refusal = refusal(&with(&mode)).await;
                assert!(refusal.contains(word), "{certificate} {mode}: {refusal}");
            }
        }
        eventually("the sessions have ended", async || {
            let sql = "SELECT count(*) FROM pg_stat_activity
                       WHERE application_name = 'cognigy' AND datname = current_database()";
            (place.sql(sql) == "0").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_password_is_proved_over_tls_and_never_shown() {
    let cluster = Cluster::start();
    let place = Place::in_cluster(&cluster);
    show(&cluster, "server.der").await;
    place.sql(&format!(
        "CREATE ROLE app LOGIN PASSWORD 'marked-password'; GRANT ALL ON DATABASE {0} TO app;
         GRANT CREATE ON SCHEMA public TO app",
        place.database
    ));
    cluster
        .write("pg_hba.conf", "hostssl all app all scram-sha-256\nhost all postgres all trust\n");
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let url = |password: &str, rest: &str| {
        let with = format!("app:{password}@");
        format!("{}?{rest}", place.url().replace("postgres@", &with))
    };
    // The proof is bound to the server's certificate: a proxy in between cannot pass it on.
    let bound =
        format!("sslmode=verify-full&sslrootcert={CERTIFICATES}/ca.pem&channel_binding=require");
    let store = PostgresStore::open(&url("marked-password", &bound)).await.unwrap();
    assert_eq!(store.record(event("e1"), now()).await.unwrap(), Recorded::New);
    assert!(!format!("{store:?}").contains("marked"), "{store:?}");
    for (password, rest) in
        [("marked-wrong", "sslmode=require"), ("marked-password", "sslmode=disable")]
    {
        let refusal = refusal(&url(password, rest)).await;
        assert!(refusal.contains("28") && !refusal.contains("marked"), "{refusal}");
    }
}

#[tokio::test]
async fn a_pooler_that_mixes_sessions_is_refused_clearly() {
    let place = Place::new();
    drop(place.open().await);
    let pooler = place.cluster.pooler("");
    let refused = refusal(&pooler.url(&place.database)).await;
    assert!(refused.contains("options"), "PgBouncer itself does not take the settings: {refused}");
    drop(pooler);
    let lax = place.cluster.pooler("ignore_startup_parameters = options");
    let refused = refusal(&lax.url(&place.database)).await;
    assert!(
        refused.contains("pooler") && refused.contains("PostgreSQL server itself"),
        "{refused}"
    );
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_events"), "0");
}

#[tokio::test]
async fn a_database_that_commits_without_waiting_is_made_to_wait() {
    let place = Place::new();
    place.sql(&format!("ALTER DATABASE {} SET synchronous_commit = off", place.database));
    let store = place.open().await;
    // A trigger writes down the settings of the session that records.
    place.sql(
        "CREATE TABLE seen (setting text);
         CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
         CREATE TRIGGER look AFTER INSERT ON cognigy_events EXECUTE FUNCTION look()",
    );
    store.record(event("e1"), now()).await.unwrap();
    assert_eq!(place.sql("SELECT DISTINCT setting FROM seen"), "on");
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let cluster = Cluster::shared();
    cluster.sql(
        "postgres",
        "CREATE DATABASE latin ENCODING latin1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    let refused = refusal(&cluster.url("latin")).await;
    assert!(refused.contains("UTF8"), "{refused}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_that_names_no_secret() {
    let refused = refusal("postgres://user:marked@127.0.0.1:9/db").await;
    assert!(refused.contains("refused") && !refused.contains("marked"), "{refused}");
}

#[tokio::test]
async fn a_url_without_a_host_leads_to_the_server_on_this_machine() {
    let cluster = Cluster::start();
    let place = Place::in_cluster(&cluster);
    let named = place.url();
    let database = named.rsplit('/').next().unwrap();
    let url = format!("postgresql://postgres@/{database}?port={}", cluster.port());
    PostgresStore::open_with(&url, impatient()).await.unwrap();
}

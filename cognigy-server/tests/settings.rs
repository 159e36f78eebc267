//! Settings as environments provide them: a wrong one is named before the command does anything,
//! and no value is taken for something else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    ffi::OsString,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{ffi::OsStringExt, fs::PermissionsExt},
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cognigy_test_postgres::Cluster;
use common::{Site, crm::Crm, event, eventually, stderr, stdout};

/// The command stops with status 2 and one line that begins with the setting's name and shows no
/// secret.
#[track_caller]
fn refused(output: &Output, named: &str) {
    assert_eq!(output.status.code(), Some(2), "{named}: {output:?}");
    let complaint = stderr(output);
    assert!(complaint.starts_with(&format!("cognigy-server: {named}")), "{named}: {complaint}");
    assert_eq!(complaint.trim_end().lines().count(), 1, "{complaint}");
    assert!(!complaint.contains("marked"), "{complaint}");
}

/// A site with a source beside the plain one.
fn two_sources() -> Site {
    let mut site = Site::on_file();
    site.set("COGNIGY_SOURCES", "shop")
        .set("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET", "marked-secret-of-shop")
        .set("COGNIGY_LOG", "warn");
    site
}

/// Every secret and credential, with those of the sources.
const SECRETS: [&str; 13] = [
    "COGNIGY_WEBHOOK_SECRET",
    "COGNIGY_WEBHOOK_SECRET_PREVIOUS",
    "COGNIGY_ADMIN_TOKEN",
    "COGNIGY_CLIENT_ID",
    "COGNIGY_CLIENT_SECRET",
    "COGNIGY_DATABASE_URL",
    "CRM_TOKEN",
    "COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET",
    "COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET_PREVIOUS",
    "COGNIGY_SOURCE_SHOP_CRM_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
];

#[test]
fn a_variable_of_ours_that_is_not_utf_8_stops_the_start() {
    let others = [
        "SQS_DLQ_URL",
        "CRM_BASE_URL",
        "AWS_REGION",
        "COGNIGY_LOG",
        "COGNIGY_SOURCE_SHOP_SQS_DLQ_URL",
        "COGNIGY_SOURCE_NONE_WEBHOOK_SECRET",
    ];
    let site = two_sources();
    for variable in SECRETS.into_iter().chain(others) {
        let mut command = site.command(&["list"]);
        command.env(variable, OsString::from_vec(b"marked-\xff-value".to_vec()));
        refused(&command.output().unwrap(), &format!("{variable}: is not UTF-8"));
    }
    let mut command = site.command(&["list", "--crm-token"]);
    command.arg(OsString::from_vec(b"marked-\xff".to_vec()));
    refused(&command.output().unwrap(), "--crm-token is not UTF-8");
    // Variables of other programs may have any value.
    let mut command = site.command(&["list"]);
    command.env("LS_COLORS", OsString::from_vec(b"\xff".to_vec()));
    assert_eq!(command.output().unwrap().status.code(), Some(1), "there is no database");
    let file = site.folder.path().join("cognigy.toml");
    std::fs::write(&file, b"crm_token = 'marked-\xff'").unwrap();
    refused(&site.run(&["list"]), "cognigy.toml: ");
}

#[test]
fn white_space_at_an_end_of_a_secret_stops_the_start() {
    for variable in SECRETS {
        for value in
            ["marked-secret-marked\n", " marked-secret-marked", "marked-secret\t", "\u{a0}x"]
        {
            let mut site = two_sources();
            site.set(variable, value);
            refused(&site.run(&["list"]), &format!("{variable}: has white space"));
        }
    }
    // The same for a file and a flag.
    let site = two_sources();
    let file = site.folder.path().join("cognigy.toml");
    std::fs::write(&file, "crm_token = \"marked-token\\n\"").unwrap();
    refused(&site.run(&["list"]), "CRM_TOKEN: has white space");
    std::fs::write(&file, "[sources.shop]\ncrm_token = \"marked-token \"").unwrap();
    refused(&site.run(&["list"]), "COGNIGY_SOURCE_SHOP_CRM_TOKEN: has white space");
    std::fs::remove_file(&file).unwrap();
    let flag = site.run(&["list", "--admin-token", "marked-token "]);
    refused(&flag, "COGNIGY_ADMIN_TOKEN: has white space");
    std::fs::write(site.folder.path().join("variables"), "CRM_TOKEN=\"marked-token \"").unwrap();
    refused(&site.run(&["list", "--env-file", "variables"]), "CRM_TOKEN: has white space");
}

#[test]
fn quotes_around_a_value_are_a_warning() {
    let mut site = two_sources();
    site.set("COGNIGY_ADMIN_TOKEN", "\"marked-admin-token\"")
        .set("COGNIGY_SOURCE_SHOP_CRM_TOKEN", "'marked-token'")
        .set("AWS_SESSION_TOKEN", "\"marked\"");
    std::fs::write(site.folder.path().join("cognigy.toml"), "client_secret = \"'marked'\"")
        .unwrap();
    let output = site.run(&["list", "--crm-token", "'marked'"]);
    assert_eq!(output.status.code(), Some(1), "there is no database: {output:?}");
    let told = stderr(&output);
    for name in [
        "COGNIGY_ADMIN_TOKEN",
        "COGNIGY_SOURCE_SHOP_CRM_TOKEN",
        "AWS_SESSION_TOKEN",
        "client_secret in the file",
        "--crm-token",
    ] {
        assert_eq!(told.matches(&format!("{name}: has quotes around it")).count(), 1, "{told}");
    }
    assert!(!told.contains("marked"), "{told}");
    assert!(!stderr(&two_sources().run(&["list"])).contains("quotes"));
}

#[test]
fn what_an_adapter_checks_is_named_before_anything_is_done() {
    let urls = [
        "crm.example",
        "htps://crm.example",
        "http:crm.example",
        "http:///crm.example",
        "http://crm.example/a b",
        "http://crm.example\n",
        " http://crm.example",
        "http://user:marked@crm.example",
        "http://crm.example?token=marked",
        "http://crm.example#marked",
        "http://crm.example:99999",
    ];
    for variable in ["CRM_BASE_URL", "COGNIGY_BASE_URL", "COGNIGY_SOURCE_SHOP_CRM_BASE_URL"] {
        for url in urls {
            let mut site = two_sources();
            site.set(variable, url);
            refused(&site.run(&["list"]), &format!("{variable}: "));
        }
    }
    for (variable, value) in [
        ("CRM_TOKEN", "marked token"),
        ("CRM_TOKEN", "marked-tökén"),
        ("COGNIGY_SOURCE_SHOP_CRM_TOKEN", "marked\ttoken"),
        ("COGNIGY_ADMIN_TOKEN", "marked\u{1}token"),
        ("SQS_DLQ_URL", "https://sqs.eu-west-1.amazonaws.com/dlq"),
        ("SQS_DLQ_URL", "https://marked:marked@sqs.example/1/dlq"),
        ("SQS_DLQ_URL", "https://sqs.example/1/dlq?x=marked"),
        ("SQS_DLQ_URL", "https://sqs.example/1/dead letters"),
        ("SQS_DLQ_URL", "https://sqs.example/1/dlq\n"),
        ("COGNIGY_SOURCE_SHOP_SQS_DLQ_URL", "https://sqs.example/1/dlq#marked"),
        ("COGNIGY_DATABASE_URL", "postgres://u:marked@h:port/db"),
        ("COGNIGY_DATABASE_URL", "postgres://u:marked@h/db?sslmode=odd"),
        ("COGNIGY_DATABASE_URL", "postgres://u:marked@h/db?unknown=marked"),
        ("AWS_ACCESS_KEY_ID", "marked\u{1}key"),
        ("AWS_SECRET_ACCESS_KEY", "märked"),
        ("AWS_REGION", "eu west"),
        ("AWS_DEFAULT_REGION", "eu-west-1\n"),
        ("AWS_ENDPOINT_URL", "localhost:4566"),
        ("AWS_ENDPOINT_URL_SQS", "http://marked:marked@localhost"),
        ("AWS_MAX_ATTEMPTS", "0"),
        ("AWS_RETRY_MODE", "never"),
    ] {
        let mut site = two_sources();
        site.set(variable, value);
        refused(&site.run(&["list"]), &format!("{variable}: "));
        assert!(!site.database().exists(), "{variable}: nothing was done");
    }
}

#[test]
fn a_file_of_variables_is_read_only_where_it_is_named() {
    let mut site = Site::on_file();
    site.variables.clear();
    let folder = site.folder.path().to_owned();
    let file = folder.join(".env");
    std::fs::write(
        &file,
        "# Ours\nexport COGNIGY_DATABASE_URL='sqlite:named.db'\nCRM_TIMEOUT=5s\n",
    )
    .unwrap();
    site.run(&["list", "--database-url", "sqlite:flag.db"]);
    assert_eq!(site.run(&["serve"]).status.code(), Some(2), "it has no secret");
    assert!(!folder.join("named.db").exists(), "it was not named");

    // A variable, a flag or the settings file names the file of variables.
    site.set("COGNIGY_ENV_FILE", ".env").set("CRM_TIMEOUT", "soon");
    refused(&site.run(&["list"]), "CRM_TIMEOUT: ");
    site.set("CRM_TIMEOUT", "6s");
    let told = stderr(&site.run(&["list"]));
    assert!(told.contains("/named.db (") && told.lines().count() == 1, "{told}");
    std::fs::write(&file, "CRM_TIMEOUT=soon").unwrap();
    assert_ne!(site.run(&["list"]).status.code(), Some(2), "the environment beats it");
    site.variables.clear();
    refused(&site.run(&["list", "--env-file", ".env"]), "CRM_TIMEOUT: ");
    std::fs::write(folder.join("cognigy.toml"), "env_file = '.env'\ncrm_timeout = '7s'").unwrap();
    refused(&site.run(&["list"]), "CRM_TIMEOUT: ");
    std::fs::remove_file(folder.join("cognigy.toml")).unwrap();

    // A line that cannot be read is named by its number and not quoted.
    site.set("COGNIGY_ENV_FILE", "absent");
    refused(&site.run(&["list"]), "COGNIGY_ENV_FILE: absent: ");
    site.set("COGNIGY_ENV_FILE", ".env");
    for content in
        [&b"CRM_TIMEOUT=5s\nmarked marked\n"[..], b"A=1\nmarked='", b"A=marked\0", b"A=\xff"]
    {
        std::fs::write(&file, content).unwrap();
        refused(&site.run(&["list"]), "COGNIGY_ENV_FILE: .env: ");
    }

    // The file has all that a server needs, with the variables of the AWS SDK.
    std::fs::write(
        &file,
        "COGNIGY_WEBHOOK_SECRET=marked-webhook-secret\nCOGNIGY_LISTEN=127.0.0.1:0\n\
         COGNIGY_LOG_FORMAT=json\nCOGNIGY_ADMIN_TOKEN='marked-$admin-token'\nCRM_TOKEN=a$b\n\
         CRM_BASE_URL=http://127.0.0.1:9\n",
    )
    .unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let server = site.serve();
    assert_eq!(server.deliver(&event("e1", "c1")).status, 200);
    let bearer = ("Authorization", "Bearer marked-$admin-token");
    assert_eq!(server.request("GET", "/admin/stats", &[bearer], b"").status, 200);
    let log = server.log();
    assert!(log.contains("line 5: $ begins the name of a variable") && !log.contains("line 4"));
    assert!(!log.contains("holds secrets"), "{log}");
}

#[test]
fn a_file_with_secrets_that_every_user_can_read_is_a_warning() {
    let site = Site::on_file();
    let (settings, variables) =
        (site.folder.path().join("cognigy.toml"), site.folder.path().join("variables"));
    let told = |settings_file: &str, variables_file: &str, mode: u32| {
        for (path, content) in [(&settings, settings_file), (&variables, variables_file)] {
            std::fs::write(path, content).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let output = site.run(&["list", "--env-file", "variables"]);
        assert_eq!(output.status.code(), Some(1), "there is no database: {output:?}");
        let told = stderr(&output);
        let warned = |name: &str| told.contains(&format!("{name}: holds secrets"));
        (warned("cognigy.toml"), warned("variables"))
    };
    let harmless = ("lease = '60s'\ndatabase_url = 'sqlite:x.db'", "CRM_TIMEOUT=5s");
    assert_eq!(told(harmless.0, harmless.1, 0o644), (false, false));
    assert_eq!(told("crm_token = 'marked'", "CRM_TOKEN=marked", 0o644), (true, true));
    assert_eq!(told("crm_token = 'marked'", "CRM_TOKEN=marked", 0o640), (false, false));
    let nested = "[sources.shop]\nwebhook_secret = 'marked-secret'";
    assert_eq!(told(nested, "AWS_SECRET_ACCESS_KEY=marked", 0o604), (true, true));
}

#[test]
fn an_example_or_a_short_secret_is_a_warning_at_the_start() {
    let warned = |site: &Site| {
        let server = site.serve();
        assert_eq!(server.request("GET", "/healthz", &[], b"").status, 200);
        server.log().lines().filter(|line| line.contains("WARN")).collect::<String>()
    };
    let mut site = two_sources();
    site.set("COGNIGY_LOG", "info");
    assert!(!warned(&site).contains("SECRET"), "{}", warned(&site));
    site.set("COGNIGY_WEBHOOK_SECRET", "change-me-please")
        .set("COGNIGY_WEBHOOK_SECRET_PREVIOUS", "0123456789")
        .set("COGNIGY_ADMIN_TOKEN", "operators-only")
        .set("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET", "aaaaaaaaaaaaaaaaaaaaaaaa");
    let log = warned(&site);
    for told in [
        "COGNIGY_WEBHOOK_SECRET: is a well-known example",
        "COGNIGY_ADMIN_TOKEN: is a well-known example",
        "COGNIGY_WEBHOOK_SECRET_PREVIOUS: is easily guessed",
        "COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET: is easily guessed",
    ] {
        assert!(log.contains(told), "{told}: {log}");
    }
    assert!(!log.contains("change-me") && !log.contains("0123"), "{log}");
    assert!(!stderr(&site.run(&["list"])).contains("SECRET"), "only what serves says so");
}

/// The other systems, and whether the proxy was asked in their place.
fn asks_the_proxy(variables: &[(&str, &str)]) -> [bool; 4] {
    let (target, proxy) = (Crm::start(), Crm::start());
    for server in [&target, &proxy] {
        server.answer(200, r#"{"access_token":"t","id":"w1"}"#);
    }
    let mut site = Site::on_file();
    site.set("CRM_BASE_URL", target.url())
        .set("COGNIGY_BASE_URL", target.url())
        .set("COGNIGY_CLIENT_ID", "client")
        .set("COGNIGY_CLIENT_SECRET", "marked-client-secret")
        .set("SQS_DLQ_URL", format!("{}/123456789012/dead", target.url()))
        .set("AWS_REGION", "eu-west-1")
        .set("AWS_ACCESS_KEY_ID", "marked-access-key")
        .set("AWS_SECRET_ACCESS_KEY", "marked-secret-key");
    for (name, value) in variables {
        site.set(name, value.replace("{proxy}", &proxy.url()));
    }
    let (mut at_target, mut at_proxy) = (0, 0);
    let mut asked = |what: &str| {
        let (target, proxy) = (target.requests(), proxy.requests());
        let (new, new_proxied) = (&target[at_target..], &proxy[at_proxy..]);
        assert_ne!(new.is_empty(), new_proxied.is_empty(), "{what}: {new:?} {new_proxied:?}");
        // A proxy is asked for the whole URL.
        assert!(new_proxied.iter().all(|it| it.split(' ').nth(1).unwrap().starts_with("http://")));
        let was_proxied = !new_proxied.is_empty();
        (at_target, at_proxy) = (target.len(), proxy.len());
        was_proxied
    };
    let registered = site.run(&["register", "https://hooks.example/webhooks/cognigy"]);
    assert_eq!(registered.status.code(), Some(0), "{registered:?}");
    let api = asked("the API");
    let hook = format!("{}/webhooks/cognigy", target.url());
    assert_eq!(site.run(&["send", "--generate", "1", "--url", &hook]).status.code(), Some(0));
    let send = asked("a server");
    let server = site.serve();
    // The queue is asked for an attribute when the server starts.
    eventually("the queue is asked", || {
        [&target, &proxy]
            .iter()
            .any(|it| it.requests().iter().any(|head| head.contains("GetQueueAttributes")))
            .then_some(())
    });
    let queue = asked("the queue");
    server.deliver(&event("e1", "c1"));
    server.wait_for("e1", "processed");
    [api, send, queue, asked("the CRM")]
}

#[test]
fn a_proxy_in_the_environment_is_used_by_all_clients_or_by_none() {
    let proxy = ("HTTP_PROXY", "{proxy}");
    let on = ("COGNIGY_PROXY_FROM_ENV", "on");
    assert_eq!(asks_the_proxy(&[proxy]), [false; 4], "unless it is asked for");
    assert_eq!(asks_the_proxy(&[proxy, on]), [true; 4]);
    assert_eq!(asks_the_proxy(&[("ALL_PROXY", "{proxy}"), on]), [true; 4]);
    assert_eq!(asks_the_proxy(&[proxy, on, ("NO_PROXY", "127.0.0.1")]), [false; 4]);
}

#[test]
fn a_proxy_that_is_set_and_not_used_is_told_once_and_a_wrong_one_stops_the_start() {
    let mut site = Site::on_file();
    site.set("HTTPS_PROXY", "http://marked:marked@proxy.example:3128").set("all_proxy", "p:1");
    let output = site.run(&["send", "--generate", "1", "--url", "http://127.0.0.1:9"]);
    let told = stderr(&output);
    assert_eq!(told.matches("COGNIGY_PROXY_FROM_ENV=on would use it").count(), 1, "{told}");
    assert!(told.contains("HTTPS_PROXY, all_proxy: set") && !told.contains("marked"), "{told}");
    assert!(!stderr(&site.run(&["list"])).contains("PROXY"), "it sends no request");
    site.set("COGNIGY_PROXY_FROM_ENV", "on");
    assert!(
        !stderr(&site.run(&["send", "--generate", "1", "--url", "http://127.0.0.1:9"]))
            .contains("PROXY")
    );
    for value in ["socks5://marked:1080", "http://", "http://proxy marked", "ftp://marked"] {
        site.set("HTTPS_PROXY", value);
        refused(&site.run(&["list"]), "HTTPS_PROXY: ");
    }
}

#[test]
fn a_registration_is_checked_before_it_is_sent_and_believed_only_with_an_id() {
    let api = Crm::start();
    let mut site = Site::on_file();
    site.set("COGNIGY_BASE_URL", api.url())
        .set("COGNIGY_CLIENT_ID", "client")
        .set("COGNIGY_CLIENT_SECRET", "marked-client-secret");
    for url in [
        "",
        " ",
        "htps://h/x",
        "/webhooks",
        "h.example/x",
        "https://",
        "https:///x",
        "https://a b/x",
    ]
    .into_iter()
    .chain(["https:h/x", "https://h/x ", "https://h/x\n", "mailto:a@h", "https://h/x#marked"])
    {
        let output = site.run(&["register", url]);
        assert_eq!(output.status.code(), Some(2), "{url:?}: {output:?}");
        assert!(stderr(&output).starts_with("cognigy-server: the URL must "), "{output:?}");
    }
    assert!(api.requests().is_empty(), "nothing was sent");

    let url = "https://hooks.example/webhooks/cognigy";
    let fails = |status: u16, body: &str, told: &str| {
        api.answer(status, body);
        let output = site.run(&["register", url]);
        assert_eq!(output.status.code(), Some(1), "{body}: {output:?}");
        let complaint = stderr(&output);
        assert!(complaint.contains(told) && !complaint.contains("marked"), "{complaint}");
        assert_eq!(stdout(&output), "");
    };
    fails(
        200,
        r#"{"error":"invalid_client","error_description":"No such client marked-client-secret\n"}"#,
        "answered with an error: No such client [redacted]",
    );
    // The token is valid, but the text after it is not.
    let token = r#"{"access_token":"marked-token","#;
    fails(200, &format!(r#"{token}"name":"hook"}}"#), "without the id of a webhook");
    fails(200, &format!(r#"{token}"id":""}}"#), "without the id of a webhook");
    fails(200, &format!(r#"{token}"id":[]}}"#), "may or may not be registered");
    api.answer(200, &format!(r#"{token}"id":"w1"}}"#));
    let done = site.run(&["register", url]);
    assert_eq!((done.status.code(), stdout(&done).as_str()), (Some(0), "registered: w1\n"));
}

#[test]
fn a_panic_of_the_aws_sdk_is_told_without_its_words_and_ends_no_command() {
    let crm = Crm::start();
    crm.answer(400, "");
    let mut site = Site::on_file();
    let profile = site.folder.path().join("credentials");
    // The SDK makes a header of it and panics.
    std::fs::write(
        &profile,
        "[default]\naws_access_key_id = marked-key\u{1}\naws_secret_access_key = marked-secret\n",
    )
    .unwrap();
    site.set("CRM_BASE_URL", crm.url())
        .set("SQS_DLQ_URL", "http://127.0.0.1:9/123456789012/dead")
        .set("AWS_REGION", "eu-west-1")
        .set("AWS_SHARED_CREDENTIALS_FILE", profile.to_str().unwrap());
    let server = site.serve();
    server.deliver(&event("e1", "c1"));
    eventually("the dead letter was tried", || {
        let log = server.log();
        let mut lines = log.lines().filter(|line| line.contains("SendMessageBatch on "));
        lines.any(|it| it.contains("the AWS SDK failed before it sent anything")).then_some(())
    });
    let log = server.log();
    let (panic, marked) = (log.contains("panicked"), log.contains("marked-key"));
    assert!(!panic && !marked, "{log}");
    // The place of the panic, for a report.
    assert!(log.contains(r#""place":"aws-"#) && !log.contains("/registry/src/"), "{log}");
    drop(server);
    let output = site.run(&["redrive"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = stderr(&output);
    assert!(told.contains("the AWS SDK failed before it sent anything"), "{told}");
    assert!(!told.contains("panicked") && !told.contains("marked-key"), "{told}");
    // It panics about its own settings at the start.
    std::fs::write(site.folder.path().join("config"), "[default]\nmax_attempts = 0\n").unwrap();
    site.set("AWS_CONFIG_FILE", site.folder.path().join("config").to_str().unwrap());
    let output = site.run(&["redrive"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = stderr(&output);
    assert!(told.contains("SQS_DLQ_URL: the AWS SDK cannot use its settings"), "{told}");
    assert!(!told.contains("panicked"), "{told}");
}

/// A port on which a database comes up after a chosen time.
struct SlowDatabase {
    address: SocketAddr,
    is_up: Arc<AtomicBool>,
}

impl SlowDatabase {
    /// Nothing listens there yet.
    fn reserve() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { address, is_up: Arc::new(AtomicBool::new(false)) }
    }

    /// From now on the port answers that the database is starting. Once it is up, the port leads to
    /// the server at `port`.
    fn listen(&self, port: u16, state: &'static str) {
        let listener = TcpListener::bind(self.address).unwrap();
        let is_up = Arc::clone(&self.is_up);
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                if is_up.load(Ordering::SeqCst) {
                    let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    let pairs = [
                        (client.try_clone().unwrap(), server.try_clone().unwrap()),
                        (server, client),
                    ];
                    for (mut from, mut to) in pairs {
                        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                    }
                    continue;
                }
                let mut startup = [0; 1024];
                let _ = client.read(&mut startup);
                let fields = format!("SFATAL\0VFATAL\0C{state}\0Mmarked words\0\0");
                let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
                let _ = client.write_all(&[b"E", &length[..], fields.as_bytes()].concat());
            }
        });
    }
}

#[test]
fn a_server_waits_for_a_database_that_is_not_up_yet_and_for_no_other_reason() {
    let cluster = Cluster::shared();
    let database = cluster.create_database();
    let slow = SlowDatabase::reserve();
    let mut site = Site::on_file();
    site.set("COGNIGY_DATABASE_URL", format!("postgres://postgres@{}/{database}", slow.address));
    // Only a server waits.
    let started = Instant::now();
    let listed = site.run(&["list"]);
    assert_eq!(listed.status.code(), Some(1), "{listed:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());

    let folder = site.folder.path().join("log");
    let mut command = site.command(&["serve"]);
    command.stderr(std::fs::File::create(&folder).unwrap());
    let mut child = command.spawn().unwrap();
    let log = || std::fs::read_to_string(&folder).unwrap();
    eventually("it says that it waits", || log().contains("connection refused").then_some(()));
    // CANNOT_CONNECT_NOW: the answer of a server that is starting.
    slow.listen(cluster.port(), "57P03");
    std::thread::sleep(Duration::from_millis(700));
    assert!(child.try_wait().unwrap().is_none(), "{}", log());
    slow.is_up.store(true, Ordering::SeqCst);
    eventually("it serves", || log().contains("\"listening\"").then_some(()));
    assert_eq!(log().matches("the database is not up yet").count(), 1, "{}", log());
    child.kill().unwrap();
    child.wait().unwrap();

    // A server does not wait because of a wrong password, or of a database that does not exist.
    for state in ["28P01", "3D000"] {
        let wrong = SlowDatabase::reserve();
        wrong.listen(cluster.port(), state);
        site.set("COGNIGY_DATABASE_URL", format!("postgres://u:marked@{}/x", wrong.address));
        let started = Instant::now();
        let output = site.run(&["serve"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        let told = stderr(&output);
        assert!(told.contains("COGNIGY_DATABASE_URL: ") && told.contains(state), "{told}");
    }
}

#[test]
fn help_is_about_the_command_and_the_settings_have_one_of_their_own() {
    let site = Site::on_file();
    let help = stdout(&site.run(&["list", "--help"]));
    assert!(help.contains("--status") && help.contains("--help-settings"), "{help}");
    assert!(!help.contains("--crm-timeout"), "{help}");
    for arguments in [&["--help-settings"][..], &["show", "--help-settings"]] {
        let output = site.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let help = stdout(&output);
        assert!(help.contains("--crm-timeout") && help.contains("COGNIGY_ENV_FILE"), "{help}");
        assert!(!help.contains("--status"), "{help}");
    }
    // They are flags nevertheless.
    refused(&site.run(&["list", "--crm-timeout", "soon"]), "CRM_TIMEOUT");
}

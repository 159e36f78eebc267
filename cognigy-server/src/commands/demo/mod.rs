//! `demo`: the whole journey in one process, with real signed HTTP traffic and an account of it.
//!
//! The server is the real one, on a free loopback port with a new database. [`world`] has a pretend
//! CRM and a pretend dead-letter queue. [`traffic`] is the sender. [`account`] compares what the
//! server reports with what was sent, and with what the pretend CRM and queue counted.

mod account;
mod traffic;
mod world;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clap::ArgMatches;
use cognigy_core::SourceName;
use serde_json::Value;

use super::{Progress, number, serve};
use crate::{
    app::App,
    deployment::{Adapters, Deployment},
    error::StartError,
    output::say,
    settings::{Layers, Settings},
    store::Access,
};
use account::Account;
use traffic::Sender;
use world::{PretendCrm, PretendQueue};

const SECRET: &str = "demo-secret-demo-secret-demo-secret";
const TOKEN: &str = "demo-operator";
/// Work that is not done after this time counts as stuck.
const PATIENCE: Duration = Duration::from_secs(40);

/// What the pretend CRM and the receiver of the hand-over are told.
const CRM_TOKEN: &str = "demo-hubspot-token";
const FORWARD_SECRET: &str = "whsec_ZGVtby1mb3J3YXJkLXNlY3JldC1kZW1vLWZvcndhcmQ=";
/// The other two senders, and their credentials.
const CALLBACK: &str = "callback";
const CALLBACK_SECRET: &str = "cognigy:demo-password";
const CLOUD: &str = "cloud";
const CLOUD_SECRET: &str = "demo-bearer-token";

pub(super) async fn run(arguments: &ArgMatches, layers: Layers) -> Result<bool, StartError> {
    // The settings of the user's own server have no place here.
    let mut layers = layers.only(&["log", "log_format"]);
    let events = number(arguments, "events");
    let directory =
        tempfile::tempdir().map_err(|error| StartError::failed("cannot make a folder", &error))?;
    let crm = PretendCrm::start().await?;
    let queue = Arc::new(PretendQueue::default());

    let database = format!("sqlite:{}", directory.path().join("demo.db").display());
    for (key, value) in [
        ("listen", "127.0.0.1:0"),
        ("webhook_secret", SECRET),
        ("admin_token", TOKEN),
        ("database_url", &database),
        ("crm_base_url", &crm.url()),
        // The default of two seconds, doubling, would keep the user of the demo waiting.
        ("retry_base_delay", "200ms"),
        ("retry_max_attempts", "4"),
        ("forward_url", &format!("{}/events", crm.url())),
        ("forward_secret", FORWARD_SECRET),
    ] {
        layers.set(key, value);
    }
    let name = |name: &str| {
        name.parse::<SourceName>().map_err(|error| StartError::failed("a source", &error))
    };
    let callback = [("preset", "cognigy-callback"), ("webhook_secret", CALLBACK_SECRET)];
    layers.add_source(name(CALLBACK)?, &callback);
    let cloud = [
        ("preset", "cloudevents"),
        ("webhook_secret", CLOUD_SECRET),
        ("crm_preset", "hubspot"),
        ("crm_base_url", &crm.url()),
        ("crm_token", CRM_TOKEN),
        ("crm_external_id_field", "ext_id"),
        ("crm_batch", "5ms"),
    ];
    layers.add_source(name(CLOUD)?, &cloud);
    let settings = Settings::read(&layers)?;
    let adapters = Adapters { dead_letters: Some(queue.clone()), ..Adapters::default() };
    let deployment = Deployment { settings, adapters, traces: None };
    let app = App::build(&deployment, Access::Create, None).await?;
    let running = serve::start(app, &deployment.settings).await?;
    say!("The server listens on http://{}, its database is new and empty.", running.address)?;
    say!(
        "A pretend CRM, a pretend dead-letter queue and a service that takes events stand beside"
    )?;
    say!("it.\n")?;

    let sender = Sender::new(running.address)?;
    say!("1. Posting {events} signed events of all four types, with duplicates, conflicts, a")?;
    say!("   forged signature, invalid payloads, unknown contacts, a CRM that fails for a")?;
    say!(
        "   while and one that stays down for some. Beside them callbacks of a Webhook Endpoint,"
    )?;
    say!(
        "   which cannot sign and show a password, and CloudEvents in batches, whose contacts are"
    )?;
    say!("   looked up as HubSpot's are, many in one request …")?;
    let sent = sender.send_all(events).await?;
    say!(
        "   {} deliveries answered in {:.2} s: {:.0} a second, each durable before its answer.\n",
        sent.total(),
        sent.seconds,
        f64::from(sent.total()) / sent.seconds
    )?;

    say!("2. Waiting until every accepted event is processed and handed on, or dead-lettered …")?;
    let started = Instant::now();
    let progress = Progress::new();
    let settled = loop {
        let stats = sender.stats().await?;
        let waiting = stats["events"]["waiting"].as_u64().unwrap_or(u64::MAX);
        progress.show(&format!("   {waiting} waiting"));
        if waiting == 0 {
            break true;
        }
        if started.elapsed() > PATIENCE {
            break false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    drop(progress);
    say!(
        "   {} after {:.1} s; {} dead letters reached the queue.\n",
        if settled { "Done" } else { "NOT done" },
        started.elapsed().as_secs_f64(),
        queue.dead_letters().len()
    )?;

    say!("3. The CRM recovers. Replaying one dead letter through the operator API …")?;
    crm.recover();
    let replayed = match queue.dead_letters().first() {
        Some(dead_letter) => sender.replay(dead_letter.key.id.as_str()).await?,
        None => Value::Null,
    };
    say!("   {replayed}\n")?;

    let account = Account::draw_up(&sent, &sender.stats().await?, &crm, &queue, &replayed);
    running.stop(std::future::ready(())).await;
    crm.stop().await;
    Ok(account.print()? && settled)
}

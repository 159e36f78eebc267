//! `webhooks`: list, change and remove the webhooks that Cognigy has.

use clap::ArgMatches;
use cognigy_api::WebhookChange;
use serde_json::json;

use super::{
    events::text,
    print_json,
    register::{check, client, kinds},
    source,
};
use crate::{
    error::StartError,
    output::{printable, say},
    settings::Settings,
};

pub(super) async fn run(arguments: &ArgMatches, settings: &Settings) -> Result<bool, StartError> {
    match arguments.subcommand() {
        Some(("list", arguments)) => list(arguments, settings).await,
        Some(("update", arguments)) => update(arguments, settings).await,
        Some(("delete", arguments)) => delete(arguments, settings).await,
        _ => Err(StartError::Usage("name one of list, update and delete".to_owned())),
    }
}

async fn list(arguments: &ArgMatches, settings: &Settings) -> Result<bool, StartError> {
    let listed = client(settings)?.webhooks().await;
    let listed =
        listed.map_err(|error| StartError::failed("the webhooks were not listed", &error))?;
    for webhook in listed {
        if arguments.get_flag("json") {
            print_json(&webhook.answer)?;
            continue;
        }
        let [name, url, active] = ["name", "url", "active"].map(|it| text(&webhook.answer[it]));
        let active = match active.as_str() {
            "true" => "active",
            "false" => "not active",
            _ => "-",
        };
        say!("{}  {name}  {active}  {url}", printable(&webhook.id))?;
    }
    Ok(true)
}

async fn update(arguments: &ArgMatches, settings: &Settings) -> Result<bool, StartError> {
    let text = |name: &str| arguments.get_one::<String>(name).cloned();
    let id = text("id").unwrap_or_default();
    let mut change = WebhookChange::default();
    change.name = text("name");
    change.url = text("url");
    change.events = text("events").map(|names| kinds(&names)).transpose()?;
    change.active = text("active").map(|switch| switch == "on");
    if let Some(url) = &change.url {
        check(url).map_err(StartError::Usage)?;
    }
    if arguments.get_flag("secret") {
        let source = source(arguments, settings)?;
        let secret = source.secret_text.as_ref();
        let secret = secret.ok_or_else(|| source.missing("webhook_secret"))?;
        change = change.secret(secret.as_str());
    }
    if change.is_empty() {
        return Err(StartError::Usage("name what is to change: see --help".to_owned()));
    }
    let changed = client(settings)?.update_webhook(&id, &change).await;
    changed.map_err(|error| StartError::failed("the webhook was not changed", &error))?;
    report(arguments, &id, "updated")
}

async fn delete(arguments: &ArgMatches, settings: &Settings) -> Result<bool, StartError> {
    let id = arguments.get_one::<String>("id").cloned().unwrap_or_default();
    let deleted = client(settings)?.delete_webhook(&id).await;
    deleted.map_err(|error| StartError::failed("the webhook was not deleted", &error))?;
    report(arguments, &id, "deleted")
}

fn report(arguments: &ArgMatches, id: &str, status: &str) -> Result<bool, StartError> {
    if arguments.get_flag("json") {
        print_json(&json!({ "id": id, "status": status }))?;
    } else {
        say!("{status}: {}", printable(id))?;
    }
    Ok(true)
}

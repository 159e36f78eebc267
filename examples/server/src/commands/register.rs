//! `register`: tell Cognigy where to post.

use clap::ArgMatches;
use cognigy_api::{CognigyApi, WebhookRegistration};
use cognigy_core::EventType;

use super::{print_json, source};
use crate::{
    app::StartError,
    http::view::printable,
    output::say,
    settings::{SettingError, Settings},
};

pub(super) async fn run(arguments: &ArgMatches, settings: &Settings) -> Result<bool, StartError> {
    let api = &settings.api;
    let base_url = api.base_url.as_ref().ok_or_else(|| SettingError::missing("base_url"))?;
    let id = api.client_id.as_ref().ok_or_else(|| SettingError::missing("client_id"))?;
    let client_secret =
        api.client_secret.as_ref().ok_or_else(|| SettingError::missing("client_secret"))?;
    let source = source(arguments, settings)?;
    let webhook_secret =
        source.secret_text.as_ref().ok_or_else(|| source.missing("webhook_secret"))?;
    let text = |name: &str| arguments.get_one::<String>(name).cloned();

    let mut registration = WebhookRegistration::new(
        text("name").unwrap_or_default(),
        text("url").unwrap_or_default(),
        webhook_secret.as_str(),
    );
    if let Some(names) = text("events") {
        let kind = |name: &str| {
            EventType::from_contract(name.trim())
                .ok_or_else(|| StartError::Usage(format!("{name:?} is not a type of event")))
        };
        let kinds: Vec<EventType> = names.split(',').map(kind).collect::<Result<_, _>>()?;
        registration = registration.events(kinds);
    }
    let api = CognigyApi::builder(base_url, id, client_secret.as_str())
        .build()
        .map_err(|error| StartError::failed("COGNIGY_BASE_URL", &error))?;
    let registered = api
        .register_webhook(&registration)
        .await
        .map_err(|error| StartError::failed("the webhook was not registered", &error))?;
    if arguments.get_flag("json") {
        print_json(&registered.answer)?;
    } else {
        say!("registered: {}", printable(&registered.id))?;
    }
    Ok(true)
}

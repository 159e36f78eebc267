//! `register`: tell Cognigy where to post.

use clap::ArgMatches;
use cognigy_api::{ApiCall, ApiError, CognigyApi, TransportErrorKind, WebhookRegistration};
use cognigy_core::EventType;

use super::{print_json, source};
use crate::{
    error::StartError,
    output::{printable, say},
    settings::{SettingError, Settings},
};

pub(super) async fn run(arguments: &ArgMatches, settings: &Settings) -> Result<bool, StartError> {
    let text = |name: &str| arguments.get_one::<String>(name).cloned();
    let url = text("url").unwrap_or_default();
    check(&url).map_err(StartError::Usage)?;
    let api = client(settings)?;
    let source = source(arguments, settings)?;
    let webhook_secret =
        source.secret_text.as_ref().ok_or_else(|| source.missing("webhook_secret"))?;

    let mut registration =
        WebhookRegistration::new(text("name").unwrap_or_default(), url, webhook_secret.as_str());
    if let Some(names) = text("events") {
        registration = registration.events(kinds(&names)?);
    }
    let registered = api.register_webhook(&registration).await.map_err(refusal)?;
    if arguments.get_flag("json") {
        print_json(&registered.answer)?;
    } else {
        say!("registered: {}", printable(&registered.id))?;
    }
    Ok(true)
}

/// The types of event in a list, comma-separated.
pub(super) fn kinds(names: &str) -> Result<Vec<EventType>, StartError> {
    let kind = |name: &str| {
        EventType::from_contract(name.trim())
            .ok_or_else(|| StartError::Usage(format!("{name:?} is not a type of event")))
    };
    names.split(',').map(kind).collect()
}

/// Cognigy's API, as it is set.
pub(super) fn client(settings: &Settings) -> Result<CognigyApi, StartError> {
    let api = &settings.api;
    let base_url = api.base_url.as_ref().ok_or_else(|| SettingError::missing("base_url"))?;
    let id = api.client_id.as_ref().ok_or_else(|| SettingError::missing("client_id"))?;
    let secret =
        api.client_secret.as_ref().ok_or_else(|| SettingError::missing("client_secret"))?;
    let mut builder = CognigyApi::builder(base_url, id, secret.as_str());
    if settings.proxy_from_env {
        builder = builder.proxy_from_env();
    }
    builder.build().map_err(|error| StartError::failed("COGNIGY_BASE_URL", &error))
}

/// Whether Cognigy can post to `url`: it is absolute, with a host.
pub(super) fn check(url: &str) -> Result<(), String> {
    let parsed = cognigy_http::absolute_url(url).map_err(|why| format!("the URL {why}"))?;
    match parsed.fragment() {
        Some(_) => {
            Err("the URL must not hold a fragment (#…), which no request carries".to_owned())
        }
        None => Ok(()),
    }
}

/// The error for a registration that failed, or that may have failed.
fn refusal(error: ApiError) -> StartError {
    let may_exist = match &error {
        ApiError::Transport { call: ApiCall::RegisterWebhook, error } => {
            error.kind() != TransportErrorKind::Connect
        }
        ApiError::Unreadable { call: ApiCall::RegisterWebhook, .. } => true,
        // A gateway answers with such a status even if the request has reached Cognigy.
        ApiError::Status { call: ApiCall::RegisterWebhook, status, .. } => *status >= 500,
        _ => false,
    };
    if !may_exist {
        return StartError::failed("the webhook was not registered", &error);
    }
    let what = "the webhook may or may not be registered (see Cognigy's list of webhooks)";
    StartError::failed(what, &error)
}

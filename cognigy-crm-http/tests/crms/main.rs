//! The CRMs that come as templates, played by a stand-in on a real socket: what each is asked, and what
//! its answers, errors and limits become.
#![allow(clippy::unwrap_used)]

#[path = "../../../cognigy-http/tests/stand_in/mod.rs"]
mod stand_in;

mod batches;
mod classes;
mod hostile_keys;
mod limits;
mod oauth;
mod presets;
mod settings;
mod stores;

use std::{
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use cognigy_core::{ContactQuery, CrmClient, Failure, FailureKind, FailureScope};
use cognigy_crm_http::{CrmPreset, TemplateCrm, TemplateCrmBuilder};
use stand_in::{Act, StandIn};

const TOKEN: &str = "token-marker-1";
const KEY: &str = "C-1001-key-marker-2";
const BODY: &str = "body-marker-3";

/// A look-up's outcome in short.
#[derive(Debug, PartialEq)]
enum Told {
    Contact(String),
    NoContact,
    /// Kind, whether the failure is of the whole service, message.
    Failed(FailureKind, bool, String),
    /// The first contact, if the answer held it.
    Ambiguous(Option<String>),
}

impl Told {
    fn is_permanent(&self) -> bool {
        matches!(self, Self::Failed(FailureKind::Permanent, false, _))
    }

    fn is_transient(&self) -> bool {
        matches!(self, Self::Failed(FailureKind::Transient { .. }, false, _))
    }

    fn is_of_service(&self) -> bool {
        matches!(self, Self::Failed(FailureKind::Transient { .. }, true, _))
    }

    fn message(&self) -> &str {
        match self {
            Self::Failed(_, _, message) => message,
            other => panic!("{other:?}"),
        }
    }

    fn wait(&self) -> Option<Duration> {
        match self {
            Self::Failed(FailureKind::Transient { retry_after }, _, _) => *retry_after,
            other => panic!("{other:?}"),
        }
    }
}

fn query(key: &str) -> ContactQuery {
    ContactQuery {
        contact_key: key.to_owned(),
        idempotency_key: "cognigy/evt-1/1".to_owned(),
        fresh: false,
        traceparent: None,
    }
}

async fn find(crm: &TemplateCrm) -> Told {
    find_key(crm, KEY).await
}

/// Whatever comes of it, no failure's text holds a secret, the key, a URL or contact data.
async fn find_key(crm: &TemplateCrm, key: &str) -> Told {
    match crm.find_contact(&query(key)).await {
        Ok(Some(contact)) => Told::Contact(contact.as_json().to_owned()),
        Ok(None) => Told::NoContact,
        Err(failure) => {
            let told = everything_told(&failure);
            for marker in ["marker", "http:", "127.0.0.1", "/api", "/crm"] {
                assert!(!told.contains(marker), "{told}");
            }
            match failure.scope() {
                FailureScope::Ambiguous { first } => {
                    Told::Ambiguous(first.as_ref().map(|it| it.as_json().to_owned()))
                }
                scope => {
                    let of_service = *scope == FailureScope::Service;
                    Told::Failed(failure.kind(), of_service, failure.report())
                }
            }
        }
    }
}

fn everything_told(failure: &Failure) -> String {
    let mut told = format!("{failure} {} ", failure.report());
    let mut source = failure.source();
    while let Some(cause) = source {
        told += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    told
}

/// A preset with the settings that it needs.
fn builder(preset: CrmPreset, url: &str) -> TemplateCrmBuilder {
    let builder = TemplateCrm::builder(preset.template().unwrap()).base_url(url);
    let builder = match preset {
        CrmPreset::HubSpot => builder.external_id_field("ext_id"),
        CrmPreset::Salesforce => builder.external_id_field("Ext__c"),
        CrmPreset::Dynamics => builder.external_id_field("new_extid"),
        CrmPreset::Pipedrive => builder.external_id_field(FIELD_KEY),
        CrmPreset::Zoho => builder.external_id_field("Ext_Id"),
        _ => builder,
    };
    match preset {
        CrmPreset::Zendesk | CrmPreset::Freshdesk => builder.token(format!("me:{TOKEN}")),
        _ => builder.token(TOKEN),
    }
}

/// The name of a custom field in Pipedrive.
const FIELD_KEY: &str = "0123456789abcdef0123456789abcdef01234567";

fn crm(preset: CrmPreset, server: &StandIn) -> TemplateCrm {
    builder(preset, &server.url()).build().unwrap()
}

/// A CRM whose answer to everything can be changed, and one client for it.
struct Scene {
    act: Arc<Mutex<Act>>,
    crm: TemplateCrm,
    _server: StandIn,
}

impl Scene {
    async fn new(preset: CrmPreset) -> Self {
        let act = Arc::new(Mutex::new(Act::Hang));
        let current = Arc::clone(&act);
        let server = StandIn::start(move |_, _| current.lock().unwrap().clone()).await;
        Self { act, crm: crm(preset, &server), _server: server }
    }

    /// What the client makes of this answer.
    async fn told(&self, act: Act) -> Told {
        *self.act.lock().unwrap() = act;
        find(&self.crm).await
    }
}

/// What `preset` makes of one answer to everything.
async fn told_of(preset: CrmPreset, act: Act) -> Told {
    Scene::new(preset).await.told(act).await
}

/// A record of `preset` with this external id, and the answer that holds it.
fn record(preset: CrmPreset, id: &str) -> (String, String) {
    let id = serde_json::Value::from(id);
    let record = match preset {
        CrmPreset::HubSpot => {
            format!(
                r#"{{"id":"501",  "properties":{{"ext_id":{id},"email":"{BODY}"}},"archived":false}}"#
            )
        }
        CrmPreset::Salesforce => {
            format!(
                r#"{{"attributes":{{"type":"Contact"}},  "Id":"003X","Ext__c":{id},"Email":"{BODY}"}}"#
            )
        }
        CrmPreset::Zendesk | CrmPreset::Intercom => {
            format!(r#"{{"id":9001,  "external_id":{id},"name":"{BODY}"}}"#)
        }
        CrmPreset::Dynamics => {
            format!(r#"{{"contactid":"aaaaaaaa",  "new_extid":{id},"fullname":"{BODY}"}}"#)
        }
        CrmPreset::Pipedrive => {
            format!(r#"{{"id":77,  "name":"{BODY}","custom_fields":{{"{FIELD_KEY}":{id}}}}}"#)
        }
        CrmPreset::Freshdesk => {
            format!(r#"{{"id":3001,  "unique_external_id":{id},"name":"{BODY}","phone":null}}"#)
        }
        CrmPreset::Zoho => format!(r#"{{"id":"111",  "Ext_Id":{id},"Full_Name":"{BODY}"}}"#),
        other => panic!("{other}"),
    };
    let answer = list(preset, &[&record]);
    (record, answer)
}

/// The answer of `preset` that holds these records.
fn list(preset: CrmPreset, records: &[&str]) -> String {
    let records = records.join(",");
    match preset {
        CrmPreset::Salesforce => format!(r#"{{"totalSize":1,"done":true,"records":[{records}]}}"#),
        CrmPreset::Zendesk => format!(r#"{{"users":[{records}],"count":1,"next_page":null}}"#),
        CrmPreset::Freshdesk => format!("[{records}]"),
        CrmPreset::Zoho => {
            format!(r#"{{"data":[{records}],"info":{{"count":1,"more_records":false}}}}"#)
        }
        CrmPreset::Pipedrive => format!(r#"{{"success":true,"data":{records}}}"#),
        _ => records,
    }
}

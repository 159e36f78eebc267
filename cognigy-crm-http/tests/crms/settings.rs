//! What can be set, and what is refused before the first look-up.

use std::time::Duration;

use cognigy_crm_http::{
    AuthKind, Batching, CrmPreset, CrmPreset::*, CrmTemplate, TemplateCrm, TemplateCrmBuilder,
};
use percent_encoding::percent_decode_str;

use crate::{
    KEY, TOKEN, Told, builder, find, record,
    stand_in::{StandIn, json},
};

async fn target(crm: impl Fn(&str) -> TemplateCrmBuilder) -> String {
    let server = StandIn::always(json("200 OK", "{}")).await;
    _ = find(&crm(&server.url()).build().unwrap()).await;
    let seen = server.seen().remove(0);
    percent_decode_str(seen.target()).decode_utf8().unwrap().into_owned()
}

#[tokio::test]
async fn fields_version_and_variables_can_be_set() {
    let salesforce = |url: &str| {
        builder(Salesforce, url)
            .version("v66.0")
            .variable("object", "Lead")
            .fields(["Id", "Account.Name"])
    };
    assert_eq!(
        target(salesforce).await,
        format!(
            "/services/data/v66.0/query?q=SELECT Id,Account.Name,Ext__c FROM Lead \
             WHERE Ext__c = '{KEY}' LIMIT 2"
        )
    );
    // The field of the external id is asked for once, wherever it stands.
    let hubspot = |url: &str| builder(HubSpot, url).fields(["ext_id", "phone", "phone"]);
    assert!(target(hubspot).await.ends_with("&properties=ext_id,phone"));
    let freshdesk = |url: &str| builder(Freshdesk, url).external_id_field("mobile").fields(["x"]);
    assert_eq!(target(freshdesk).await, format!("/api/v2/contacts?mobile={KEY}"));
    let prefixed = |url: &str| builder(Intercom, &format!("{url}/proxy/"));
    assert_eq!(target(prefixed).await, format!("/proxy/contacts/find_by_external_id/{KEY}"));
}

#[tokio::test]
async fn each_fixed_kind_of_authentication_can_be_set() {
    for (kind, header, value) in [
        (AuthKind::Bearer, "authorization", Some("Bearer a:b".to_owned())),
        (AuthKind::Basic, "authorization", Some("Basic YTpi".to_owned())),
        (AuthKind::Header, "x-api-token", Some("a:b".to_owned())),
        (AuthKind::None, "authorization", None),
    ] {
        let server = StandIn::always(json("200 OK", "{}")).await;
        let crm = builder(Pipedrive, &server.url()).auth(kind).token("a:b").build().unwrap();
        _ = find(&crm).await;
        assert_eq!(server.seen()[0].header(header), value.as_deref(), "{kind}");
    }
    let server = StandIn::always(json("200 OK", "{}")).await;
    let crm = builder(HubSpot, &server.url()).auth(AuthKind::Header).auth_header("X-Mine");
    _ = find(&crm.build().unwrap()).await;
    assert_eq!(server.seen()[0].header("x-mine"), Some(TOKEN));
}

#[tokio::test]
async fn a_ninth_crm_is_a_table() {
    let template = r#"
        external_id_field = "number"
        error_code = "/fault/kind"
        [auth]
        kind = "header"
        header = "X-Key"
        [[look_up]]
        method = "POST"
        path = "/find"
        body = { filter = "number = '{external_id|odata}'", limit = 2 }
        found = { status = [200, 201], pointer = "/hits", verify = "/number" }
        absent = [{ status = [410], pointer = "/fault/kind", equals = "gone" }]
        ambiguous = [{ status = [300] }]
        [[throttled]]
        status = [420]
        class = "quota"
        reset = { header = "x-again", unit = "seconds" }
    "#;
    let template = CrmTemplate::from_toml(template).unwrap();
    let told = async |status: &str, headers: &str, body: &str| {
        let answer = crate::stand_in::answer(status, headers, body);
        let server = StandIn::always(crate::stand_in::Act::Say(answer)).await;
        let crm = TemplateCrm::builder(template.clone()).base_url(server.url()).token(TOKEN);
        let told = find(&crm.build().unwrap()).await;
        let seen = server.seen().remove(0);
        assert_eq!(seen.line(), "POST /find HTTP/1.1");
        assert_eq!(seen.text(), format!(r#"{{"filter":"number = '{KEY}'","limit":2}}"#));
        assert_eq!(seen.header("content-type"), Some("application/json"));
        assert_eq!(seen.header("x-key"), Some(TOKEN));
        told
    };
    let hit = format!(r#"{{"number":"{KEY}"}}"#);
    assert_eq!(told("201 x", "", &format!(r#"{{"hits":[{hit}]}}"#)).await, Told::Contact(hit));
    assert_eq!(told("410 x", "", r#"{"fault":{"kind":"gone"}}"#).await, Told::NoContact);
    assert!(told("410 x", "", r#"{"fault":{"kind":"other"}}"#).await.is_permanent());
    assert_eq!(told("300 x", "", "[]").await, Told::Ambiguous(None));
    let quota = told("420 x", "x-again: 60\r\n", "").await;
    assert!(quota.is_of_service() && quota.message().contains("quota"), "{quota:?}");
    assert_eq!(quota.wait(), Some(Duration::from_secs(60)));
}

#[test]
fn a_template_that_cannot_work_is_refused_by_its_key() {
    let look_up = "path = '/c/{external_id}'\nfound = { verify = '/id' }";
    let whole = |before: &str, look_up: &str, after: &str| {
        format!("{before}\n[[look_up]]\n{look_up}\n{after}")
    };
    assert!(CrmTemplate::from_toml(&whole("", look_up, "")).is_ok());
    for (toml, key) in [
        (whole("surprise = 1", look_up, ""), "the template"),
        (whole("", "found = { verify = '/id' }", ""), "the template"),
        ("".to_owned(), "the template"),
        ("look_up = []".to_owned(), "look_up"),
        (whole("fields = ['a b']", look_up, ""), "the field `a b`"),
        (whole("external_id_field = ''", look_up, ""), "the field ``"),
        (whole("variables = { v = 'a/b' }", look_up, ""), "variables.v"),
        (whole("headers = { 'a b' = 'c' }", look_up, ""), "headers.a b"),
        (whole("headers = { a = \"c\\n\" }", look_up, ""), "headers.a"),
        (whole("error_code = 'x'", look_up, ""), "error_code"),
        (whole("", "path = 'c/{external_id}'\nfound = { verify = '/id' }", ""), "look_up[0].path"),
        (
            whole("", "path = '/c?x={external_id}'\nfound = { verify = '/id' }", ""),
            "look_up[0].path",
        ),
        (
            whole("", "path = '/../{external_id}'\nfound = { verify = '/id' }", ""),
            "look_up[0].path",
        ),
        (whole("", "path = '/c'\nfound = { verify = '/id' }", ""), "look_up[0]"),
        (whole("", "path = '/{external_id}'\nfound = {}", ""), "look_up[0].found.verify"),
        (
            whole("", "path = '/{external_id}'\nfound = { verify = 'id' }", ""),
            "look_up[0].found.verify",
        ),
        (
            whole("", "path = '/{external_id}'\nfound = { verify = '/id', unverified = true }", ""),
            "look_up[0].found.verify",
        ),
        (
            whole(
                "",
                "path = '/c'\nquery = { q = \"x='{external_id}'\" }\nfound = { verify = '/id' }",
                "",
            ),
            "look_up[0].query.q",
        ),
        (whole("", "path = '/{v}/{external_id}'\nfound = { verify = '/id' }", ""), "{v}"),
        (whole("", &format!("{look_up}\nbody = {{ a = 1 }}"), ""), "look_up[0].body"),
        (
            whole("", &format!("{look_up}\nabsent = [{{ status = [] }}]"), ""),
            "look_up[0].absent[0].status",
        ),
        (
            whole(
                "",
                look_up,
                "[[throttled]]\nstatus = [429]\nreset = { header = 'a b', unit = 'epoch' }",
            ),
            "throttled[0].reset.header",
        ),
    ] {
        let error = CrmTemplate::from_toml(&toml).unwrap_err();
        assert_eq!(error.key(), key, "{toml}: {error}");
        assert!(error.to_string().starts_with(key));
    }
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    let preset = |preset: CrmPreset| TemplateCrm::builder(preset.template().unwrap());
    let url = "http://crm";
    let oauth = |kind| builder(Dynamics, url).auth(kind);
    let credentials = AuthKind::OAuthClientCredentials;
    for (refused, expected) in [
        (preset(Salesforce).token("t").external_id_field("a"), "the CRM's base URL is missing"),
        (preset(HubSpot).token("t"), "the field of the external id is missing"),
        (
            preset(HubSpot).token("t").external_id_field("a b"),
            "the field of the external id must be 1 to 200 letters, digits, `_`, `-` or `.`",
        ),
        (
            builder(Zendesk, url).external_id_field("email"),
            "the field of the external id cannot be chosen: this CRM has only one",
        ),
        (
            builder(HubSpot, url).fields(["a,b"]),
            "the name of a field must be 1 to 200 letters, digits, `_`, `-` or `.`",
        ),
        (builder(HubSpot, url).version("v1"), "a variable is set that the template does not have"),
        (
            builder(Intercom, url).version("2/1"),
            "a variable of the template must be 1 to 200 letters, digits, `_`, `-` or `.`",
        ),
        (preset(HubSpot).external_id_field("a"), "the CRM token is missing"),
        (builder(HubSpot, url).token(""), "the CRM token is empty"),
        (
            builder(HubSpot, url).token("marker\n"),
            "the CRM token holds something other than visible ASCII characters",
        ),
        (builder(Zendesk, url).token("marker"), "the CRM token must be written `user:password`"),
        (oauth(credentials), "the token URL is missing"),
        (
            oauth(credentials).token_url("crm/marker"),
            "the token URL must begin with http:// or https://, followed by a host",
        ),
        (oauth(credentials).token_url(url), "the client id is missing"),
        (oauth(credentials).token_url(url).client_id("i"), "the client secret is missing"),
        (
            oauth(AuthKind::OAuthRefreshToken).token_url(url).client_id("i").client_secret("s"),
            "the refresh token is missing",
        ),
        (
            builder(HubSpot, "http://me:marker@crm"),
            "the base URL must not hold a user name or password",
        ),
        (builder(HubSpot, url).timeout(Duration::ZERO), "the timeout is zero"),
        (
            builder(Freshdesk, url).batching(Batching::new(Duration::ZERO)),
            "batching is not possible: the template has no `batch`",
        ),
    ] {
        let told = refused.build().unwrap_err().to_string();
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn debug_output_shows_no_secret() {
    let secret = |text: &str| format!("{text}-marker");
    let (server, _) = (StandIn::always(json("200 OK", &record(Zoho, KEY).1)).await, ());
    let oauth = |kind| {
        builder(Zoho, &server.url())
            .auth(kind)
            .client_id(secret("id"))
            .client_secret(secret("s"))
            .refresh_token(secret("r"))
    };
    for kind in AuthKind::ALL {
        let shown = format!(
            "{:?} {:?}",
            oauth(kind).token("a:marker"),
            oauth(kind).token("a:marker").build()
        );
        assert!(!shown.contains("marker"), "{shown}");
        assert!(shown.contains("Ext_Id"), "{shown}");
    }
}

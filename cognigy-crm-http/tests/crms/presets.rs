//! Each CRM's documented answers.

use cognigy_core::FailureKind;
use cognigy_crm_http::CrmPreset::{self, *};
use percent_encoding::percent_decode_str;

use crate::{
    BODY, FIELD_KEY, KEY, Scene, TOKEN, Told, builder, crm, find, find_key, list, record,
    stand_in::{Act, Seen, StandIn, answer, json},
    told_of,
};

fn decoded(seen: &Seen) -> String {
    percent_decode_str(seen.target()).decode_utf8().unwrap().into_owned()
}

/// A Pipedrive whose search finds these persons.
async fn pipedrive(persons: Vec<(u32, &'static str)>) -> StandIn {
    StandIn::start(move |_, seen| {
        if seen.target().contains("/search") {
            let item = |(id, _): &(u32, &str)| {
                format!(r#"{{"result_score":0.9,"item":{{"id":{id},"custom_fields":["{KEY}"]}}}}"#)
            };
            let items: Vec<_> = persons.iter().map(item).collect();
            let items = items.join(",");
            return json("200 OK", &format!(r#"{{"success":true,"data":{{"items":[{items}]}}}}"#));
        }
        let found = persons.iter().find(|(id, _)| {
            seen.target() == format!("/api/v2/persons/{id}?custom_fields={FIELD_KEY}")
        });
        match found {
            Some((id, value)) => json(
                "200 OK",
                &format!(r#"{{"success":true,"data":{{"id":{id},"custom_fields":{{"{FIELD_KEY}":"{value}"}}}}}}"#),
            ),
            None => json("404 Not Found", r#"{"success":false,"error":"Person not found"}"#),
        }
    })
    .await
}

#[tokio::test]
async fn each_crm_is_asked_as_its_documents_say_and_its_record_is_handed_on_unchanged() {
    for (preset, target) in [
        (
            HubSpot,
            format!(
                "/crm/v3/objects/contacts/{KEY}?idProperty=ext_id&properties=email,firstname,lastname,ext_id"
            ),
        ),
        (
            Salesforce,
            format!(
                "/services/data/v60.0/query?q=SELECT Id,Email,Name,Ext__c FROM Contact \
                 WHERE Ext__c = '{KEY}' LIMIT 2"
            ),
        ),
        (Zendesk, format!("/api/v2/users/show_many.json?external_ids={KEY}")),
        (
            Dynamics,
            format!(
                "/api/data/v9.2/contacts(new_extid='{KEY}')?$select=contactid,fullname,emailaddress1,new_extid"
            ),
        ),
        (Freshdesk, format!("/api/v2/contacts?unique_external_id={KEY}")),
        (Intercom, format!("/contacts/find_by_external_id/{KEY}")),
        (Zoho, format!("/crm/v8/Contacts/{KEY}?fields=Email,Full_Name,Ext_Id")),
    ] {
        let (record, body) = record(preset, KEY);
        let server = StandIn::always(json("200 OK", &body)).await;
        assert_eq!(find(&crm(preset, &server)).await, Told::Contact(record), "{preset}");
        let seen = server.seen().remove(0);
        assert_eq!(decoded(&seen), target);
        assert_eq!(seen.header("accept"), Some("application/json"));
    }
}

#[tokio::test]
async fn each_crm_gets_its_credential_and_its_headers() {
    for (preset, name, value) in [
        (HubSpot, "authorization", format!("Bearer {TOKEN}")),
        // printf me:token-marker-1 | base64
        (Zendesk, "authorization", "Basic bWU6dG9rZW4tbWFya2VyLTE=".to_owned()),
        (Freshdesk, "authorization", "Basic bWU6dG9rZW4tbWFya2VyLTE=".to_owned()),
        (Dynamics, "odata-version", "4.0".to_owned()),
        (Dynamics, "odata-maxversion", "4.0".to_owned()),
        (Pipedrive, "x-api-token", TOKEN.to_owned()),
        (Intercom, "intercom-version", "2.16".to_owned()),
        (Zoho, "authorization", format!("Zoho-oauthtoken {TOKEN}")),
        (Zoho, "x-external", "Contacts.Ext_Id".to_owned()),
    ] {
        let server = StandIn::always(json("200 OK", "[]")).await;
        _ = find(&crm(preset, &server)).await;
        assert_eq!(server.seen()[0].header(name), Some(value.as_str()), "{preset}");
    }
}

#[tokio::test]
async fn each_crm_says_in_its_own_way_that_it_has_no_such_contact() {
    let not_found = |body: &str| json("404 Not Found", body);
    for (preset, act) in [
        (HubSpot, not_found(r#"{"status":"error","category":"OBJECT_NOT_FOUND","message":"m"}"#)),
        (Salesforce, json("200 OK", r#"{"totalSize":0,"done":true,"records":[]}"#)),
        (Zendesk, json("200 OK", r#"{"users":[],"count":0}"#)),
        (Dynamics, not_found(r#"{"error":{"code":"0x80060891","message":"m"}}"#)),
        (Dynamics, not_found(r#"{"error":{"code":"0X80040217","message":"m"}}"#)),
        (Pipedrive, json("200 OK", r#"{"success":true,"data":{"items":[]}}"#)),
        (Freshdesk, json("200 OK", "[]")),
        (Intercom, not_found(r#"{"type":"error.list","errors":[{"code":"not_found"}]}"#)),
        (Zoho, Act::Say(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())),
    ] {
        assert_eq!(told_of(preset, act).await, Told::NoContact, "{preset}");
    }
    // A deleted contact is asked for without `archived=true`; should one come all the same, it is gone.
    let body = record(HubSpot, KEY).1.replace("false", "true");
    assert_eq!(told_of(HubSpot, json("200 OK", &body)).await, Told::NoContact);
}

#[tokio::test]
async fn a_404_that_does_not_name_a_missing_contact_is_a_wrong_setting() {
    for preset in CrmPreset::ALL {
        let scene = Scene::new(preset).await;
        for body in [
            "",
            "{}",
            "[]",
            "null",
            "<html>Not Found</html>",
            r#"{"error":"RecordNotFound","description":"Not found"}"#,
            r#"{"status":"error","category":"VALIDATION_ERROR","message":"unknown property"}"#,
            r#"[{"errorCode":"NOT_FOUND","message":"Provided external ID field does not exist"}]"#,
            r#"{"error":{"code":"0x8006088a","message":"Resource not found for the segment"}}"#,
            r#"{"type":"error.list","errors":[{"code":"intercom_version_invalid"}]}"#,
            r#"{"code":"INVALID_URL_PATTERN"}"#,
        ] {
            let told = scene.told(json("404 Not Found", body)).await;
            assert!(told.is_permanent(), "{preset} {body}: {told:?}");
            assert!(told.message().contains("check the base URL"), "{told:?}");
        }
    }
}

#[tokio::test]
async fn a_misnamed_field_is_not_an_unknown_contact() {
    for preset in CrmPreset::ALL {
        // The CRM names it, or leaves it out of the record.
        let told =
            told_of(preset, json("400 Bad Request", r#"{"message":"No such column"}"#)).await;
        assert!(told.is_permanent(), "{preset}: {told:?}");
        let (_, body) = record(preset, KEY);
        let renamed = [("ext_id", "a"), ("Ext__c", "a"), ("new_extid", "a"), ("Ext_Id", "a")];
        let renamed = renamed.into_iter().chain([("external_id", "a"), (FIELD_KEY, "a")]);
        let body = renamed.fold(body, |body, (from, to)| {
            body.replace(&format!("\"{from}\""), &format!("\"{to}\""))
        });
        let body = body.replace("unique_external_id", "a");
        let server = StandIn::start(move |_, seen| match seen.target().contains("/search?") {
            true => json("200 OK", r#"{"data":{"items":[{"item":{"id":77}}]}}"#),
            false => json("200 OK", &body),
        })
        .await;
        let told = find(&crm(preset, &server)).await;
        assert!(told.is_permanent(), "{preset}: {told:?}");
        assert!(told.message().contains("without the field of the external id"), "{told:?}");
    }
}

#[tokio::test]
async fn a_record_with_another_external_id_is_not_a_match() {
    for preset in CrmPreset::ALL {
        if preset == Pipedrive {
            continue;
        }
        let scene = Scene::new(preset).await;
        for other in ["C-2002", "", " C-1001-key-marker-2", "C-1001-key-marker-22"] {
            let (_, body) = record(preset, other);
            assert_eq!(scene.told(json("200 OK", &body)).await, Told::NoContact, "{preset}");
        }
        let none = record(preset, "none").1.replace("\"none\"", "null");
        assert_eq!(scene.told(json("200 OK", &none)).await, Told::NoContact, "{preset}");
    }
}

#[tokio::test]
async fn upper_and_lower_case_are_the_same_only_where_the_crm_says_so() {
    for preset in CrmPreset::ALL {
        if preset == Pipedrive {
            continue;
        }
        let (found, body) = record(preset, &KEY.to_lowercase());
        let server = StandIn::always(json("200 OK", &body)).await;
        let folds = preset == Zendesk;
        let expected = if folds { Told::Contact(found.clone()) } else { Told::NoContact };
        assert_eq!(find(&crm(preset, &server)).await, expected, "{preset}");
        let crm = builder(preset, &server.url()).fold_case(!folds).build().unwrap();
        let expected = if folds { Told::NoContact } else { Told::Contact(found) };
        assert_eq!(find(&crm).await, expected, "{preset}");
    }
}

#[tokio::test]
async fn a_number_as_external_id_is_compared_by_its_digits() {
    let body = record(Salesforce, "x").1.replace("\"x\"", "12345678901234567890123");
    let server = StandIn::always(json("200 OK", &body)).await;
    let crm = crm(Salesforce, &server);
    assert!(matches!(find_key(&crm, "12345678901234567890123").await, Told::Contact(_)));
    assert_eq!(find_key(&crm, "12345678901234567890124").await, Told::NoContact);
}

#[tokio::test]
async fn several_matching_records_are_ambiguous_and_the_first_is_told() {
    for preset in [Salesforce, Zendesk, Freshdesk, Zoho] {
        let (first, _) = record(preset, KEY);
        let second = first.replace(BODY, "other");
        let stranger = record(preset, "C-2002").0;
        let body = list(preset, &[&stranger, &first, &second]);
        let told = told_of(preset, json("200 OK", &body)).await;
        assert_eq!(told, Told::Ambiguous(Some(first.clone())), "{preset}");
        // Of several records, those of other contacts do not count.
        let body = list(preset, &[&stranger, &first]);
        assert_eq!(told_of(preset, json("200 OK", &body)).await, Told::Contact(first));
    }
}

#[tokio::test]
async fn pipedrive_confirms_each_person_that_its_search_finds() {
    let server = pipedrive(vec![(1, "c-1001-KEY-marker-2"), (2, KEY), (3, "x")]).await;
    let told = find(&crm(Pipedrive, &server)).await;
    let found = format!(r#"{{"id":2,"custom_fields":{{"{FIELD_KEY}":"{KEY}"}}}}"#);
    assert_eq!(told, Told::Contact(found));
    let seen = server.seen();
    let search =
        format!("/api/v2/persons/search?exact_match=true&fields=custom_fields&limit=11&term={KEY}");
    assert_eq!(seen[0].target(), search);
    assert_eq!(seen.len(), 4);

    let server = pipedrive(vec![(1, "x"), (2, "y")]).await;
    assert_eq!(find(&crm(Pipedrive, &server)).await, Told::NoContact);
    let server = pipedrive(vec![(1, KEY), (2, "y"), (3, KEY)]).await;
    let first = format!(r#"{{"id":1,"custom_fields":{{"{FIELD_KEY}":"{KEY}"}}}}"#);
    assert_eq!(find(&crm(Pipedrive, &server)).await, Told::Ambiguous(Some(first)));
    let server = pipedrive((1..=11).map(|id| (id, "x")).collect()).await;
    assert!(find(&crm(Pipedrive, &server)).await.is_permanent());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn the_id_of_a_candidate_cannot_lead_to_another_path() {
    for id in [r#""..""#, r#""""#, r#""../../users/1""#, "null", "{}"] {
        let body = format!(r#"{{"data":{{"items":[{{"item":{{"id":{id}}}}}]}}}}"#);
        let server = StandIn::always(json("200 OK", &body)).await;
        assert!(find(&crm(Pipedrive, &server)).await.is_permanent(), "{id}");
        for seen in server.seen().iter().skip(1) {
            assert!(seen.target().starts_with("/api/v2/persons/..%2F..%2Fusers%2F1?"), "{id}");
        }
    }
}

#[tokio::test]
async fn intercom_s_merged_contacts_are_followed_once_and_on_the_same_host() {
    let gone = |link: &str| {
        Act::Say(answer("410 Gone", &format!("Link: <{link}>; rel=\"canonical\"\r\n"), "{}"))
    };
    let (survivor, body) = record(Intercom, "C-2002");
    let server = StandIn::start(move |_, seen| match seen.target() {
        "/contacts/66aa" => json("200 OK", &body),
        _ => gone("/contacts/66aa"),
    })
    .await;
    assert_eq!(find(&crm(Intercom, &server)).await, Told::Contact(survivor));
    let seen = server.seen();
    assert_eq!((seen.len(), seen[1].header("authorization")), (2, seen[0].header("authorization")));
    assert!(seen[1].header("authorization").is_some());

    let server = StandIn::always(gone("/contacts/66aa")).await;
    assert!(find(&crm(Intercom, &server)).await.is_permanent());
    assert_eq!(server.seen().len(), 2, "only one link is followed");

    let other = StandIn::always(json("200 OK", &record(Intercom, KEY).1)).await;
    for link in [
        other.url(),
        format!("{}/contacts/1", other.url().replace("http:", "")),
        "mailto:a@b".to_owned(),
    ] {
        let server = StandIn::always(gone(&link)).await;
        let told = find(&crm(Intercom, &server)).await;
        assert!(told.is_permanent() && told.message().contains("no usable link"), "{told:?}");
    }
    assert_eq!(other.accepted(), 0);
    for act in
        [json("410 Gone", "{}"), Act::Say(answer("410 Gone", "Link: </a>; rel=next\r\n", ""))]
    {
        assert!(told_of(Intercom, act).await.is_permanent());
    }
}

#[tokio::test]
async fn quotas_and_throttles_are_told_apart() {
    let limited = |status: &str, headers: &str, body: &str| Act::Say(answer(status, headers, body));
    let quota = "has no requests left in its quota";
    let short = "takes no requests for now";
    let hubspot = |policy: &str| {
        format!(r#"{{"status":"error","errorType":"RATE_LIMIT","policyName":"{policy}"}}"#)
    };
    let salesforce = |message: &str| {
        format!(r#"[{{"errorCode":"REQUEST_LIMIT_EXCEEDED","message":"{message}"}}]"#)
    };
    for (preset, act, told, wait) in [
        (HubSpot, limited("429 x", "", &hubspot("DAILY")), quota, None),
        (HubSpot, limited("429 x", "Retry-After: 3600\r\n", &hubspot("DAILY")), quota, Some(3600)),
        (HubSpot, limited("429 x", "", &hubspot("SECONDLY")), short, None),
        (HubSpot, limited("477 x", "Retry-After: 86400\r\n", ""), short, Some(86_400)),
        (
            Salesforce,
            limited("403 x", "", &salesforce("TotalRequests Limit exceeded.")),
            quota,
            None,
        ),
        (
            Salesforce,
            limited("403 x", "", &salesforce("ConcurrentPerOrgLongTxn Limit")),
            short,
            None,
        ),
        (Zendesk, limited("429 x", "Retry-After: 7\r\n", ""), short, Some(7)),
        (
            Dynamics,
            limited("429 x", "Retry-After: 30\r\n", r#"{"error":{"code":"0x80072322"}}"#),
            short,
            Some(30),
        ),
        (Pipedrive, limited("429 x", "x-daily-ratelimit-token-remaining: 0\r\n", ""), quota, None),
        (Pipedrive, limited("429 x", "x-ratelimit-reset: 2\r\n", ""), short, Some(2)),
        (Freshdesk, limited("429 x", "Retry-After: 60\r\n", ""), short, Some(60)),
        (Zoho, limited("429 x", "", r#"{"code":"TOO_MANY_REQUESTS"}"#), short, None),
        (Zoho, limited("400 x", "", r#"{"code":"TOO_MANY_REQUESTS"}"#), short, None),
    ] {
        let failed = told_of(preset, act).await;
        assert!(failed.is_of_service() && failed.message().contains(told), "{preset}: {failed:?}");
        assert_eq!(failed.wait().map(|wait| wait.as_secs()), wait, "{preset}");
    }
    let reset =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 100;
    let told =
        told_of(Intercom, limited("429 x", &format!("X-RateLimit-Reset: {reset}\r\n"), "")).await;
    assert!((97..=100).contains(&told.wait().unwrap().as_secs()), "{told:?}");
    // Missing rights are not a limit.
    let told = told_of(Salesforce, json("403 x", r#"[{"errorCode":"INSUFFICIENT_ACCESS"}]"#)).await;
    assert_eq!(
        told,
        Told::Failed(
            FailureKind::Permanent,
            false,
            "CRM answered 403 Forbidden (INSUFFICIENT_ACCESS)".into()
        )
    );
}

#[tokio::test]
async fn a_code_is_repeated_only_if_it_looks_like_one() {
    for code in
        ["two words", "C-1001-key-marker-2", "xC-1001-key-marker-2x", "é", "", &"A".repeat(61)]
    {
        let told = told_of(HubSpot, json("403 x", &format!(r#"{{"category":"{code}"}}"#))).await;
        assert_eq!(told.message(), "CRM answered 403 Forbidden", "{code}");
    }
}

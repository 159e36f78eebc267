//! The description of the operator API, in OpenAPI 3.1. A test compares it with the routes that are
//! served and with what they answer.

mod meanings;
mod operations;
mod schemas;

use actix_web::HttpResponse;
use serde_json::{Map, Value, json};

use self::{
    operations::{BAD, OPERATIONS, Operation},
    schemas::{correlation, schemas},
};
use super::{Answer, access::Reader};

/// The answer to `GET /admin/openapi.json`.
pub(super) async fn openapi(_: Reader) -> Answer {
    Ok(HttpResponse::Ok().json(document()))
}

/// The names of the parameters in the query that an operation takes. None if the route is not described.
pub(super) fn parameters_of(method: &str, pattern: &str) -> Option<&'static [&'static str]> {
    let path = pattern.replace(":.+}", "}");
    if path == OWN_PATH {
        return Some(&[]);
    }
    let mut all = OPERATIONS.iter();
    let found = all.find(|it| it.path == path && it.method.eq_ignore_ascii_case(method));
    found.map(|operation| operation.query)
}

/// Where this document is.
const OWN_PATH: &str = "/admin/openapi.json";

/// Answers that name something: where, and the operations that take it as that parameter.
const LINKS: [(&str, &str, &str, [&str; 2]); 4] = [
    ("listEvents", "events/0/event_id", "event_id", ["showEvent", "replayEvent"]),
    ("beginReplay", "id", "id", ["showReplay", "cancelReplay"]),
    ("listReplays", "replays/0/id", "id", ["showReplay", "cancelReplay"]),
    ("listQuarantine", "items/0/id", "id", ["showQuarantined", "retryQuarantined"]),
];

/// The whole document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    let operations = OPERATIONS.iter().map(|it| (it.path, it.method, operation(it)));
    let own = (OWN_PATH, "get", own());
    for (path, method, operation) in operations.chain([own]) {
        let path = paths.entry(path).or_insert_with(|| json!({}));
        path[method] = operation;
    }
    let mut schemas = schemas();
    meanings::describe(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "cognigy-server: operator API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "description": "Times are RFC 3339 in UTC, with microseconds. A list ends where next_cursor \
                            is null; each page is bounded in bytes too, and may have fewer entries than \
                            limit. Errors are problem details (RFC 9457). An unknown or repeated query key \
                            is a 400, another method a 405 with Allow, another spelling of a path a 404. No \
                            answer may be cached (Cache-Control: no-store). /healthz, /readyz and /metrics, \
                            which need no token, and the paths of senders are not described here.",
        },
        "security": [{ "operator": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "operator": {
                "type": "http", "scheme": "bearer",
                "description": "The token of an operator: COGNIGY_ADMIN_TOKEN, or \
                                COGNIGY_OPERATOR_{NAME}_TOKEN. A reader is answered 403 where anything \
                                would change, and sees bodies and contacts as null and no kept headers, \
                                unless its role says bodies.",
            } },
            "schemas": schemas,
        },
    })
}

fn own() -> Value {
    let description = "This document";
    let mut answers = problems(&[], false);
    let schema = json!({ "type": "object" });
    answers["200"] = json!({
        "description": description, "content": { "application/json": { "schema": schema } },
    });
    json!({ "operationId": "showOpenapi", "summary": description, "responses": answers })
}

fn operation(operation: &Operation) -> Value {
    let mut parameters: Vec<_> =
        operation.query.iter().map(|name| parameter(name, "query")).collect();
    let in_path = operation.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    parameters.extend(in_path.map(|name| parameter(name, "path")));
    let (status, schema) = operation.success;
    let mut answers = problems(operation.others, operation.changes);
    let schema = reference(schema);
    let description = match status {
        202 => "Begun: showReplay tells how far it has come",
        _ => "Done",
    };
    answers[status.to_string()] = json!({
        "description": description, "content": { "application/json": { "schema": schema } },
    });
    for (_, place, parameter, takers) in LINKS.iter().filter(|link| link.0 == operation.id) {
        for taker in takers {
            answers[status.to_string()]["links"][*taker] = json!({
                "operationId": taker,
                "parameters": { *parameter: format!("$response.body#/{place}") },
            });
        }
    }
    if matches!(operation.body, Some("Selection" | "Recorrelation")) {
        let schema = reference("Chosen");
        answers["200"] = json!({
            "description": "A dry run", "content": { "application/json": { "schema": schema } },
        });
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": answers,
    });
    if operation.id == "replayEventByGet" {
        described["deprecated"] = json!(true);
    }
    if let Some(body) = operation.body {
        // No body is an object without members.
        let may_be_empty = matches!(body, "Recorrelation" | "PurgeRequest" | "RedriveRequest");
        described["responses"]["408"] = problem("The body was not complete within 10 s");
        described["responses"]["415"] = problem("The body has a content coding");
        let content = json!({ "schema": reference(body), "examples": examples(body) });
        described["requestBody"] =
            json!({ "required": !may_be_empty, "content": { "application/json": content } });
    }
    described
}

/// Examples of a request's body.
fn examples(body: &str) -> Value {
    let example = |summary: &str, value: Value| json!({ "summary": summary, "value": value });
    match body {
        "Selection" => json!({
            "count": example(
                "How many dead letters of the last day would be run",
                json!({ "status": "dead_lettered", "from": "1d", "dry_run": true }),
            ),
            "filter": example(
                "All dead letters of a source, at most 50 a second",
                json!({ "status": "dead_lettered", "source": "cognigy", "rate": 50 }),
            ),
            "ids": example("Two events", json!({ "ids": ["evt-1", "evt-2"] })),
        }),
        "DiscardSelection" => json!({
            "count": example(
                "How many dead letters that are older than 30 days would be dropped",
                json!({ "status": "dead_lettered", "to": "30d", "dry_run": true }),
            ),
            "ids": example("Two events", json!({ "ids": ["evt-1", "evt-2"] })),
        }),
        "Recorrelation" => json!({
            "all": example("All whose contact is not known", json!({})),
            "run": example(
                "Those of the last day, and run them once it is",
                json!({ "from": "1d", "run": true, "rate": 20 }),
            ),
        }),
        "RehearsalSelection" => json!({
            "ids": example("Two events", json!({ "ids": ["evt-1", "evt-2"] })),
            "filter": example(
                "The newest dead letters of a class",
                json!({ "status": "dead_lettered", "error": "crm-answered-404-c1bdd4c5" }),
            ),
        }),
        "PurgeRequest" => json!({
            "purge": example("What is older than the retention", json!({})),
            "count": example("How much that is", json!({ "dry_run": true })),
        }),
        "RedriveRequest" => json!({
            "some": example("A hundred messages of the plain path's queue", json!({ "max": 100 })),
        }),
        _ => json!({
            "external_id": example("By externalId", json!({ "external_id": "customer-1" })),
            "count": example(
                "How much would be erased",
                json!({ "external_id": "customer-1", "dry_run": true }),
            ),
            "user_id": example("By userId", json!({ "user_id": "user-1" })),
        }),
    }
}

/// The answers that are problems: those of the operation, and those that every operation has.
fn problems(own: &[(u16, &str)], changes: bool) -> Value {
    let forbidden = match changes {
        true => "No token is set here, or the operator may only read",
        false => "No token is set here",
    };
    let all = [
        BAD,
        (401, "The bearer token is missing or wrong"),
        (403, forbidden),
        (503, "The store cannot answer now"),
    ];
    let mut answers = json!({});
    // What the operation says of its own beats what is said of all.
    for (status, description) in all.iter().chain(own) {
        let answer = &mut answers[status.to_string()];
        *answer = problem(description);
        match status {
            401 => {
                answer["headers"]["WWW-Authenticate"] =
                    json!({ "required": true, "schema": { "const": "Bearer" } });
            }
            503 => {
                answer["headers"]["Retry-After"] = json!({
                    "description": "Seconds", "schema": { "type": "integer", "minimum": 0 },
                });
            }
            _ => {}
        }
    }
    answers
}

fn problem(description: &str) -> Value {
    let schema = reference("Problem");
    json!({
        "description": description,
        "content": { "application/problem+json": { "schema": schema } },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn parameter(name: &str, place: &str) -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    let moment = "RFC 3339, a date (its midnight in UTC), Unix seconds or milliseconds, or a duration such \
                  as 1h, 1.5h or 1d12h for that long ago";
    let moments = json!({ "type": "string", "minLength": 1, "anyOf": [
        { "format": "date-time" },
        { "format": "date" },
        { "pattern": "^[0-9]{1,13}(\\.[0-9]{1,9})?$" },
        { "pattern": "^[0-9]{1,4}\\.[0-9]{1,3}(ms|s|m|h|d)$" },
        { "pattern": "^([0-9]{1,4}d)?([0-9]{1,4}h)?([0-9]{1,4}m)?([0-9]{1,4}s)?([0-9]{1,4}ms)?$" },
    ] });
    let source = json!({ "type": "string", "pattern": "^[a-z0-9_-]+$", "maxLength": 64 });
    let (description, schema) = match name {
        "status" => ("In this status", reference("Status")),
        "type" => (
            "Of this type: one of the contract's, or, where a source has types of its own, any",
            text,
        ),
        "user" => ("With exactly this userId", text),
        "external_id" => ("With exactly this externalId", text),
        "from" | "to" => (moment, moments),
        "conversation" => ("Of exactly this conversation", text),
        "correlation" => ("For which asking the CRM came to this", correlation()),
        "error" => ("Dead-lettered or retried, with a last error of this class", text),
        "q" => (
            "With all of these words, or words that begin so, in any case: in the body, the ids, the contact or the last error",
            // A search field that is left blank is no condition of a list.
            match place {
                "query" => json!({ "type": "string" }),
                _ => json!({ "type": "string", "pattern": "\\S" }),
            },
        ),
        "key" => ("The contact's externalId or userId, percent-encoded", text),
        "source" => ("The name of a source; that of the plain path is cognigy", source),
        "limit" => (
            "How many entries a page has at most",
            json!({
                "type": "integer", "minimum": 1, "maximum": 500, "default": 50,
            }),
        ),
        "cursor" => (
            "next_cursor of the page before",
            json!({
                "type": "string", "pattern": "^(0|-?[1-9][0-9]{0,17})?$",
            }),
        ),
        "event_id" => (
            "The event's id, percent-encoded",
            json!({ "type": "string", "minLength": 1, "maxLength": 256 }),
        ),
        "id" => ("The number", json!({ "type": "string", "pattern": "^(0|[1-9][0-9]{0,17})$" })),
        _ => ("", text),
    };
    json!({
        "name": name, "in": place, "required": place == "path",
        "description": description, "schema": schema,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The operators' routes that are served, as `get /admin/events`, by the source of the module that
    /// adds them.
    fn served() -> BTreeSet<String> {
        let routes = include_str!("../mod.rs");
        let operators = routes.split_once("fn operators(").expect("the function").1;
        let operators = operators.split_once("\n}\n").expect("its end").0;
        let mut served = BTreeSet::new();
        for call in operators.split("resource(\"").skip(1) {
            let texts: Vec<_> = call.split('"').collect();
            for method in texts[2].split(", ").filter(|_| texts[0] != "/metrics") {
                let path = texts[0].replace(":.+}", "}");
                served.insert(format!("{} {path}", method.to_ascii_lowercase()));
            }
        }
        served
    }

    #[test]
    fn every_route_of_operators_is_described_and_no_other() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                described.insert(format!("{method} {path}"));
                for status in ["401", "403", "503"] {
                    let answer = &operation["responses"][status];
                    assert!(answer.is_object(), "{method} {path} lists no {status}");
                }
            }
        }
        assert_eq!(described, served());
    }

    #[test]
    fn what_is_described_is_what_the_operator_api_takes() {
        for route in cognigy_operator::routes() {
            let (method, path) = (route.method().to_ascii_lowercase(), route.path());
            let described = OPERATIONS.iter().find(|it| it.method == method && it.path == path);
            let described = described.unwrap_or_else(|| panic!("{method} {path} is not described"));
            assert_eq!(described.query, route.query(), "{method} {path}");
            assert_eq!(described.changes, route.changes(), "{method} {path}");
            assert_eq!(described.body.is_some(), route.longest_body() > 0, "{method} {path}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_name_is_unique() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
        let ids: Vec<_> = OPERATIONS.iter().map(|operation| operation.id).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    }
}

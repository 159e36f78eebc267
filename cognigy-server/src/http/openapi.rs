//! The description of the operator API, in OpenAPI 3.1. A test compares it with the routes that are
//! served and with what they answer.

mod meanings;

use actix_web::HttpResponse;
use serde_json::{Map, Value, json};

use super::{Answer, access::Reader};

/// The answer to `GET /admin/openapi.json`.
pub(super) async fn openapi(_: Reader) -> Answer {
    Ok(HttpResponse::Ok().json(document()))
}

/// One operation.
struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    /// Names of `PARAMETERS`. Those of the path are added.
    query: &'static [&'static str],
    body: Option<&'static str>,
    /// The status of the answer to a request that succeeds, and its schema.
    success: (u16, &'static str),
    /// Other statuses of its own.
    others: &'static [(u16, &'static str)],
    /// Whether a reader is refused.
    changes: bool,
}

const FILTER: [&str; 13] = [
    "status",
    "type",
    "user",
    "external_id",
    "from",
    "to",
    "source",
    "conversation",
    "correlation",
    "error",
    "q",
    "limit",
    "cursor",
];

const BAD: (u16, &str) = (400, "A parameter is unknown, repeated or malformed");
const BAD_SELECTION: (u16, &str) = (400, "The selection is malformed or empty");
const BAD_REPLAY: (u16, &str) =
    (400, "The selection is malformed or empty, or more than 200,000 events match");
const LONG_SELECTION: (u16, &str) = (413, "The selection is longer than 2 MiB");
const NO_EVENT: (u16, &str) = (404, "There is no such event");
const NO_ITEM: (u16, &str) = (404, "There is no such item");
const SEVERAL: &str = "Several sources have such an event: name one with source";
const RUN_CONFLICT: &str = "Another run holds the event, an unfinished event of its contact comes first, \
                            several sources have such an event, or its source is not configured";

const REPLAY: Operation = Operation {
    method: "post",
    path: "/webhooks/replay/{event_id}",
    id: "replayEvent",
    summary: "Run an event now, once, from its stored body",
    query: &["source"],
    body: None,
    success: (200, "Replayed"),
    others: &[
        BAD,
        NO_EVENT,
        (409, RUN_CONFLICT),
        (410, "Its body was forgotten"),
        (500, "The run failed; detail says why"),
    ],
    changes: true,
};

const OPERATIONS: [Operation; 19] = [
    REPLAY,
    Operation {
        method: "get",
        id: "replayEventByGet",
        summary: "The same, as older scripts ask for it",
        ..REPLAY
    },
    Operation {
        method: "get",
        path: "/admin/events",
        id: "listEvents",
        summary: "Events that match, newest first",
        query: &FILTER,
        body: None,
        success: (200, "EventPage"),
        others: &[
            BAD,
            (403, "No token is set here, or q is given and the operator sees no bodies"),
        ],
        changes: false,
    },
    Operation {
        method: "get",
        path: "/admin/events/{event_id}",
        id: "showEvent",
        summary: "An event with its body and its history",
        query: &["source"],
        body: None,
        success: (200, "EventDetail"),
        others: &[BAD, NO_EVENT, (409, SEVERAL)],
        changes: false,
    },
    Operation {
        method: "post",
        path: "/admin/replays",
        id: "beginReplay",
        summary: "Run events again: those with these ids, or all that match; it goes on after a restart",
        query: &[],
        body: Some("Selection"),
        success: (202, "ReplayBegun"),
        others: &[BAD_REPLAY, LONG_SELECTION],
        changes: true,
    },
    Operation {
        method: "get",
        path: "/admin/replays",
        id: "listReplays",
        summary: "The bulk replays that are remembered, newest first",
        query: &[],
        body: None,
        success: (200, "ReplayList"),
        others: &[],
        changes: false,
    },
    Operation {
        method: "delete",
        path: "/admin/replays/{id}",
        id: "cancelReplay",
        summary: "End a bulk replay before all its events were run",
        query: &[],
        body: None,
        success: (200, "Progress"),
        others: &[NO_ITEM],
        changes: true,
    },
    Operation {
        method: "get",
        path: "/admin/replays/{id}",
        id: "showReplay",
        summary: "The progress of a bulk replay",
        query: &[],
        body: None,
        success: (200, "Progress"),
        others: &[NO_ITEM],
        changes: false,
    },
    Operation {
        method: "get",
        path: "/admin/quarantine",
        id: "listQuarantine",
        summary: "What was signed but could not be taken, newest first, with the beginnings of the bodies",
        query: &["limit", "cursor"],
        body: None,
        success: (200, "QuarantinePage"),
        others: &[BAD],
        changes: false,
    },
    Operation {
        method: "get",
        path: "/admin/quarantine/{id}",
        id: "showQuarantined",
        summary: "One of these bodies in full",
        query: &[],
        body: None,
        success: (200, "QuarantineItem"),
        others: &[NO_ITEM],
        changes: false,
    },
    Operation {
        method: "post",
        path: "/admin/quarantine/{id}/retry",
        id: "retryQuarantined",
        summary: "Read the body again, and take it in if it is valid now",
        query: &[],
        body: None,
        success: (200, "Retried"),
        others: &[NO_ITEM, (409, "It stays in quarantine; detail says why")],
        changes: true,
    },
    Operation {
        method: "post",
        path: "/admin/sources/{source}/pause",
        id: "pauseSource",
        summary: "Have the workers of the source claim no more, on every node within a second or two; \
                  deliveries are still taken in",
        query: &[],
        body: None,
        success: (200, "SourceState"),
        others: &[(404, "There is no such source")],
        changes: true,
    },
    Operation {
        method: "post",
        path: "/admin/sources/{source}/resume",
        id: "resumeSource",
        summary: "Have the workers of the source go on",
        query: &[],
        body: None,
        success: (200, "SourceState"),
        others: &[(404, "There is no such source")],
        changes: true,
    },
    Operation {
        method: "get",
        path: "/admin/audit",
        id: "listAudit",
        summary: "Who did what, newest first",
        query: &["limit", "cursor"],
        body: None,
        success: (200, "AuditPage"),
        others: &[BAD],
        changes: false,
    },
    Operation {
        method: "get",
        path: "/admin/errors",
        id: "listErrors",
        summary: "What fails now: the last errors of events that are dead-lettered or retried, by class, \
                  most first",
        query: &["source", "from", "to"],
        body: None,
        success: (200, "ErrorList"),
        others: &[BAD],
        changes: false,
    },
    Operation {
        method: "get",
        path: "/admin/contacts/{key}",
        id: "showContact",
        summary: "What is stored about one contact, by externalId or userId, oldest first",
        query: &[],
        body: None,
        success: (200, "Contact"),
        others: &[BAD],
        changes: false,
    },
    Operation {
        method: "post",
        path: "/admin/discards",
        id: "discard",
        summary: "Drop dead letters: those of the events with these ids, or of all that match",
        query: &[],
        body: Some("DiscardSelection"),
        success: (200, "Discarded"),
        others: &[BAD_SELECTION, LONG_SELECTION],
        changes: true,
    },
    Operation {
        method: "post",
        path: "/admin/erasures",
        id: "erase",
        summary: "Erase what is stored about a person; ids and digests stay, so that repetitions are known",
        query: &[],
        body: Some("Person"),
        success: (200, "Erasure"),
        others: &[(400, "It names no person, or two"), (413, "The body is too long")],
        changes: true,
    },
    Operation {
        method: "get",
        path: "/admin/stats",
        id: "showStats",
        summary: "What is stored and what this process has done, in numbers",
        query: &[],
        body: None,
        success: (200, "Stats"),
        others: &[],
        changes: false,
    },
];

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
    let own = ("/admin/openapi.json", "get", own());
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
    if operation.body == Some("Selection") {
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
        let content = json!({ "schema": reference(body), "examples": examples(body) });
        described["requestBody"] =
            json!({ "required": true, "content": { "application/json": content } });
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
        _ => json!({
            "external_id": example("By externalId", json!({ "external_id": "customer-1" })),
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
        (401, "The bearer token is missing or wrong"),
        (403, forbidden),
        (503, "The store cannot answer now"),
    ];
    let mut answers = json!({});
    // What the operation says of its own beats what is said of all.
    for (status, description) in all.iter().chain(own) {
        let schema = reference("Problem");
        let answer = &mut answers[status.to_string()];
        *answer = json!({
            "description": description,
            "content": { "application/problem+json": { "schema": schema } },
        });
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
            "With all of these words, in any case: in the body, the ids, the contact or the last error",
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
                "type": "string", "pattern": "^(-?[0-9]{1,18})?$",
            }),
        ),
        "event_id" => (
            "The event's id, percent-encoded",
            json!({ "type": "string", "minLength": 1, "maxLength": 256 }),
        ),
        "id" => ("The number", json!({ "type": "string", "pattern": "^[0-9]{1,18}$" })),
        _ => ("", text),
    };
    json!({
        "name": name, "in": place, "required": place == "path",
        "description": description, "schema": schema,
    })
}

/// An object that has all of these members.
fn object(members: Value) -> Value {
    let names: Vec<_> = members.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    json!({ "type": "object", "required": names, "properties": members })
}

/// That object, with members that may be absent.
fn object_with(members: Value, optional: Value) -> Value {
    let mut schema = object(members);
    if let Value::Object(optional) = optional {
        for (name, member) in optional {
            schema["properties"][name] = member;
        }
    }
    schema
}

/// What asking the CRM came to.
fn correlation() -> Value {
    let names = cognigy_core::Correlation::ALL.map(cognigy_core::Correlation::as_str);
    let description = "What asking the CRM for the contact came to";
    json!({ "type": "string", "enum": names, "description": description })
}

fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let maybe = json!({ "type": ["string", "null"] });
    let time = json!({ "type": "string", "format": "date-time" });
    let maybe_time = json!({ "type": ["string", "null"], "format": "date-time" });
    let count = json!({ "type": "integer", "minimum": 0 });
    let counts = json!({ "type": "object", "additionalProperties": count });
    let number = json!({ "type": "number", "minimum": 0 });
    let list = |of: &str| json!({ "type": "array", "items": reference(of) });
    let page = |name: &str, of: &str| object(json!({ name: list(of), "next_cursor": maybe }));
    let correlation = correlation();
    let source =
        json!({ "type": "string", "description": "Absent for the source of the plain path" });
    let moment = json!({ "type": ["string", "number"], "description": "As it was received" });
    let line = json!({
        "event_id": text, "type": text, "status": reference("Status"), "timestamp": moment,
        "external_id": maybe, "user_id": maybe, "conversation": maybe, "correlation": correlation,
        "received_at": time, "processed_at": maybe_time,
    });
    let mut detail = line.clone();
    detail["next_attempt_at"] = maybe_time.clone();
    detail["crm_context"] = json!({ "description": "What the CRM knew, or null" });
    detail["body"] =
        json!({ "type": ["string", "null"], "description": "The received text, unchanged" });
    detail["attempts"] = list("Attempt");
    detail["audit"] = list("AuditEntry");
    let letter = object(json!({
        "status": { "type": "string", "const": "unsent" }, "reason": text, "tries": count,
        "next_try_at": time,
    }));
    let of_detail = json!({
        "source": source, "sensitive": { "type": "boolean", "const": true },
        "forgotten": { "type": "string", "enum": ["sensitive", "erased"] },
        "headers": {
            "type": "array", "items": {
                "type": "array", "prefixItems": [text, text], "minItems": 2, "maxItems": 2,
            },
            "description": "Names and values of the headers that were kept of the delivery, if any",
        },
        "dead_letter": letter,
    });
    let duration = json!({ "type": "number", "minimum": 0, "description": "In milliseconds" });
    let attempt = json!({
        "number": count, "run": count, "started_at": time, "duration_ms": duration,
        "outcome": {
            "type": "string",
            "enum": ["succeeded", "failed_transient", "failed_permanent", "lease_expired"],
        },
        "error": maybe,
    });
    let quarantined = json!({
        "id": { "type": "integer" },
        "reason": { "type": "string", "enum": ["invalid", "conflict"] },
        "event_id": maybe, "received_at": time, "detail": text, "body": maybe,
        "body_bytes": count, "body_truncated": { "type": "boolean" },
    });
    let entry = json!({
        "at": time, "by": text, "action": text, "target": maybe,
        "filter": { "type": ["object", "null"] },
        "count": { "type": ["integer", "null"], "minimum": 0 }, "outcome": text,
    });
    let id =
        json!({ "type": "string", "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]+$", "maxLength": 256 });
    let ids = json!({ "type": "array", "items": id, "maxItems": 10_000 });
    let filters = FILTER.iter().filter(|name| !["limit", "cursor"].contains(name));
    let filters: Map<_, _> = filters
        .map(|name| {
            let mut described = parameter(name, "body");
            let mut schema = described["schema"].take();
            schema["description"] = described["description"].take();
            ((*name).to_owned(), schema)
        })
        .collect();
    let rate = json!({
        "type": "number", "exclusiveMinimum": 0, "description": "The most events a second",
    });
    // An empty filter would choose all events.
    let one_of_them: Vec<_> = filters.keys().map(|name| json!({ "required": [name] })).collect();
    let dry_run = json!({
        "type": "boolean", "default": false,
        "description": "Only say what it would be done to, with 200",
    });
    let selection = |further: Value| {
        let with_further = |mut members: Map<String, Value>| {
            members.extend(further.as_object().cloned().unwrap_or_default());
            members
        };
        let of_ids = Map::from_iter([
            ("ids".to_owned(), ids.clone()),
            ("source".to_owned(), filters["source"].clone()),
        ]);
        json!({ "oneOf": [
            {
                "type": "object", "required": ["ids"], "additionalProperties": false,
                "properties": with_further(of_ids),
            },
            {
                "type": "object", "anyOf": one_of_them, "additionalProperties": false,
                "properties": with_further(filters.clone()),
            },
        ] })
    };
    let discard_selection = selection(json!({ "dry_run": dry_run }));
    let selection = selection(json!({ "rate": rate, "dry_run": dry_run }));
    let texts = json!({ "type": "array", "items": text });
    let group = json!({
        "class": text, "message": text, "count": count, "first": time, "last": time, "sample": texts,
    });
    let conversation =
        json!({ "conversation": text, "events": count, "first": time, "last": time });
    let dead_letter = json!({
        "event_id": text, "status": reference("Status"), "error": maybe, "at": maybe_time,
    });
    let replay =
        json!({ "event_id": text, "run": count, "outcome": attempt["outcome"], "at": time });
    let list_of = |of: Value| json!({ "type": "array", "items": object(of) });
    let contact = json!({
        "key": text, "events": list("EventLine"), "conversations": list_of(conversation),
        "quarantine": list("QuarantineItem"), "dead_letters": list_of(dead_letter),
        "replays": list_of(replay),
        "more": { "type": "boolean", "description": "Whether there are more events than are shown" },
    });
    let person = |name: &str| {
        json!({
            "type": "object", "required": [name], "additionalProperties": false,
            "properties": { name: { "type": "string", "minLength": 1 } },
        })
    };
    let chosen = json!({ "count": count, "sample": texts });
    let discarded = json!({
        "count": count, "sample": texts, "not_dead_lettered": count, "not_found": count,
    });
    let erasure = json!({
        "id": text, "events": count, "quarantined": count, "dead_letters": count,
        "sent_dead_letters": texts,
    });
    let progress = json!({
        "id": text,
        "state": { "type": "string", "enum": ["running", "done", "cancelled", "failed"] },
        "total": count, "done": count, "succeeded": count, "failed": count,
        "rate": {
            "type": ["number", "null"], "exclusiveMinimum": 0,
            "description": "The most events a second; null: as fast as it goes",
        },
        "by": text, "begun_at": time,
    });
    let deliveries = json!({
        "received": count, "new": count, "duplicates": count, "conflicts": count, "refused": count,
    });
    let stored =
        json!({ "total": count, "processed": count, "dead_lettered": count, "waiting": count });
    let rates = json!({ "received_per_second": number, "processed_per_second": number });
    let paused = json!({
        "type": "object", "additionalProperties": object(json!({ "by": text, "at": time })),
        "description": "The sources whose workers are paused, and who paused each",
    });
    let stats = json!({
        "deliveries": object(deliveries), "events": object_with(stored, json!({ "discarded": count })), "by_status": counts,
        "by_type": counts, "oldest_pending_seconds": number, "unsent_dead_letters": count,
        "quarantined": count, "held_back": count, "stopped_contacts": count, "paused": paused,
        "rates": object(rates),
    });
    let problem = json!({
        "type": text, "title": text, "status": { "type": "integer" }, "detail": text,
    });
    let statuses = cognigy_core::State::ALL.map(cognigy_core::State::as_str);
    json!({
        "Status": { "type": "string", "enum": statuses },
        "Problem": object(problem),
        "EventLine": object_with(line, json!({ "source": source })),
        "EventPage": page("events", "EventLine"),
        "EventDetail": object_with(detail, of_detail),
        "Attempt": object(attempt),
        "QuarantineItem": object_with(quarantined, json!({ "source": source })),
        "QuarantinePage": page("items", "QuarantineItem"),
        "AuditEntry": object_with(entry, json!({ "source": source })),
        "AuditPage": page("entries", "AuditEntry"),
        "Selection": selection,
        "DiscardSelection": discard_selection,
        "Discarded": object(discarded),
        "Chosen": object(chosen),
        "Person": { "oneOf": [person("external_id"), person("user_id")] },
        "Erasure": object(erasure),
        "ErrorList": object(json!({ "groups": list_of(group) })),
        "Contact": object(contact),
        "ReplayBegun": object(json!({ "id": text, "total": count })),
        "ReplayList": object(json!({ "replays": list("Progress") })),
        "Progress": object(progress),
        "Replayed": object(json!({
            "status": { "type": "string", "const": "replayed" },
            "crm_context": { "description": "What the CRM knew, or null" },
        })),
        "Retried": object_with(
            json!({ "status": { "type": "string", "const": "accepted" }, "event_id": text }),
            json!({ "duplicate": { "type": "boolean", "const": true } }),
        ),
        "SourceState": object(json!({ "source": text, "paused": { "type": "boolean" } })),
        "Stats": object(stats),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The operators' routes that are served, as `get /admin/events`, by the source of the module that
    /// adds them.
    fn served() -> BTreeSet<String> {
        let routes = include_str!("mod.rs");
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

//! The schemas of requests and answers.

use serde_json::{Map, Value, json};

use super::{operations::FILTER, parameter, reference};
use crate::http::redrives;

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
pub(super) fn correlation() -> Value {
    let names = cognigy_core::Correlation::ALL.map(cognigy_core::Correlation::as_str);
    let description = "What asking the CRM for the contact came to";
    json!({ "type": "string", "enum": names, "description": description })
}

/// All schemas, by name.
pub(super) fn schemas() -> Value {
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
            "enum": [
                "succeeded", "failed_transient", "failed_permanent", "lease_expired", "recorrelated",
                "imported",
            ],
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
        "type": "number", "minimum": cognigy_operator::selection::LEAST_RATE,
        "description": "The most events a second",
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
    let left_messages = json!({ "type": "array", "items": object(json!({
                "message_id": text, "event_id": maybe, "source": maybe,
                "outcome": { "enum": ["busy", "again", "differs", "unusable"] }, "reason": text,
            })) });
    let rehearsal_selection = selection(json!({}));
    let maybe_outcome = json!({ "anyOf": [reference("RunOutcome"), { "type": "null" }] });
    let discard_selection = selection(json!({ "dry_run": dry_run }));
    let recorrelation = {
        let run = json!({
            "type": "boolean", "default": false,
            "description": "Also hand an event to the workers once its contact is known",
        });
        let mut of_all = selection(json!({ "rate": rate, "dry_run": dry_run, "run": run }));
        // No condition: all events whose contact is not known.
        if let Some(by_filter) = of_all["oneOf"][1].as_object_mut() {
            by_filter.remove("anyOf");
        }
        of_all
    };
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
            "properties": { name: { "type": "string", "minLength": 1 }, "dry_run": dry_run },
        })
    };
    let chosen = json!({ "count": count, "sample": texts });
    let discarded = json!({
        "count": count, "sample": texts, "not_dead_lettered": count, "not_found": count,
    });
    let erasure = json!({ "events": count, "quarantined": count, "dead_letters": count });
    let receipt = json!({ "id": text, "sent_dead_letters": texts });
    let progress = json!({
        "id": text,
        "work": { "type": "string", "enum": ["replay", "recorrelate", "recorrelate_and_run"] },
        "state": { "type": "string", "enum": ["running", "done", "cancelled", "failed"] },
        "total": count, "done": count, "succeeded": count, "failed": count, "outcomes": counts,
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
    let breakers = json!({
        "type": "object", "additionalProperties": object(json!({ "since": time, "error": text })),
        "description": "The sources whose CRM look-ups are held back, because the CRM is out of reach",
    });
    let stats = json!({
        "deliveries": object(deliveries), "events": object_with(stored, json!({ "discarded": count })), "by_status": counts,
        "by_type": counts, "oldest_pending_seconds": number, "unsent_dead_letters": count,
        "quarantined": count, "held_back": count, "stopped_contacts": count, "paused": paused,
        "breakers": breakers, "rates": object(rates),
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
        "RehearsalSelection": rehearsal_selection,
        "RunOutcome": object(json!({
            "status": reference("Status"), "correlation": correlation,
            "crm_context": { "description": "What the CRM knew, or null" }, "error": maybe,
        })),
        "Rehearsals": object(json!({
            "rehearsals": list("Rehearsal"), "more": { "type": "boolean" },
        })),
        "Rehearsal": object_with(
            json!({
                "event_id": text, "recorded": maybe_outcome, "now": maybe_outcome,
                "differs": { "type": "array", "items": { "enum": ["status", "correlation", "contact"] } },
                "not_rehearsed": {
                    "type": ["string", "null"], "enum": ["not_found", "forgotten", "not_configured", null],
                },
            }),
            json!({ "source": source }),
        ),
        "Recorrelation": recorrelation,
        "Discarded": object(discarded),
        "Chosen": object_with(chosen, json!({ "not_found": count })),
        "Person": { "oneOf": [person("external_id"), person("user_id")] },
        "Erasure": object_with(erasure, receipt),
        "QuarantineDiscarded": object(json!({ "id": text, "status": { "const": "discarded" } })),
        "PurgeRequest": {
            "type": "object", "additionalProperties": false, "properties": {
                "dry_run": dry_run, "cursor": parameter("cursor", "query")["schema"],
            },
        },
        "Purged": object(json!({
            "purged": count, "events": counts, "quarantined": counts, "before": time,
            "dead_letters_before": maybe_time, "next_cursor": maybe,
        })),
        "RedriveRequest": {
            "type": "object", "additionalProperties": false, "properties": {
                "source": filters["source"],
                "max": {
                    "type": "integer", "minimum": 1, "maximum": redrives::MAX_MESSAGES,
                    "description": "The most messages to take back",
                },
            },
        },
        "Redriven": object(json!({
            "requeued": count, "stored": count, "busy": count, "again": count, "differs": count,
            "unusable": count, "undeleted": count,
            "left": { "type": ["integer", "null"], "minimum": 0 },
            "left_messages": left_messages,
        })),
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

//! What the members of requests and answers mean, for the OpenAPI document.

use serde_json::Value;

/// Members and their meanings: those of one schema first, then those that mean the same everywhere. `[]`
/// stands for the entries of a list or map.
const MEANINGS: &[(&str, &str)] = &[
    ("Attempt.error", "Why it failed"),
    ("Attempt.number", "Its number in its run, from 1"),
    (
        "Attempt.outcome",
        "What it came to; lease_expired: its worker ended or hung; recorrelated: the CRM was asked again for \
         the contact, and knew it; the handler was not run; imported: another system had processed the event \
         or given it up, and nothing ran here",
    ),
    ("Attempt.run", "1 for the first run of the event; each replay is a further one"),
    ("Attempt.started_at", "When it began"),
    (
        "AuditEntry.action",
        "What was done: replay, cancel_replay, discard, erase, quarantine_retry, pause, resume and others",
    ),
    ("AuditEntry.at", "When it was done"),
    (
        "AuditEntry.count",
        "To how many events; null where that means nothing, and for an event that was one of many",
    ),
    ("AuditEntry.filter", "The request's selection; of a long one only its names and its length"),
    ("AuditEntry.outcome", "What it came to"),
    (
        "AuditEntry.target",
        "The id of an event, bulk replay, quarantined body or erasure, or a source; null for a selection",
    ),
    ("Chosen.count", "How many events would be run"),
    (
        "Chosen.not_found",
        "Of the named events, how many are not stored, or without a body; absent for a filter",
    ),
    (
        "Progress.work",
        "What is done with each event: it is run, or the CRM is asked again for its contact",
    ),
    ("PurgeRequest.cursor", "next_cursor of the answer before"),
    ("Purged.before", "Of processed and discarded events, those received before this time"),
    (
        "Purged.dead_letters_before",
        "Of dead letters and conflicts, those received before it; null: they stay",
    ),
    ("Purged.events", "How many events of each status went, or would"),
    ("Purged.next_cursor", "Where the next request goes on; null: everything has been looked at"),
    ("Purged.purged", "How many events went, or would"),
    ("Purged.quarantined", "How many quarantined bodies of each reason went, or would"),
    ("QuarantineDiscarded.id", "The number of the body"),
    ("QuarantineDiscarded.status", "Always discarded"),
    (
        "Redriven.again",
        "Messages left in the queue: this redrive has taken their event back already",
    ),
    ("Redriven.busy", "Messages left in the queue: a run holds their event"),
    ("Redriven.differs", "Messages left in the queue: their payload is not what is stored"),
    (
        "Redriven.left",
        "How many messages the queue holds by its own count, which may be a minute old; null: unknown",
    ),
    ("Redriven.left_messages[].event_id", "The event that it names, where that can be read"),
    ("Redriven.left_messages[].message_id", "The queue's own name for it"),
    ("Redriven.left_messages[].outcome", "What became of it"),
    ("Redriven.left_messages[].reason", "Why it stays, in words"),
    ("Redriven.left_messages[].source", "The source of that event"),
    ("Redriven.left_messages", "Each message that was left in the queue"),
    ("Redriven.requeued", "Events that run again"),
    ("Redriven.stored", "Events that were stored anew, and run"),
    ("Redriven.undeleted", "Messages that could not be deleted after their events were taken back"),
    ("Redriven.unusable", "Messages left in the queue: no event can be taken from them"),
    ("Rehearsal.differs", "In what the two differ"),
    ("Rehearsal.not_rehearsed", "Why it could not be rehearsed; else null"),
    ("Rehearsal.now", "How a replay would end now if its handler succeeded"),
    ("Rehearsal.recorded", "How its last run ended, as it is stored"),
    ("Rehearsals.more", "Whether more events were chosen than the 100 that were rehearsed"),
    (
        "Rehearsals.rehearsals",
        "One entry for each event: the newest first, or in the order of the ids",
    ),
    ("RunOutcome.error", "Why it failed; null where it did not"),
    ("RunOutcome.status", "Where the event is, or would be"),
    ("Contact.conversations[].events", "How many of the events that are shown belong to it"),
    ("Contact.conversations[].first", "When the first of them was received"),
    ("Contact.conversations[].last", "When the last of them was received"),
    ("Contact.conversations", "The conversations of the events that are shown"),
    ("Contact.dead_letters[].at", "When its last attempt began"),
    ("Contact.dead_letters[].error", "Why its last attempt failed"),
    ("Contact.dead_letters", "The events that were given up"),
    ("Contact.events", "The newest 500, oldest first"),
    ("Contact.key", "As asked for"),
    (
        "Contact.quarantine",
        "Of the newest 1,000 quarantined bodies, those that name the contact or one of its events",
    ),
    ("Contact.replays[].at", "When it began"),
    ("Contact.replays", "The attempts of all runs but the first"),
    ("Discarded.count", "How many dead letters were dropped, or would be"),
    ("Discarded.not_dead_lettered", "How many events were named by id and are not dead-lettered"),
    ("Discarded.not_found", "How many ids are not stored"),
    (
        "Erasure.dead_letters",
        "How many dead letters of these events were erased, sent ones included; in a dry run, how many of the \
         events are given up now",
    ),
    ("Erasure.events", "How many events were erased, or would be"),
    (
        "Erasure.id",
        "The number of the receipt; the audit names it as target. Absent in the answer to a dry run",
    ),
    ("Erasure.quarantined", "How many quarantined bodies were erased, or would be"),
    (
        "Erasure.sent_dead_letters",
        "The ids of events whose dead letters were sent to a queue: their messages there are not erased. Absent \
         in the answer to a dry run",
    ),
    ("ErrorList.groups[].class", "A name for the filter error"),
    ("ErrorList.groups[].count", "How many events"),
    ("ErrorList.groups[].first", "When the first of these attempts began"),
    ("ErrorList.groups[].last", "When the last of these attempts began"),
    ("ErrorList.groups[].message", "An error of the class, without what differs"),
    ("ErrorList.groups[].sample", "The ids of the newest of the events"),
    ("ErrorList.groups", "The classes of errors, most events first"),
    ("EventDetail.attempts", "All attempts, the earliest first"),
    ("EventDetail.audit", "What operators did to the event, newest first, 500 entries at most"),
    (
        "EventDetail.dead_letter.next_try_at",
        "The next try to send it, or the end of the lease of the worker that does",
    ),
    ("EventDetail.dead_letter.reason", "Why the event was given up"),
    ("EventDetail.dead_letter.status", "It waits until the queue takes it"),
    ("EventDetail.dead_letter.tries", "How often the server began to send it"),
    ("EventDetail.dead_letter", "Present while the dead letter waits for the queue"),
    ("EventDetail.forgotten", "Present once the body is gone: why"),
    ("EventDetail.next_attempt_at", "When the next attempt is due; null if none is"),
    ("EventDetail.sensitive", "Present if the sender asked that the content be shown nowhere"),
    ("Person.external_id", "The person's externalId"),
    ("Person.user_id", "The person's userId"),
    ("Problem.detail", "What is wrong, in words"),
    ("Problem.status", "The status of the answer"),
    ("Problem.title", "The status in words"),
    ("Problem.type", "about:blank: the status says it all"),
    ("Progress.begun_at", "When it was begun"),
    ("Progress.done", "How many events were run; at the end as many as total"),
    ("Progress.failed", "How many of these runs failed"),
    ("Progress.outcomes", "How many of these runs came to each outcome"),
    ("Progress.state", "failed: its list of events was lost"),
    ("Progress.succeeded", "How many of these runs succeeded"),
    ("Progress.total", "How many events it runs; once cancelled, how many it ran"),
    (
        "QuarantineItem.body",
        "In lists the first 1,024 bytes; bytes that are not UTF-8 are U+FFFD; null for an operator who sees no bodies",
    ),
    ("QuarantineItem.body_bytes", "The length of the whole body, in bytes"),
    ("QuarantineItem.body_truncated", "Whether body is only the beginning"),
    ("QuarantineItem.detail", "What is wrong with it"),
    ("QuarantineItem.event_id", "The event's id, if the body has one that can be read"),
    ("QuarantineItem.reason", "conflict: its event id is known with other content"),
    ("ReplayBegun.total", "How many events it will run"),
    ("Retried.duplicate", "Present if the event was stored already, with the same content"),
    ("SourceState.paused", "Whether its workers are paused now"),
    ("Stats.by_status", "How many events are stored, by status"),
    ("Stats.by_type", "How many events are stored, by type"),
    ("Stats.deliveries.conflicts", "Known ids with other content"),
    ("Stats.deliveries.duplicates", "Known ids with the same content"),
    ("Stats.deliveries.new", "Stored as new events"),
    ("Stats.deliveries.received", "All of them: new, duplicates, conflicts and refused"),
    ("Stats.deliveries.refused", "Not taken: signature, content, size or load"),
    ("Stats.deliveries", "The deliveries since this process started"),
    ("Stats.events.dead_lettered", "Given up, with a dead letter that was sent or is kept"),
    (
        "Stats.events.discarded",
        "Given up, with a dead letter that an operator dropped; absent if there are none",
    ),
    ("Stats.events.processed", "Done"),
    ("Stats.events.total", "All of them"),
    (
        "Stats.events.waiting",
        "For an attempt, for the end of one, or for the queue to take their dead letters",
    ),
    ("Stats.events", "The events that are stored"),
    ("Stats.held_back", "How many events wait for an earlier one of their contact"),
    (
        "Stats.oldest_pending_seconds",
        "How long the oldest waiting event has waited, in seconds; 0 if none waits",
    ),
    ("Stats.breakers[].error", "What the look-up failed with after which they are"),
    ("Stats.breakers[].since", "Since when"),
    ("Stats.paused[].at", "Since when"),
    ("Stats.quarantined", "How many bodies are in quarantine"),
    ("Stats.rates.processed_per_second", "Events processed"),
    ("Stats.rates.received_per_second", "Deliveries received"),
    ("Stats.rates", "Averages of this process over the last minute"),
    (
        "Stats.stopped_contacts",
        "How many contacts wait for an operator to deal with an event that was given up",
    ),
    ("Stats.unsent_dead_letters", "How many dead letters wait for the queue"),
    ("by", "The name of the operator; command line for what was done there"),
    ("conversation", "The conversation that it belongs to; null if none is known"),
    ("entries", "Newest first"),
    ("event_id", "The id of the event"),
    ("events", "Newest first"),
    ("external_id", "The externalId that was sent; null if none was"),
    ("id", "Its number"),
    ("ids", "The ids of the events"),
    ("items", "Newest first"),
    ("next_cursor", "The cursor of the next page; null at the end"),
    ("outcome", "What it came to"),
    ("processed_at", "When it was processed; null if it was not"),
    ("received_at", "When it was received"),
    ("replays", "Newest first; 100 are remembered"),
    ("run", "Which run it belongs to"),
    ("sample", "The ids of some of them, ten at most"),
    ("source", "The name of the source"),
    ("status", "Where it is, or what was done"),
    ("type", "The event's type"),
    ("user_id", "The userId that was sent; null if none was"),
];

/// Describes the members of all schemas that say nothing themselves.
pub(super) fn describe(schemas: &mut Value) {
    for (name, schema) in schemas.as_object_mut().into_iter().flatten() {
        describe_members(schema, name);
    }
}

/// Describes the members of the schema at `place`.
fn describe_members(schema: &mut Value, place: &str) {
    if let Some(members) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, member) in members {
            let place = format!("{place}.{name}");
            let meaning = MEANINGS.iter().find(|(of, _)| *of == place || of == name);
            if member.get("description").is_none()
                && let Some((_, meaning)) = meaning
            {
                member["description"] = (*meaning).into();
            }
            describe_members(member, &place);
        }
    }
    for entries in ["items", "additionalProperties"] {
        if let Some(entry) = schema.get_mut(entries) {
            describe_members(entry, &format!("{place}[]"));
        }
    }
    for alternative in schema.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
        describe_members(alternative, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The members without a description in a schema, and how many there are.
    fn members(schema: &Value, place: &str, bare: &mut Vec<String>) -> usize {
        let mut count = 0;
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            let place = format!("{place}.{name}");
            count += 1 + members(member, &place, bare);
            if member["description"].as_str().is_none_or(str::is_empty) {
                bare.push(place);
            }
        }
        count += members_of(&schema["items"], place, bare);
        count += members_of(&schema["additionalProperties"], place, bare);
        let alternatives = schema["oneOf"].as_array().into_iter().flatten();
        count + alternatives.map(|it| members(it, place, bare)).sum::<usize>()
    }

    fn members_of(entry: &Value, place: &str, bare: &mut Vec<String>) -> usize {
        if entry.is_object() { members(entry, &format!("{place}[]"), bare) } else { 0 }
    }

    #[test]
    fn every_member_of_every_schema_says_what_it_means() {
        let document = super::super::document();
        let mut bare = Vec::new();
        let mut count = 0;
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            count += members(schema, name, &mut bare);
        }
        assert!(bare.is_empty(), "{bare:?}");
        assert!(count > 150, "{count}");
    }
}

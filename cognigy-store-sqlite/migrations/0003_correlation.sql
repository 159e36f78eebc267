-- What became of an event's contact and of its body. Programs that know version 2 only do not open this
-- file.

-- What asking the CRM came to: 'matched', 'none', 'ambiguous' or 'failed'; NULL where it was not asked, and
-- for events that were settled before this column was there.
ALTER TABLE events ADD COLUMN correlation TEXT;

-- 1 where the sender asked that the content be logged nowhere, else NULL.
ALTER TABLE events ADD COLUMN sensitive INTEGER;

-- Why the body is not there any more: 'sensitive' or 'erased'. Then `bodies` holds its SHA-256 digest.
ALTER TABLE events ADD COLUMN forgotten TEXT;

-- The bodies that are to be forgotten, now or once their events are processed.
CREATE INDEX events_sensitive ON events (id) WHERE sensitive = 1 AND forgotten IS NULL;

DROP VIEW webhook_events;

-- The plain four columns for people with an SQL prompt.
CREATE VIEW webhook_events (event_id, raw_payload, processed_at, status) AS
SELECT
    events.event_id,
    CASE WHEN events.forgotten IS NULL THEN CAST(bodies.body AS TEXT) END,
    strftime('%Y-%m-%dT%H:%M:%S', events.processed_at / 1000000, 'unixepoch')
        || printf('.%06dZ', events.processed_at % 1000000),
    events.state
FROM events
LEFT JOIN bodies ON bodies.event = events.id;

-- Small texts that all processes share, such as the tokens of a CRM.
CREATE TABLE shared_values (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What became of an event's contact and of its body. The migration only expands: programs that know an
-- earlier version go on. Events that they settle have no correlation, and events that they take in are
-- not sensitive.

-- What asking the CRM came to: 'matched', 'none', 'ambiguous' or 'failed'; NULL where it was not asked, and
-- for events that were settled before this column was there.
ALTER TABLE cognigy_events ADD COLUMN correlation text COLLATE "C";

-- Whether the sender asked that the content be logged nowhere.
ALTER TABLE cognigy_events ADD COLUMN sensitive boolean;

-- Why the body is not there any more: 'sensitive' or 'erased'. Then `cognigy_bodies` holds its SHA-256
-- digest.
ALTER TABLE cognigy_events ADD COLUMN forgotten text COLLATE "C";

-- The bodies that are to be forgotten, now or once their events are processed.
CREATE INDEX cognigy_events_sensitive ON cognigy_events (id) WHERE sensitive AND forgotten IS NULL;

CREATE OR REPLACE VIEW webhook_events (event_id, raw_payload, processed_at, status) AS
SELECT
    events.event_id,
    CASE WHEN events.forgotten IS NULL THEN convert_from(bodies.body, 'UTF8') END,
    events.processed_at,
    CASE
        WHEN queue.event IS NULL THEN events.state
        WHEN queue.held_until IS NULL THEN 'pending'
        ELSE 'processing'
    END
FROM cognigy_events AS events
LEFT JOIN cognigy_queue AS queue ON queue.event = events.id
LEFT JOIN cognigy_bodies AS bodies
    ON bodies.event = events.id AND bodies.received_at = events.received_at;

-- Small texts that all nodes share, such as the tokens of a CRM.
CREATE TABLE cognigy_shared_values (
    name text COLLATE "C" PRIMARY KEY,
    value text COLLATE "C" NOT NULL
);

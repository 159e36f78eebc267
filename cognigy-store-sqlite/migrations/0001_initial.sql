-- Times are microseconds since 1970-01-01 UTC, or NULL.

-- One small row an event: what changes while it is processed, and what lists and filters need.
-- An id names the event in claim tokens and cursors, so it must never be used again after a purge.
-- Each transaction looks the last one up once and counts on; AUTOINCREMENT would do so, in a table
-- of its own, for every event.
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    state TEXT NOT NULL,
    due_at INTEGER,        -- next attempt, or end of the lease; NULL when nothing happens by itself: at the
                           -- end, and while another event of the contact comes first
    claimed_at INTEGER,
    fence INTEGER NOT NULL, -- grows with every claim and settlement
    run INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    processed_at INTEGER,
    source TEXT NOT NULL,
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    event_time INTEGER NOT NULL,
    timestamp_json TEXT NOT NULL,
    external_id TEXT,
    user_id TEXT,
    UNIQUE (source, event_id)
) STRICT;

-- A claim is of one source, however much of another's waits.
CREATE INDEX events_due ON events (source, due_at) WHERE due_at IS NOT NULL;
-- Where events rest that nobody may have to look for: nearly all others end as processed and are
-- found by walking back from the newest, and those on their way are in events_due. An index of every
-- state would cost each event four more changes of a B-tree.
CREATE INDEX events_dead ON events (state) WHERE state IN ('dead_lettering', 'dead_lettered');

-- The received bytes, apart from the rows that change.
CREATE TABLE bodies (
    event INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

-- What the CRM knew in the last successful run.
CREATE TABLE contexts (
    event INTEGER PRIMARY KEY,
    json TEXT NOT NULL
) STRICT;

-- A claim leaves at most one row, so the fence of the claim both identifies and orders attempts.
CREATE TABLE attempts (
    event INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    run INTEGER NOT NULL,
    number INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT,
    PRIMARY KEY (event, fence)
) STRICT, WITHOUT ROWID;

-- Dead letters: waiting for the sink while due_at is set, history once sent_at is.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL, -- the event's, for the index
    event INTEGER NOT NULL,
    run INTEGER NOT NULL,
    reason TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due_at INTEGER,
    fence INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    sent_at INTEGER
) STRICT;

CREATE INDEX outbox_due ON outbox (source, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_event ON outbox (event);

-- The digest (SHA-256 of the body) keeps the same body for the same reason once.
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    reason TEXT NOT NULL,
    event_id TEXT,
    detail TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    digest BLOB NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (source, reason, digest)
) STRICT;

-- How many events there are of each state and of each type, how many of them wait for another and
-- how many contacts are stopped, kept up to date by every transaction.
CREATE TABLE tallies (
    dimension TEXT NOT NULL, -- 'state', 'type' or 'lane'
    name TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (dimension, name)
) STRICT, WITHOUT ROWID;

-- The highest id that events had when some were last purged.
CREATE TABLE purged (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last_event INTEGER NOT NULL
) STRICT;

-- What all programs on this file go by.
CREATE TABLE settings (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    event_order TEXT NOT NULL -- 'none', 'per_contact' or 'per_contact_stop'
) STRICT;

INSERT INTO settings VALUES (1, 'none');

-- While the order of each contact's events is kept: the contacts that have unfinished ones, and which
-- of these may be worked on. Of all others of such a contact due_at is NULL.
CREATE TABLE lanes (
    source TEXT NOT NULL,
    contact TEXT NOT NULL,
    head INTEGER NOT NULL,
    stopped INTEGER NOT NULL, -- 1: the head was given up, and the others wait until it has been replayed
    PRIMARY KEY (source, contact)
) STRICT, WITHOUT ROWID;

-- Those others, in order of arrival.
CREATE TABLE waiting (
    source TEXT NOT NULL,
    contact TEXT NOT NULL,
    event INTEGER NOT NULL,
    PRIMARY KEY (source, contact, event)
) STRICT, WITHOUT ROWID;

-- What the readiness check writes.
CREATE TABLE heartbeat (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    beats INTEGER NOT NULL
) STRICT;

-- The plain four columns for people with an SQL prompt.
CREATE VIEW webhook_events (event_id, raw_payload, processed_at, status) AS
SELECT
    events.event_id,
    CAST(bodies.body AS TEXT),
    strftime('%Y-%m-%dT%H:%M:%S', events.processed_at / 1000000, 'unixepoch')
        || printf('.%06dZ', events.processed_at % 1000000),
    events.state
FROM events
LEFT JOIN bodies ON bodies.event = events.id;

-- What operators did.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL, -- microseconds since 1970
    operator TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT,
    source TEXT, -- of the event that `target` names, else NULL
    filter TEXT, -- JSON
    count INTEGER,
    outcome TEXT NOT NULL
) STRICT;

-- The history of an event.
CREATE INDEX audit_event ON audit (target, source, id) WHERE source IS NOT NULL;

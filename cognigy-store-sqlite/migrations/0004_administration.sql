-- What operators do beside running events again. Programs that know version 3 only do not open this file.

-- Where discarded events rest, as events_dead does for dead letters.
CREATE INDEX events_discarded ON events (id) WHERE state = 'discarded';

-- The receipts of erasures. They do not say whose content went.
CREATE TABLE erasures (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    erased_at INTEGER NOT NULL,
    erased_by TEXT NOT NULL,
    events INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0,
    dead_letters INTEGER NOT NULL DEFAULT 0
) STRICT;

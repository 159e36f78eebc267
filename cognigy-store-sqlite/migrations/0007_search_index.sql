-- The index of words, contacts and conversations, which is made after the events were answered. It takes the
-- place of the indexes that every delivery had to write. Programs that know version 6 only do not open this file.
DROP INDEX IF EXISTS events_external_id;
DROP INDEX IF EXISTS events_user_id;
DROP INDEX IF EXISTS events_conversation;

-- Ranges of at most 4096 ids of events. No two overlap.
CREATE TABLE search_segments (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    state TEXT NOT NULL,       -- 'begun', 'built', or 'dropped' since events in it were purged or erased
    token INTEGER NOT NULL,    -- of the process that made or makes it
    begun_at INTEGER NOT NULL, -- microseconds since 1970
    undescribed BLOB           -- a bit for each event that its parts do not describe; NULL: they describe all
) STRICT;

-- The words and ids of a segment in order, with the events that have them.
CREATE TABLE search_parts (
    segment INTEGER NOT NULL,
    term BLOB NOT NULL,        -- the first one
    entries BLOB NOT NULL,
    PRIMARY KEY (segment, term)
) STRICT, WITHOUT ROWID;

-- Events that were run since their segment was begun: they may have words that it does not tell of.
CREATE TABLE search_late (
    event INTEGER PRIMARY KEY
) STRICT;

-- This is when an event's last error or contact can change. Nearly always the event is newer than every segment,
-- which is all that has to be found out then.
CREATE TRIGGER search_after_attempt AFTER INSERT ON attempts
WHEN NEW.event <= (SELECT last FROM search_segments ORDER BY first DESC LIMIT 1)
BEGIN
    INSERT OR IGNORE INTO search_late VALUES (NEW.event);
END;

CREATE TRIGGER search_after_look_up AFTER INSERT ON contexts
WHEN NEW.event <= (SELECT last FROM search_segments ORDER BY first DESC LIMIT 1)
BEGIN
    INSERT OR IGNORE INTO search_late VALUES (NEW.event);
END;

-- What is removed must not be left in the index.
CREATE TRIGGER search_after_purge AFTER DELETE ON events
WHEN OLD.id <= (SELECT last FROM search_segments ORDER BY first DESC LIMIT 1)
BEGIN
    DELETE FROM search_late WHERE event = OLD.id;
    DELETE FROM search_parts WHERE segment IN (
        SELECT first FROM search_segments
        WHERE first BETWEEN OLD.id - 4095 AND OLD.id AND last >= OLD.id AND state <> 'dropped');
    UPDATE search_segments SET state = 'dropped'
    WHERE first BETWEEN OLD.id - 4095 AND OLD.id AND last >= OLD.id AND state <> 'dropped';
END;

CREATE TRIGGER search_after_erasure AFTER UPDATE OF forgotten ON events
WHEN NEW.forgotten = 'erased' AND OLD.forgotten IS NOT 'erased'
BEGIN
    DELETE FROM search_parts WHERE segment IN (
        SELECT first FROM search_segments
        WHERE first BETWEEN OLD.id - 4095 AND OLD.id AND last >= OLD.id AND state <> 'dropped');
    UPDATE search_segments SET state = 'dropped'
    WHERE first BETWEEN OLD.id - 4095 AND OLD.id AND last >= OLD.id AND state <> 'dropped';
END;

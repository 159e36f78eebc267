-- The index of words, contacts and conversations, which is made after the events were answered. It takes the
-- place of the indexes that every delivery had to write. Programs that know an earlier version go on; until they
-- know this one, they find the events of a contact by reading all.
DROP INDEX IF EXISTS cognigy_events_external_id;
DROP INDEX IF EXISTS cognigy_events_user_id;
DROP INDEX IF EXISTS cognigy_events_conversation;

-- Ranges of at most 4096 ids of events. No two overlap.
CREATE TABLE cognigy_search_segments (
    first bigint PRIMARY KEY,
    last bigint NOT NULL,
    state text COLLATE "C" NOT NULL, -- 'begun', 'built', or 'dropped' since events in it were purged or erased
    token bigint NOT NULL,           -- of the process that made or makes it
    begun_at timestamptz NOT NULL,
    undescribed bytea                -- a bit for each event that its parts do not describe; NULL: they describe all
);

-- The words and ids of a segment in order, with the events that have them.
CREATE TABLE cognigy_search_parts (
    segment bigint NOT NULL,
    term bytea NOT NULL,             -- the first one
    entries bytea NOT NULL,
    PRIMARY KEY (segment, term)
);

-- Events that were run since their segment was begun: they may have words that it does not tell of.
CREATE TABLE cognigy_search_late (
    event bigint PRIMARY KEY
);

-- Called once for each statement that writes attempts or contacts: that is when an event's last error or contact
-- can change. Nearly always the events are newer than every segment.
CREATE FUNCTION cognigy_search_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    newest bigint := (SELECT max(first) FROM cognigy_search_segments);
BEGIN
    INSERT INTO cognigy_search_late (event)
    SELECT DISTINCT event FROM changed
    WHERE event <= (SELECT last FROM cognigy_search_segments WHERE first = newest) ORDER BY event
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE TRIGGER cognigy_search_after_attempt AFTER INSERT ON cognigy_attempts
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION cognigy_search_changed();
CREATE TRIGGER cognigy_search_after_look_up AFTER INSERT ON cognigy_contexts
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION cognigy_search_changed();
CREATE TRIGGER cognigy_search_after_other_look_up AFTER UPDATE ON cognigy_contexts
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION cognigy_search_changed();

-- What is removed must not be left in the index. A process that writes a part holds its segment's row, and a purge
-- or an erasure waits for it.
CREATE FUNCTION cognigy_search_drop(event bigint) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    dropped bigint[];
BEGIN
    WITH changed AS (
        UPDATE cognigy_search_segments SET state = 'dropped'
        WHERE first BETWEEN event - 4095 AND event AND last >= event AND state <> 'dropped' RETURNING first)
    SELECT array_agg(first) INTO dropped FROM changed;
    IF dropped IS NOT NULL THEN
        DELETE FROM cognigy_search_parts WHERE segment = ANY (dropped);
    END IF;
END $$;

CREATE FUNCTION cognigy_search_purged() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- One event of each segment, in order, so that two purges wait for one another in one direction only.
    PERFORM cognigy_search_drop(event) FROM (
        SELECT min(gone.id) AS event
        FROM gone JOIN cognigy_search_segments AS segment ON gone.id BETWEEN segment.first AND segment.last
        WHERE segment.state <> 'dropped' GROUP BY segment.first ORDER BY segment.first) AS dropped;
    RETURN NULL;
END $$;

CREATE TRIGGER cognigy_search_after_purge AFTER DELETE ON cognigy_events
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION cognigy_search_purged();

CREATE FUNCTION cognigy_search_erased() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM cognigy_search_drop(NEW.id);
    RETURN NULL;
END $$;

CREATE TRIGGER cognigy_search_after_erasure AFTER UPDATE OF forgotten ON cognigy_events FOR EACH ROW
    WHEN (NEW.forgotten = 'erased' AND OLD.forgotten IS DISTINCT FROM 'erased')
    EXECUTE FUNCTION cognigy_search_erased();

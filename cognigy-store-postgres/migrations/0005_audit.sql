-- What operators did. The migration only expands: programs that know an earlier version go on.
CREATE TABLE cognigy_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    operator text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    target text COLLATE "C",
    source text COLLATE "C", -- of the event that `target` names, else NULL
    filter text COLLATE "C", -- JSON
    count bigint,
    outcome text COLLATE "C" NOT NULL
);

-- The history of an event.
CREATE INDEX cognigy_audit_event ON cognigy_audit (target, source, id) WHERE source IS NOT NULL;

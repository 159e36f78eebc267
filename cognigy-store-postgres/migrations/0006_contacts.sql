-- Where the events of a contact and of a conversation are found. The migration only expands: programs that
-- know an earlier version go on. Deliveries wait while the indexes are built, unless they are there already
-- (docs/operating.md, "Upgrade"). The indexes hold the beginnings of the texts: an entry may have 2,704 bytes, and a sender
-- may send a text as long as a body.
CREATE INDEX IF NOT EXISTS cognigy_events_external_id
    ON cognigy_events (left(external_id, 64), id) WHERE external_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS cognigy_events_user_id
    ON cognigy_events (left(user_id, 64), id) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS cognigy_events_conversation
    ON cognigy_events (left(conversation, 64), id) WHERE conversation IS NOT NULL;

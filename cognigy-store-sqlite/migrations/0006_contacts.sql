-- Where the events of a contact and of a conversation are found. Programs that know version 5 only do not open
-- this file. The index holds the beginnings of the texts: a sender may send one as long as a body.
CREATE INDEX events_external_id ON events (substr(external_id, 1, 64)) WHERE external_id IS NOT NULL;
CREATE INDEX events_user_id ON events (substr(user_id, 1, 64)) WHERE user_id IS NOT NULL;
CREATE INDEX events_conversation ON events (substr(conversation, 1, 64)) WHERE conversation IS NOT NULL;

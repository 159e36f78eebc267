-- What a delivery brings beside its body. The migration only expands: programs that know version 1 only
-- go on, and what they insert has no headers and no conversation.

-- What names the conversation that the event belongs to.
ALTER TABLE cognigy_events ADD COLUMN conversation text COLLATE "C";

-- The kept headers of the delivery, as a JSON array of pairs; NULL where there are none.
ALTER TABLE cognigy_bodies ADD COLUMN headers text COLLATE "C";
ALTER TABLE cognigy_quarantine ADD COLUMN headers text COLLATE "C";

-- What a delivery brings beside its body. Programs that know version 1 only do not open this file.

-- What names the conversation that the event belongs to.
ALTER TABLE events ADD COLUMN conversation TEXT;

-- The kept headers of the delivery, as a JSON array of pairs; NULL where there are none.
ALTER TABLE bodies ADD COLUMN headers TEXT;
ALTER TABLE quarantine ADD COLUMN headers TEXT;

-- Indexes for contacts and conversations were made here while this version was being written. Version 7 has something
-- cheaper in their place, and drops them where they were made.


-- Which keyword a text is alone ('stop', 'start'), as ingest read it: its handlers follow from it. NULL: none.
ALTER TABLE events ADD COLUMN keyword TEXT;
ALTER TABLE dead_letters ADD COLUMN keyword TEXT;

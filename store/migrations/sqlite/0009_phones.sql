-- All numbers of a person. The column records_people.phone is the first of them, and the only one that versions before
-- this one read and write: whoever looks for a number looks in both places.
CREATE TABLE records_phones (
    record_id TEXT NOT NULL,
    phone     TEXT NOT NULL,
    position  BIGINT NOT NULL,
    PRIMARY KEY (record_id, phone)
) WITHOUT ROWID;
CREATE INDEX records_phones_by_phone ON records_phones (phone);
INSERT INTO records_phones (record_id, phone, position)
    SELECT record_id, phone, 0 FROM records_people WHERE phone IS NOT NULL;

-- 1 while the broker may hold a copy of a delivery whose event was erased: the copy is dropped when it comes.
ALTER TABLE deliveries ADD COLUMN erased_copy BIGINT;
CREATE INDEX deliveries_erased ON deliveries (handler) WHERE erased_copy IS NOT NULL;
-- 1 where a number in the event's text was masked after the broker had its copy: the history's text counts.
ALTER TABLE deliveries ADD COLUMN masked BIGINT;

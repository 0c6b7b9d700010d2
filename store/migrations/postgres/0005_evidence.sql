-- What an entry's hash covers besides, since version 2: when the event was received, how it told of the opt-out
-- (webhook, keyword), and the sender's own id. In the entries before (version NULL) at_ms stands for the receipt.
-- Since version 2, event_time_ms is as the sender stated; NULL where that cannot be read.
ALTER TABLE opt_ledger ADD COLUMN received_ms BIGINT;
ALTER TABLE opt_ledger ADD COLUMN method TEXT COLLATE "C";
ALTER TABLE opt_ledger ADD COLUMN source_event_id TEXT COLLATE "C";
ALTER TABLE opt_ledger ADD COLUMN hash_version BIGINT;

-- The newest event of each kind: as stated, and (opted_out_ms, opted_in_ms) never later than received; and the state
-- that follows from all of them, NULL where an older version wrote the row.
ALTER TABLE opt_state ADD COLUMN opted_out BIGINT;
ALTER TABLE opt_state ADD COLUMN opted_out_stated_ms BIGINT;
ALTER TABLE opt_state ADD COLUMN opted_in_stated_ms BIGINT;

-- The accounts that were configured when an opt-out was first handled: it is sent when each has answered with proof.
CREATE TABLE opt_out_targets (
    event_id TEXT COLLATE "C" NOT NULL,
    account  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (event_id, account)
);

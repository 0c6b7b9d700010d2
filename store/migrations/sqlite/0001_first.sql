-- Times are milliseconds since the Unix epoch, booleans 0 or 1, phones E.164.
-- Expand/contract: a later migration may add, and removes only what no supported version reads; one that older
-- versions cannot live with raises 'oldest_reader' to its own number.

CREATE TABLE store_meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO store_meta (name, value) VALUES ('oldest_reader', '1');

-- One row per event and routed handler: what every sum in `status` is counted from. dead_ms: the time of its last
-- dead letter, by which a repeat of that is recognised after the dead letter itself is gone.
CREATE TABLE deliveries (
    event_id   TEXT NOT NULL,
    handler    TEXT NOT NULL,
    state      TEXT NOT NULL,
    reason     TEXT,
    attempt    BIGINT NOT NULL,
    dead_ms    BIGINT,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (event_id, handler)
) WITHOUT ROWID;
CREATE INDEX deliveries_by_state ON deliveries (handler, state);
CREATE INDEX deliveries_by_age ON deliveries (created_ms);

CREATE TABLE attempts (
    seq         INTEGER PRIMARY KEY,
    event_id    TEXT NOT NULL,
    handler     TEXT NOT NULL,
    attempt     BIGINT NOT NULL,
    started_ms  BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    verdict     TEXT NOT NULL,
    detail      TEXT,
    requests    TEXT NOT NULL
);
CREATE INDEX attempts_by_event ON attempts (event_id);
CREATE INDEX attempts_by_age ON attempts (started_ms);

CREATE TABLE events (
    event_id        TEXT NOT NULL PRIMARY KEY,
    source          TEXT NOT NULL,
    source_event_id TEXT,
    event_type      TEXT NOT NULL,
    received_ms     BIGINT NOT NULL,
    content_type    TEXT,
    request_id      TEXT,
    traceparent     TEXT,
    body            BLOB
);
CREATE INDEX events_by_time ON events (received_ms, event_id);
CREATE INDEX events_by_type ON events (event_type, received_ms, event_id);
CREATE INDEX events_with_body ON events (received_ms) WHERE body IS NOT NULL;

-- sent_ms: when the present claim last said that it is about to write; without one, nothing was sent under it.
-- unknown_ms: since when the outcome of an earlier call has been in doubt; kept while a later attempt looks.
-- doubted_event_id: whose call that was, while event_id is the one that looks.
CREATE TABLE effects (
    handler     TEXT NOT NULL,
    target      TEXT NOT NULL,
    effect_key  TEXT NOT NULL,
    state       TEXT NOT NULL,
    event_id    TEXT NOT NULL,
    owner       TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    sent_ms     BIGINT,
    unknown_ms  BIGINT,
    doubted_event_id TEXT,
    write_again BIGINT NOT NULL,
    remote_id   TEXT,
    created_ms  BIGINT NOT NULL,
    PRIMARY KEY (handler, target, effect_key)
) WITHOUT ROWID;
CREATE INDEX effects_by_event ON effects (event_id, handler);
CREATE INDEX effects_by_age ON effects (created_ms);

CREATE TABLE opt_state (
    account         TEXT NOT NULL,
    phone           TEXT NOT NULL,
    opted_out_ms    BIGINT,
    opted_in_ms     BIGINT,
    source_event_id TEXT,
    PRIMARY KEY (account, phone)
) WITHOUT ROWID;
CREATE INDEX opt_state_by_phone ON opt_state (phone);

CREATE TABLE opt_ledger (
    seq           BIGINT NOT NULL PRIMARY KEY,
    kind          TEXT NOT NULL,
    at_ms         BIGINT NOT NULL,
    event_id      TEXT NOT NULL,
    account       TEXT NOT NULL,
    phone         TEXT NOT NULL,
    status        BIGINT,
    event_time_ms BIGINT,
    reason        TEXT,
    previous_hash TEXT NOT NULL,
    hash          TEXT NOT NULL
);
CREATE INDEX opt_ledger_by_phone ON opt_ledger (phone, seq);
CREATE INDEX opt_ledger_by_event ON opt_ledger (event_id, kind);
CREATE TRIGGER opt_ledger_is_never_updated BEFORE UPDATE ON opt_ledger
BEGIN SELECT RAISE(ABORT, 'the opt-out ledger is append-only'); END;
CREATE TRIGGER opt_ledger_is_never_deleted BEFORE DELETE ON opt_ledger
BEGIN SELECT RAISE(ABORT, 'the opt-out ledger is append-only'); END;

-- One row: the end of the chain, and the lock that puts appends and decisions in one order.
CREATE TABLE opt_ledger_head (
    id   BIGINT NOT NULL PRIMARY KEY,
    seq  BIGINT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO opt_ledger_head (id, seq, hash)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- Holds the event itself, so that a redrive works after the history's payload has expired.
CREATE TABLE dead_letters (
    id              TEXT NOT NULL PRIMARY KEY,
    event_id        TEXT NOT NULL,
    handler         TEXT NOT NULL,
    state           TEXT NOT NULL,
    reason          TEXT NOT NULL,
    destination     TEXT,
    status          BIGINT,
    detail          TEXT NOT NULL,
    attempts        BIGINT NOT NULL,
    dead_ms         BIGINT NOT NULL,
    source          TEXT NOT NULL,
    source_event_id TEXT,
    event_type      TEXT NOT NULL,
    received_ms     BIGINT NOT NULL,
    content_type    TEXT,
    request_id      TEXT,
    traceparent     TEXT,
    body            BLOB,
    UNIQUE (event_id, handler)
);
CREATE INDEX dead_letters_by_time ON dead_letters (dead_ms, id);

-- One row is also the lock that serialises writes per account and phone.
CREATE TABLE contact_links (
    account       TEXT NOT NULL,
    phone         TEXT NOT NULL,
    contact_id    TEXT,
    person_id     TEXT,
    created_by_us BIGINT NOT NULL,
    lock_owner    TEXT,
    lock_until    BIGINT,
    PRIMARY KEY (account, phone)
) WITHOUT ROWID;
CREATE INDEX contact_links_by_contact ON contact_links (contact_id);
CREATE INDEX contact_links_by_phone ON contact_links (phone);

CREATE TABLE gates (
    destination  TEXT NOT NULL PRIMARY KEY,
    paused       BIGINT NOT NULL,
    reason       TEXT,
    closed_until BIGINT,
    call_limit   BIGINT,
    remaining    BIGINT
) WITHOUT ROWID;

CREATE TABLE workers (
    worker_id    TEXT NOT NULL PRIMARY KEY,
    heartbeat_ms BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE records_people (
    record_id  TEXT NOT NULL PRIMARY KEY,
    contact_id TEXT,
    phone      TEXT,
    name       TEXT,
    created_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX records_people_by_contact ON records_people (contact_id) WHERE contact_id IS NOT NULL;
CREATE INDEX records_people_by_phone ON records_people (phone);
CREATE INDEX records_people_by_time ON records_people (created_ms, record_id);

CREATE TABLE records_notes (
    note_id         TEXT NOT NULL PRIMARY KEY,
    message_id      TEXT NOT NULL UNIQUE,
    person_id       TEXT NOT NULL,
    event_id        TEXT NOT NULL,
    contact_id      TEXT,
    phone           TEXT,
    direction       TEXT NOT NULL,
    body            TEXT NOT NULL,
    occurred_ms     BIGINT NOT NULL,
    business_number TEXT,
    user_name       TEXT,
    created_ms      BIGINT NOT NULL
);
CREATE INDEX records_notes_by_time ON records_notes (created_ms, note_id);
CREATE INDEX records_notes_by_person ON records_notes (person_id);
CREATE INDEX records_notes_by_phone ON records_notes (phone);

CREATE TABLE records_opt_flags (
    phone         TEXT NOT NULL PRIMARY KEY,
    opted_out     BIGINT NOT NULL,
    event_time_ms BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY,
    at_ms   BIGINT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason  TEXT
);

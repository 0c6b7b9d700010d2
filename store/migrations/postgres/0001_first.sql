-- Times are milliseconds since the Unix epoch, booleans 0 or 1, phones E.164. Text compares byte by byte, as in SQLite:
-- cursors of lists and the order in which rows are locked must not depend on the database's locale.
-- Expand/contract: a later migration may add, and removes only what no supported version reads; one that older
-- versions cannot live with raises 'oldest_reader' to its own number.

CREATE TABLE store_meta (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
);
INSERT INTO store_meta (name, value) VALUES ('oldest_reader', '1');

-- One row per event and routed handler: what every sum in `status` is counted from. dead_ms: the time of its last
-- dead letter, by which a repeat of that is recognised after the dead letter itself is gone.
CREATE TABLE deliveries (
    event_id   TEXT COLLATE "C" NOT NULL,
    handler    TEXT COLLATE "C" NOT NULL,
    state      TEXT COLLATE "C" NOT NULL,
    reason     TEXT COLLATE "C",
    attempt    BIGINT NOT NULL,
    dead_ms    BIGINT,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (event_id, handler)
);
CREATE INDEX deliveries_by_state ON deliveries (handler, state);
CREATE INDEX deliveries_by_age ON deliveries (created_ms);

CREATE TABLE attempts (
    seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id    TEXT COLLATE "C" NOT NULL,
    handler     TEXT COLLATE "C" NOT NULL,
    attempt     BIGINT NOT NULL,
    started_ms  BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    verdict     TEXT COLLATE "C" NOT NULL,
    detail      TEXT COLLATE "C",
    requests    TEXT COLLATE "C" NOT NULL
);
CREATE INDEX attempts_by_event ON attempts (event_id);
CREATE INDEX attempts_by_age ON attempts (started_ms);

CREATE TABLE events (
    event_id        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    source          TEXT COLLATE "C" NOT NULL,
    source_event_id TEXT COLLATE "C",
    event_type      TEXT COLLATE "C" NOT NULL,
    received_ms     BIGINT NOT NULL,
    content_type    TEXT COLLATE "C",
    request_id      TEXT COLLATE "C",
    traceparent     TEXT COLLATE "C",
    body            BYTEA
);
CREATE INDEX events_by_time ON events (received_ms, event_id);
CREATE INDEX events_by_type ON events (event_type, received_ms, event_id);
CREATE INDEX events_with_body ON events (received_ms) WHERE body IS NOT NULL;

-- sent_ms: when the present claim last said that it is about to write; without one, nothing was sent under it.
-- unknown_ms: since when the outcome of an earlier call has been in doubt; kept while a later attempt looks.
-- doubted_event_id: whose call that was, while event_id is the one that looks.
CREATE TABLE effects (
    handler     TEXT COLLATE "C" NOT NULL,
    target      TEXT COLLATE "C" NOT NULL,
    effect_key  TEXT COLLATE "C" NOT NULL,
    state       TEXT COLLATE "C" NOT NULL,
    event_id    TEXT COLLATE "C" NOT NULL,
    owner       TEXT COLLATE "C" NOT NULL,
    lease_until BIGINT NOT NULL,
    sent_ms     BIGINT,
    unknown_ms  BIGINT,
    doubted_event_id TEXT COLLATE "C",
    write_again BIGINT NOT NULL,
    remote_id   TEXT COLLATE "C",
    created_ms  BIGINT NOT NULL,
    PRIMARY KEY (handler, target, effect_key)
);
CREATE INDEX effects_by_event ON effects (event_id, handler);
CREATE INDEX effects_by_age ON effects (created_ms);

CREATE TABLE opt_state (
    account         TEXT COLLATE "C" NOT NULL,
    phone           TEXT COLLATE "C" NOT NULL,
    opted_out_ms    BIGINT,
    opted_in_ms     BIGINT,
    source_event_id TEXT COLLATE "C",
    PRIMARY KEY (account, phone)
);
CREATE INDEX opt_state_by_phone ON opt_state (phone);

CREATE TABLE opt_ledger (
    seq           BIGINT NOT NULL PRIMARY KEY,
    kind          TEXT COLLATE "C" NOT NULL,
    at_ms         BIGINT NOT NULL,
    event_id      TEXT COLLATE "C" NOT NULL,
    account       TEXT COLLATE "C" NOT NULL,
    phone         TEXT COLLATE "C" NOT NULL,
    status        BIGINT,
    event_time_ms BIGINT,
    reason        TEXT COLLATE "C",
    previous_hash TEXT COLLATE "C" NOT NULL,
    hash          TEXT COLLATE "C" NOT NULL
);
CREATE INDEX opt_ledger_by_phone ON opt_ledger (phone, seq);
CREATE INDEX opt_ledger_by_event ON opt_ledger (event_id, kind);
CREATE FUNCTION opt_ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the opt-out ledger is append-only';
END $$;
CREATE TRIGGER opt_ledger_is_never_updated BEFORE UPDATE ON opt_ledger
FOR EACH ROW EXECUTE FUNCTION opt_ledger_is_append_only();
CREATE TRIGGER opt_ledger_is_never_deleted BEFORE DELETE ON opt_ledger
FOR EACH ROW EXECUTE FUNCTION opt_ledger_is_append_only();
CREATE TRIGGER opt_ledger_is_never_truncated BEFORE TRUNCATE ON opt_ledger
FOR EACH STATEMENT EXECUTE FUNCTION opt_ledger_is_append_only();

-- One row: the end of the chain, and the lock that puts appends and decisions in one order.
CREATE TABLE opt_ledger_head (
    id   BIGINT NOT NULL PRIMARY KEY,
    seq  BIGINT NOT NULL,
    hash TEXT COLLATE "C" NOT NULL
);
ALTER TABLE opt_ledger_head SET (fillfactor = 20);
INSERT INTO opt_ledger_head (id, seq, hash)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- Holds the event itself, so that a redrive works after the history's payload has expired.
CREATE TABLE dead_letters (
    id              TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    event_id        TEXT COLLATE "C" NOT NULL,
    handler         TEXT COLLATE "C" NOT NULL,
    state           TEXT COLLATE "C" NOT NULL,
    reason          TEXT COLLATE "C" NOT NULL,
    destination     TEXT COLLATE "C",
    status          BIGINT,
    detail          TEXT COLLATE "C" NOT NULL,
    attempts        BIGINT NOT NULL,
    dead_ms         BIGINT NOT NULL,
    source          TEXT COLLATE "C" NOT NULL,
    source_event_id TEXT COLLATE "C",
    event_type      TEXT COLLATE "C" NOT NULL,
    received_ms     BIGINT NOT NULL,
    content_type    TEXT COLLATE "C",
    request_id      TEXT COLLATE "C",
    traceparent     TEXT COLLATE "C",
    body            BYTEA,
    UNIQUE (event_id, handler)
);
CREATE INDEX dead_letters_by_time ON dead_letters (dead_ms, id);

-- One row is also the lock that serialises writes per account and phone.
CREATE TABLE contact_links (
    account       TEXT COLLATE "C" NOT NULL,
    phone         TEXT COLLATE "C" NOT NULL,
    contact_id    TEXT COLLATE "C",
    person_id     TEXT COLLATE "C",
    created_by_us BIGINT NOT NULL,
    lock_owner    TEXT COLLATE "C",
    lock_until    BIGINT,
    PRIMARY KEY (account, phone)
);
CREATE INDEX contact_links_by_contact ON contact_links (contact_id);
CREATE INDEX contact_links_by_phone ON contact_links (phone);

CREATE TABLE gates (
    destination  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    paused       BIGINT NOT NULL,
    reason       TEXT COLLATE "C",
    closed_until BIGINT,
    call_limit   BIGINT,
    remaining    BIGINT
);

CREATE TABLE workers (
    worker_id    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    heartbeat_ms BIGINT NOT NULL
);

CREATE TABLE records_people (
    record_id  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    contact_id TEXT COLLATE "C",
    phone      TEXT COLLATE "C",
    name       TEXT COLLATE "C",
    created_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX records_people_by_contact ON records_people (contact_id) WHERE contact_id IS NOT NULL;
CREATE INDEX records_people_by_phone ON records_people (phone);
CREATE INDEX records_people_by_time ON records_people (created_ms, record_id);

CREATE TABLE records_notes (
    note_id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    message_id      TEXT COLLATE "C" NOT NULL UNIQUE,
    person_id       TEXT COLLATE "C" NOT NULL,
    event_id        TEXT COLLATE "C" NOT NULL,
    contact_id      TEXT COLLATE "C",
    phone           TEXT COLLATE "C",
    direction       TEXT COLLATE "C" NOT NULL,
    body            TEXT COLLATE "C" NOT NULL,
    occurred_ms     BIGINT NOT NULL,
    business_number TEXT COLLATE "C",
    user_name       TEXT COLLATE "C",
    created_ms      BIGINT NOT NULL
);
CREATE INDEX records_notes_by_time ON records_notes (created_ms, note_id);
CREATE INDEX records_notes_by_person ON records_notes (person_id);
CREATE INDEX records_notes_by_phone ON records_notes (phone);

CREATE TABLE records_opt_flags (
    phone         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    opted_out     BIGINT NOT NULL,
    event_time_ms BIGINT NOT NULL
);

CREATE TABLE audit (
    seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms   BIGINT NOT NULL,
    action  TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    reason  TEXT COLLATE "C"
);

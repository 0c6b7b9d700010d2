-- A thread: the texts of one account, contact's number (or contact), business number and day. thread_key is the hash of
-- these four. A thread is closed once one of its messages has expired; later messages get another, with the next number.
CREATE TABLE threads (
    thread_id       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    thread_key      TEXT COLLATE "C" NOT NULL,
    number          BIGINT NOT NULL,
    account         TEXT COLLATE "C" NOT NULL,
    phone           TEXT COLLATE "C",
    contact_id      TEXT COLLATE "C",
    business_number TEXT COLLATE "C",
    day             TEXT COLLATE "C" NOT NULL,
    version         BIGINT NOT NULL,
    closed_ms       BIGINT,
    created_ms      BIGINT NOT NULL,
    UNIQUE (thread_key, number)
);
CREATE INDEX threads_by_time ON threads (created_ms, thread_id);
CREATE INDEX threads_by_phone ON threads (phone);
CREATE INDEX threads_by_contact ON threads (contact_id);
CREATE INDEX threads_closed ON threads (closed_ms) WHERE closed_ms IS NOT NULL;

-- version: the thread's version when this message last changed. A write of the thread at that version or a later one
-- contains it. media: JSON.
CREATE TABLE thread_messages (
    message_id  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    thread_id   TEXT COLLATE "C" NOT NULL,
    version     BIGINT NOT NULL,
    event_id    TEXT COLLATE "C" NOT NULL,
    event_ms    BIGINT NOT NULL,
    inbound     BIGINT NOT NULL,
    outcome     TEXT COLLATE "C" NOT NULL,
    body        TEXT COLLATE "C" NOT NULL,
    author      TEXT COLLATE "C",
    media       TEXT COLLATE "C" NOT NULL,
    is_stop     BIGINT NOT NULL,
    occurred_ms BIGINT NOT NULL,
    created_ms  BIGINT NOT NULL
);
CREATE INDEX thread_messages_by_thread ON thread_messages (thread_id, occurred_ms, message_id);
CREATE INDEX thread_messages_by_age ON thread_messages (created_ms);

-- What was written of a thread to one system of record. write_id: thread and system. parts: JSON, id and hash of each
-- note. doubt_part, doubt_ms: the note that a call without an answer may have created, and since when.
CREATE TABLE thread_writes (
    write_id    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    thread_id   TEXT COLLATE "C" NOT NULL,
    system      TEXT COLLATE "C" NOT NULL,
    version     BIGINT NOT NULL,
    person_id   TEXT COLLATE "C",
    parts       TEXT COLLATE "C" NOT NULL,
    text        TEXT COLLATE "C",
    written_ms  BIGINT,
    doubt_part  BIGINT,
    doubt_ms    BIGINT,
    lease_owner TEXT COLLATE "C",
    lease_until BIGINT
);
CREATE INDEX thread_writes_by_thread ON thread_writes (thread_id);
CREATE INDEX thread_writes_by_person ON thread_writes (person_id);
CREATE INDEX thread_writes_by_owner ON thread_writes (lease_owner) WHERE lease_owner IS NOT NULL;

-- Who a contact, a number or the person of one event is in a system of record. kind: 'contact', 'phone' or 'event'.
-- chosen: 1 where an operator decided.
CREATE TABLE person_links (
    system    TEXT COLLATE "C" NOT NULL,
    kind      TEXT COLLATE "C" NOT NULL,
    value     TEXT COLLATE "C" NOT NULL,
    person_id TEXT COLLATE "C" NOT NULL,
    chosen    BIGINT NOT NULL,
    PRIMARY KEY (system, kind, value)
);
CREATE INDEX person_links_by_value ON person_links (value);
CREATE INDEX person_links_by_person ON person_links (person_id);

-- NULL: a note from before there were threads.
ALTER TABLE records_notes ADD COLUMN thread_id TEXT COLLATE "C";
CREATE INDEX records_notes_by_thread ON records_notes (thread_id) WHERE thread_id IS NOT NULL;

-- Opt-outs whose people are searched once more at due_ms. step: how many such searches were made.
CREATE TABLE flag_checks (
    event_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    step     BIGINT NOT NULL,
    due_ms   BIGINT NOT NULL
);
CREATE INDEX flag_checks_due ON flag_checks (due_ms);

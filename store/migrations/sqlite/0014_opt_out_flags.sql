-- What was confirmed of an opt-out flag on one record of one system of record, last. opted_out, since_ms: the state of
-- the number and the time of its newest news. confirmed: 'written', 'found' or 'newer'.
CREATE TABLE opt_out_flags (
    phone        TEXT NOT NULL,
    system       TEXT NOT NULL,
    person_id    TEXT NOT NULL,
    opted_out    BIGINT NOT NULL,
    since_ms     BIGINT NOT NULL,
    confirmed    TEXT NOT NULL,
    confirmed_ms BIGINT NOT NULL,
    PRIMARY KEY (phone, system, person_id)
);

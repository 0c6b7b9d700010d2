-- What a command wants every worker to have seen: a number that grows, and which one each worker answered last.
ALTER TABLE workers ADD COLUMN answered BIGINT NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN held_history BIGINT NOT NULL DEFAULT 0;

CREATE TABLE worker_question (
    id     BIGINT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL
);
INSERT INTO worker_question (id, number) VALUES (1, 0);

-- The e-mail address of the TextUs user who wrote an outbound text. NULL: TextUs gave none, or an earlier version wrote
-- the row.
ALTER TABLE thread_messages ADD COLUMN author_email TEXT;

-- For lists of threads since a day.
CREATE INDEX threads_by_day ON threads (day, thread_id);

-- For texts of the history that no thread has.
CREATE INDEX thread_messages_by_event ON thread_messages (event_id);

-- How far a back-fill that was interrupted got. name: what is filled, and where. done_to: the last item that is done with
-- all before it, in the order of the items.
CREATE TABLE syncs (
    name       TEXT NOT NULL PRIMARY KEY,
    done_to    TEXT NOT NULL,
    updated_ms BIGINT NOT NULL
);

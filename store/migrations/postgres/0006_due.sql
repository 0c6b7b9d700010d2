-- When a delivery that waits is due: when it comes back from where it is parked, or, while an attempt is under way, when
-- that has taken too long. What is due and in no queue is published anew. With which attempt it comes back (unset while
-- one is under way), and when the first was made.
ALTER TABLE deliveries ADD COLUMN due_ms BIGINT;
ALTER TABLE deliveries ADD COLUMN due_attempt BIGINT;
ALTER TABLE deliveries ADD COLUMN first_attempt_ms BIGINT;
-- When the copy that counts was published anew: older ones are dropped. Unset: it never was.
ALTER TABLE deliveries ADD COLUMN copy_ms BIGINT;
-- The paused destination that it is parked for: it is published anew when the pause ends.
ALTER TABLE deliveries ADD COLUMN held_by TEXT;
CREATE INDEX deliveries_held ON deliveries (held_by) WHERE held_by IS NOT NULL;
-- The opt-outs that are not settled: what the watchman over unsent ones looks at.
CREATE INDEX deliveries_open_opt_outs ON deliveries (event_id)
    WHERE handler = 'record_opt_out' AND state IN ('waiting', 'dead_lettered');

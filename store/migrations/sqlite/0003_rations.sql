-- What all processes know of a destination's budget and breaker, as JSON that they read and write under the row's lock,
-- and what of it is shown.
ALTER TABLE gates ADD COLUMN ration TEXT;
ALTER TABLE gates ADD COLUMN per_minute BIGINT;
ALTER TABLE gates ADD COLUMN failing BIGINT NOT NULL DEFAULT 0;

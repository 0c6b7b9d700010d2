-- What runs, for `hookline status`. NULL: an earlier version, which does not tell.
ALTER TABLE workers ADD COLUMN kind TEXT;
ALTER TABLE workers ADD COLUMN version TEXT;
ALTER TABLE workers ADD COLUMN since_ms BIGINT;

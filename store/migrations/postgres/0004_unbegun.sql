-- When a delivery that nobody had begun was last published anew from the history.
ALTER TABLE deliveries ADD COLUMN republished_ms BIGINT;

-- +goose Up

-- The trace of the request that began the work. Another process, or this one after a crash,
-- continues in it. An older version, which may still run, writes none.
SET LOCAL lock_timeout = '2s';
ALTER TABLE idempotency_keys ADD COLUMN traceparent text NOT NULL DEFAULT '';
ALTER TABLE received_events ADD COLUMN traceparent text NOT NULL DEFAULT '';

-- +goose Up

-- The trace of the request that began the work. Another process, or this one after a crash,
-- continues in it. An older version, which may still run, writes none.
SET LOCAL lock_timeout = '2s';
ALTER TABLE sagas ADD COLUMN traceparent text NOT NULL DEFAULT '';
ALTER TABLE callbacks ADD COLUMN traceparent text NOT NULL DEFAULT '';

-- A queue: rows are deleted rather than marked, there is no index beside the primary
-- key, and vacuum comes after a thousand dead rows however large the table once was.
-- Without that the relay would wade through the dead at every read.
CREATE TABLE outbox (
    writer      text        NOT NULL,
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    message_id  uuid        NOT NULL,
    type        text        NOT NULL,
    body        bytea       NOT NULL,
    traceparent text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    -- From when on its writer publishes it, and another process a while later. Not now(),
    -- which is when the transaction began: a long one would commit rows that look left behind.
    due_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (writer, id),
    -- What the broker could never take would be in the way of all other messages.
    CONSTRAINT outbox_fits CHECK (octet_length(type) BETWEEN 1 AND 255 AND octet_length(body) <= 1048576)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold    = 1000,
    autovacuum_vacuum_insert_threshold = -1
);

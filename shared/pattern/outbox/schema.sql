-- A queue: rows are deleted rather than marked, there is no index beside the primary
-- key, and vacuum comes after a thousand dead rows however large the table once was.
-- Without that the relay would wade through the dead at every read.
CREATE TABLE outbox (
    writer      text        NOT NULL,
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    message_id  uuid        NOT NULL,
    type        varchar(255) NOT NULL, -- the routing key; that it has at most 255 bytes is checked before
    body        bytea       NOT NULL,
    traceparent text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    -- Its writer publishes it from this time on; another process does when it is overdue. Not
    -- now(), when the transaction began: a long one would commit rows that are overdue already.
    due_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (writer, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold    = 1000,
    autovacuum_vacuum_insert_threshold = -1
);

-- A queue: rows are deleted rather than marked, there is no index beside the primary
-- key, and vacuum comes after a thousand dead rows however large the table once was.
-- Without that the relay would wade through the dead at every read.
CREATE TABLE outbox (
    writer      text        NOT NULL,
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    message_id  uuid        NOT NULL,
    type        varchar(255) NOT NULL, -- the routing key: longer ones no broker takes
    body        bytea       NOT NULL,
    traceparent text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    -- From when on its writer publishes it, and another process a while later. Not now(),
    -- which is when the transaction began: a long one would commit rows that look left behind.
    due_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (writer, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold    = 1000,
    autovacuum_vacuum_insert_threshold = -1
);

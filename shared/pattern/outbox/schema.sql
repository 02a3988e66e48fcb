-- A queue, so: rows are deleted rather than marked, there is no index beside the
-- primary key, and vacuum comes after a thousand dead rows however large the table
-- once was. Without that the relay would wade through the dead at every read.
CREATE TABLE outbox (
    shard       smallint    NOT NULL,
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    message_id  uuid        NOT NULL,
    type        text        NOT NULL,
    body        bytea       NOT NULL,
    traceparent text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold    = 1000,
    autovacuum_vacuum_insert_threshold = -1
);

-- One row a shard: who publishes it, and until when nobody else may.
CREATE TABLE outbox_leases (
    shard      smallint    PRIMARY KEY,
    holder     text        NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);

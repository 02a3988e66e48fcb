CREATE TABLE received_events (
    event_id    text        PRIMARY KEY,
    stream      text        NOT NULL,   -- what it is about; events of one stream depend on each other
    rank        smallint    NOT NULL,   -- its place among the events of a stream
    happened_at timestamptz NOT NULL,   -- its place among those of the same rank
    type        text        NOT NULL,
    body        bytea       NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    look_at     timestamptz NOT NULL DEFAULT now(),
    applied_at  timestamptz,
    traceparent text        NOT NULL DEFAULT '' -- of the request that brought it
);

CREATE INDEX received_events_held ON received_events (look_at) WHERE applied_at IS NULL;
CREATE INDEX received_events_of_stream ON received_events (stream) WHERE applied_at IS NULL;
CREATE INDEX received_events_applied ON received_events (applied_at) WHERE applied_at IS NOT NULL;

CREATE TABLE sagas (
    id        uuid        PRIMARY KEY,
    phase     text        NOT NULL CHECK (phase IN ('forward', 'compensating', 'completed', 'compensated')),
    step      text        NOT NULL,
    reason    text        NOT NULL DEFAULT '',
    attempts  integer     NOT NULL DEFAULT 1,   -- how often the current command was sent
    resend_at timestamptz,                      -- NULL once ended
    version   integer     NOT NULL DEFAULT 1,
    traceparent text      NOT NULL DEFAULT '',  -- of the request that began it

    -- A writer whose version is old writes -1 here, and its whole transaction fails.
    CONSTRAINT sagas_version_current CHECK (version > 0)
) WITH (fillfactor = 70);

-- The sagas that wait for a reply. Not by resend_at: each step sets a new one, and a
-- step that moves nothing in an index is written in place (HOT) and costs half.
CREATE INDEX sagas_open ON sagas (id) WHERE phase IN ('forward', 'compensating');

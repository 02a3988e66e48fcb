CREATE TABLE callbacks (
    id              uuid        PRIMARY KEY,    -- msg_<id> is the webhook-id of every try
    merchant_id     text        COLLATE "C" NOT NULL, -- "C": cheap to compare, for the index below
    subject         text        NOT NULL,
    url             text        NOT NULL,
    payload         bytea       NOT NULL,
    state           text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'parked')),
    attempts        integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(), -- also the end of the lease of the process that is sending it
    last_error      text        NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    delivered_at    timestamptz,
    traceparent     text        NOT NULL DEFAULT '' -- of the work that it reports
) WITH (
    fillfactor = 70,
    -- The index below is a queue: what was delivered leaves dead entries at its front,
    -- over which every look for what is due must step until they are vacuumed away.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold    = 5000,
    vacuum_index_cleanup           = on
);

-- Only what is still to be sent is in the index; it stays small forever. By merchant:
-- the worker serves them in turn.
CREATE INDEX callbacks_due ON callbacks (merchant_id, next_attempt_at) WHERE state = 'pending';
CREATE INDEX callbacks_parked ON callbacks (id) WHERE state = 'parked';
CREATE INDEX callbacks_of_subject ON callbacks (subject);

-- +goose Up

-- The merchants, and the secret that signs what we send them.
CREATE TABLE merchants (
    merchant_id    text PRIMARY KEY,
    webhook_secret text NOT NULL
);

-- Who may call, by the hash of a key. A merchant that changes its key has two.
CREATE TABLE merchant_keys (
    key_hash    bytea PRIMARY KEY,
    merchant_id text  NOT NULL REFERENCES merchants
);

-- One row a payment. Its id was chosen by orders when the order was accepted, so
-- a void knows which payment it means even when it overtakes the authorise.
--
--   authorising  we have begun to ask the processor; the answer is not recorded
--   authorised   the amount is held on the card
--   declined     the processor refused, nothing is held
--   captured     the money is taken
--   capture_failed  the processor refused to take it; it may still be held
--   voiding      the hold is to be released; nothing else may happen any more
--   voided       nothing is held; also the tombstone of a void that came first
CREATE TABLE payments (
    id             uuid        PRIMARY KEY,
    order_id       uuid        NOT NULL UNIQUE,
    merchant_id    text        NOT NULL,
    status         text        NOT NULL CHECK (status IN ('authorising', 'authorised', 'declined', 'captured', 'capture_failed', 'voiding', 'voided')),
    reason         text        NOT NULL DEFAULT '',
    amount_minor   bigint      NOT NULL CHECK (amount_minor > 0),
    currency       text        NOT NULL,
    payment_method text        NOT NULL DEFAULT '', -- what the token was redeemed for; only then may a hold be asked for
    charge_id      text        NOT NULL DEFAULT '',
    refunded_minor bigint      NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    settled_at     timestamptz,             -- when the processor's news of it was applied
    settled_operation uuid,                 -- the processor's name of what has settled
    receipt_name   text        NOT NULL DEFAULT '', -- of the stored document
    receipt_at     timestamptz,
    receipt_before timestamptz,
    version        integer     NOT NULL DEFAULT 1,

    -- A writer whose version is old writes -1 here, and its whole transaction fails.
    CONSTRAINT payments_version_current CHECK (version > 0),
    -- A reference that comes too late could meet the sweep of its document.
    CONSTRAINT payments_receipt_in_time CHECK (receipt_at <= receipt_before),
    CONSTRAINT payments_refund_bounded CHECK (refunded_minor BETWEEN 0 AND amount_minor)
) WITH (fillfactor = 70);

CREATE INDEX payments_without_receipt ON payments (updated_at) WHERE status = 'captured' AND receipt_name = '';
-- By the time of the capture: a new entry goes to the end, where it is cheap.
CREATE INDEX payments_unsettled ON payments (updated_at) WHERE status = 'captured' AND settled_at IS NULL;
CREATE INDEX payments_of_receipt ON payments (receipt_name) WHERE receipt_name <> '';

-- Money that is given back. recovery_point is how far it has come; decision is
-- the processor's.
CREATE TABLE refunds (
    id             uuid        PRIMARY KEY,
    payment_id     uuid        NOT NULL REFERENCES payments,
    merchant_id    text        NOT NULL,
    amount_minor   bigint      NOT NULL CHECK (amount_minor > 0),
    currency       text        NOT NULL,
    reason         text        NOT NULL DEFAULT '',
    recovery_point text        NOT NULL DEFAULT 'started' CHECK (recovery_point IN ('started', 'decided', 'posted', 'finished')),
    decision       text        NOT NULL DEFAULT '' CHECK (decision IN ('', 'succeeded', 'failed')),
    failure        text        NOT NULL DEFAULT '',
    created_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    settled_at     timestamptz,
    settled_operation uuid UNIQUE
) WITH (fillfactor = 70);

CREATE INDEX refunds_of_payment ON refunds (payment_id);
CREATE INDEX refunds_unsettled ON refunds (created_at) WHERE decision = 'succeeded' AND settled_at IS NULL;

-- Money that leaves for a merchant's bank account.
CREATE TABLE payouts (
    id             uuid        PRIMARY KEY,
    merchant_id    text        NOT NULL,
    amount_minor   bigint      NOT NULL CHECK (amount_minor > 0),
    currency       text        NOT NULL,
    recovery_point text        NOT NULL DEFAULT 'started' CHECK (recovery_point IN ('started', 'booked', 'decided', 'finished')),
    outcome        text        NOT NULL DEFAULT 'pending' CHECK (outcome IN ('pending', 'sent', 'unknown', 'failed')),
    failure        text        NOT NULL DEFAULT '',
    attempt        integer     NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz
) WITH (fillfactor = 70);

CREATE INDEX payouts_unknown ON payouts (id) WHERE outcome = 'unknown';

-- Who works on a request that came with a key, and its answer once there is one.
CREATE TABLE idempotency_keys (
    merchant_id text        NOT NULL,
    operation   text        NOT NULL,   -- method and path template: POST /v1/orders
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,   -- SHA-256 of what was asked
    status      smallint,               -- NULL: the work is not finished, there is no answer yet
    headers     jsonb       NOT NULL DEFAULT '{}',
    body        bytea       NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,

    -- For work that spans systems only: what the key stands for, and who works on it.
    operation_id uuid,
    lock_token   uuid,
    locked_until timestamptz,

    PRIMARY KEY (merchant_id, operation, key),

    -- A request that meets a live record writes -1 here, and its whole transaction fails.
    CONSTRAINT idempotency_keys_unused CHECK (status > 0)
) WITH (fillfactor = 70);

CREATE INDEX idempotency_keys_expired ON idempotency_keys (expires_at);
CREATE INDEX idempotency_keys_unfinished ON idempotency_keys (operation, locked_until) WHERE status IS NULL;

-- Things that may be done at most once, and have been begun.
CREATE TABLE guards (
    name       text        PRIMARY KEY,  -- what must not happen twice: bank-transfer:pyo_…
    entered_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX guards_by_age ON guards (entered_at);

-- The coordinator's log. A row is the decision; there is none before it, and no
-- other after it.
CREATE TABLE twophase_decisions (
    gid         text        PRIMARY KEY,
    decision    text        NOT NULL CHECK (decision IN ('commit', 'abort')),
    decided_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz             -- when every participant had carried it out
);

CREATE INDEX twophase_decisions_unfinished ON twophase_decisions (decided_at) WHERE finished_at IS NULL;
CREATE INDEX twophase_decisions_finished ON twophase_decisions (finished_at) WHERE finished_at IS NOT NULL;

-- The processor's webhooks as they came, and which of them have been applied.
CREATE TABLE received_events (
    event_id    text        PRIMARY KEY,
    stream      text        NOT NULL,   -- what it is about; events of one stream depend on each other
    rank        smallint    NOT NULL,   -- its place among the events of a stream
    happened_at timestamptz NOT NULL,   -- its place among those of the same rank
    type        text        NOT NULL,
    body        bytea       NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    look_at     timestamptz NOT NULL DEFAULT now(),
    applied_at  timestamptz
);

CREATE INDEX received_events_held ON received_events (look_at) WHERE applied_at IS NULL;
CREATE INDEX received_events_of_stream ON received_events (stream) WHERE applied_at IS NULL;
CREATE INDEX received_events_applied ON received_events (applied_at) WHERE applied_at IS NOT NULL;

-- How far the sweep for documents without a reference has come.
CREATE TABLE storeref_sweeps (
    dir         text        PRIMARY KEY,
    swept_until timestamptz NOT NULL
);

-- What others say: the lines of their reports, kept as they came.
CREATE TABLE statement_lines (
    source      text        NOT NULL,
    line_id     text        NOT NULL,   -- the other side's
    kind        text        NOT NULL,
    reference   text        NOT NULL,
    subject     uuid        NOT NULL,   -- of the reference; all zeros when it is none of ours
    merchant_id text        NOT NULL,
    sign        smallint    NOT NULL CHECK (sign IN (1, -1)),  -- -1 takes an earlier line back
    minor       bigint      NOT NULL,
    currency    text        NOT NULL,
    at          timestamptz NOT NULL,
    run_id      uuid,                   -- the run that has seen it last
    PRIMARY KEY (source, line_id)
);

CREATE INDEX statement_lines_of_run ON statement_lines (run_id, subject);
CREATE INDEX statement_lines_of_subject ON statement_lines (subject);

-- Runs of the reconciliation.
CREATE TABLE reconciliations (
    id           uuid        PRIMARY KEY,
    status       text        NOT NULL DEFAULT 'requested' CHECK (status IN ('requested', 'finished')),
    since        timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00', -- from when on both sides are looked at; the default: from the beginning
    requested_at timestamptz NOT NULL DEFAULT now(),
    started_at   timestamptz,
    finished_at  timestamptz,
    subjects     bigint      NOT NULL DEFAULT 0,
    not_compared text[]      NOT NULL DEFAULT '{}'  -- the sources that made no statement
);

-- One waits at most; a caller that asks meanwhile shares it.
CREATE UNIQUE INDEX reconciliations_waiting ON reconciliations (status) WHERE status = 'requested' AND started_at IS NULL;
CREATE INDEX reconciliations_by_time ON reconciliations (requested_at);

-- What a run found, with both sides.
CREATE TABLE reconciliation_differences (
    run_id      uuid   NOT NULL REFERENCES reconciliations ON DELETE CASCADE,
    source      text   NOT NULL,
    kind        text   NOT NULL,
    reference   text   NOT NULL,
    subject     uuid   NOT NULL,
    merchant_id text   NOT NULL,
    finding     text   NOT NULL,
    verdict     text   NOT NULL CHECK (verdict IN ('pending', 'resolved', 'unresolvable')),
    note        text   NOT NULL,
    ours        jsonb,
    theirs      jsonb,
    PRIMARY KEY (run_id, source, kind, reference)
);

-- Which replica does a job that only one at a time should do, and until when.
CREATE TABLE leases (
    name       text        PRIMARY KEY,
    holder     text        NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Messages that are committed and not published yet. A queue: rows are deleted.
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

-- Messages that have made their change, so that they make it once.
CREATE TABLE inbox (
    source      text        NOT NULL,
    message_id  uuid        NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, message_id)
);

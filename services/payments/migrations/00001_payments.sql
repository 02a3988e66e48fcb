-- +goose Up

CREATE TABLE merchants (
    merchant_id    text  PRIMARY KEY,
    key_hash       bytea NOT NULL UNIQUE,
    webhook_secret text  NOT NULL
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
    payment_token  text        NOT NULL DEFAULT '',
    charge_id      text        NOT NULL DEFAULT '',
    refunded_minor bigint      NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    version        integer     NOT NULL DEFAULT 1,

    -- A writer whose version is old writes -1 here, and its whole transaction fails.
    CONSTRAINT payments_version_current CHECK (version > 0),
    CONSTRAINT payments_refund_bounded CHECK (refunded_minor BETWEEN 0 AND amount_minor)
) WITH (fillfactor = 70);

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

CREATE TABLE outbox_leases (
    shard      smallint    PRIMARY KEY,
    holder     text        NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE inbox (
    source      text        NOT NULL,
    message_id  uuid        NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, message_id)
);

-- +goose Up

-- The card processor. A token stands for a card that the customer typed into
-- the browser; it can be redeemed for a payment method exactly once.
CREATE TABLE processor_tokens (
    token      text        PRIMARY KEY,
    card       text        NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE processor_payment_methods (
    id         text        PRIMARY KEY,
    token      text        NOT NULL REFERENCES processor_tokens,
    reference  text        NOT NULL,
    card       text        NOT NULL,
    created_at timestamptz NOT NULL,
    stumbles   integer     NOT NULL DEFAULT 0,

    -- Single use: of two redeemers, one meets this.
    CONSTRAINT processor_payment_methods_token_once UNIQUE (token),

    -- Some test cards misbehave once. Two authorisations at the same moment
    -- would both take the misbehaviour for theirs; this refuses the second.
    CONSTRAINT processor_payment_methods_stumbles_once CHECK (stumbles <= 1)
);

CREATE INDEX processor_payment_methods_of_reference ON processor_payment_methods (reference);

CREATE TABLE processor_charges (
    id             text        PRIMARY KEY,
    status         text        NOT NULL CHECK (status IN ('authorised', 'captured', 'voided')),
    amount_minor   bigint      NOT NULL CHECK (amount_minor > 0),
    currency       text        NOT NULL,
    captured_minor bigint      NOT NULL DEFAULT 0,
    refunded_minor bigint      NOT NULL DEFAULT 0,
    reference      text        NOT NULL,
    merchant_id    text        NOT NULL,
    payment_method text        NOT NULL REFERENCES processor_payment_methods,
    card           text        NOT NULL,
    created_at     timestamptz NOT NULL,
    version        integer     NOT NULL DEFAULT 1,

    CONSTRAINT processor_charges_capture_bounded CHECK (captured_minor BETWEEN 0 AND amount_minor),
    CONSTRAINT processor_charges_refund_bounded CHECK (refunded_minor BETWEEN 0 AND captured_minor),

    -- An update that was decided on an older row writes version 0 and is
    -- refused here, together with everything else in its transaction.
    CONSTRAINT processor_charges_version_current CHECK (version > 0)
) WITH (fillfactor = 70);

CREATE INDEX processor_charges_of_reference ON processor_charges (reference);

-- One row for each time that money was held, taken, let go or given back. The
-- settlement report reads it, and so does the audit, which counts double charges.
CREATE TABLE processor_operations (
    id           uuid        PRIMARY KEY,
    charge_id    text        NOT NULL REFERENCES processor_charges,
    kind         text        NOT NULL CHECK (kind IN ('authorise', 'capture', 'void', 'refund')),
    amount_minor bigint      NOT NULL,
    currency     text        NOT NULL,
    at           timestamptz NOT NULL
);

-- The answer to each Idempotency-Key, written in the transaction of the work:
-- there is no state "running" that a crash could leave behind.
CREATE TABLE processor_idempotency (
    key         text        PRIMARY KEY,
    fingerprint bytea       NOT NULL,
    status      integer     NOT NULL,
    body        bytea       NOT NULL,
    created_at  timestamptz NOT NULL
);

-- Webhooks of the processor that wait for their time, for a retry, or are done.
CREATE TABLE processor_events (
    id           uuid        PRIMARY KEY,
    type         text        NOT NULL,
    charge_id    text        NOT NULL,
    body         bytea       NOT NULL,
    due_at       timestamptz NOT NULL,
    attempts     integer     NOT NULL DEFAULT 0,
    delivered_at timestamptz
);

CREATE INDEX processor_events_due ON processor_events (due_at) WHERE delivered_at IS NULL;

-- The bank. It knows no keys: each accepted call is one more transfer.
CREATE TABLE bank_transfers (
    id           uuid        PRIMARY KEY,
    reference    text        NOT NULL,
    amount_minor bigint      NOT NULL CHECK (amount_minor > 0),
    currency     text        NOT NULL,
    account      text        NOT NULL,
    at           timestamptz NOT NULL
);

-- The merchants' endpoint: every attempt to deliver a callback, also the bad ones.
CREATE TABLE merchant_deliveries (
    id              uuid        PRIMARY KEY,
    webhook_id      text        NOT NULL,
    merchant_id     text        NOT NULL,
    order_id        text        NOT NULL,
    signature_valid boolean     NOT NULL,
    body            bytea       NOT NULL,
    received_at     timestamptz NOT NULL,
    answered        integer     NOT NULL
);

COMMENT ON COLUMN merchant_deliveries.answered IS 'HTTP status given; 0: the connection was cut instead';

CREATE INDEX merchant_deliveries_of_order ON merchant_deliveries (order_id);

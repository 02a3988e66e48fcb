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
    traceparent  text NOT NULL DEFAULT '', -- of the request that began it

    PRIMARY KEY (merchant_id, operation, key),

    -- A request that meets a live record writes -1 here, and its whole transaction fails.
    CONSTRAINT idempotency_keys_unused CHECK (status > 0)
) WITH (fillfactor = 70);

CREATE INDEX idempotency_keys_expired ON idempotency_keys (expires_at);
CREATE INDEX idempotency_keys_unfinished ON idempotency_keys (operation, locked_until) WHERE status IS NULL;

CREATE TABLE idempotency_keys (
    merchant_id text        NOT NULL,
    operation   text        NOT NULL,   -- method and path template: POST /v1/orders
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,   -- SHA-256 of what was asked
    status      smallint    NOT NULL,
    headers     jsonb       NOT NULL,
    body        bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (merchant_id, operation, key),

    -- A request that meets a live record writes -1 here, and its whole transaction fails.
    CONSTRAINT idempotency_keys_unused CHECK (status > 0)
);

CREATE INDEX idempotency_keys_expired ON idempotency_keys (expires_at);

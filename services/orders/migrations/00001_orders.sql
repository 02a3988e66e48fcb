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

-- The shelf. A unit is available, reserved by an order that is on its way, or
-- sold; initial counts every unit ever put on the shelf, so that nothing can
-- vanish unnoticed: initial = available + reserved + sold, checked at each write.
CREATE TABLE products (
    merchant_id text    NOT NULL REFERENCES merchants,
    sku         text    NOT NULL,
    name        text    NOT NULL,
    price_minor bigint  NOT NULL CHECK (price_minor BETWEEN 1 AND 1000000000000000),
    currency    text    NOT NULL,
    available   bigint  NOT NULL,
    reserved    bigint  NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    sold        bigint  NOT NULL DEFAULT 0 CHECK (sold >= 0),
    initial     bigint  NOT NULL,
    version     bigint  NOT NULL DEFAULT 1,
    PRIMARY KEY (merchant_id, sku),

    -- Two buyers of the last unit both subtract; this refuses the second.
    CONSTRAINT products_not_oversold CHECK (available >= 0),
    CONSTRAINT products_conserved CHECK (initial = available + reserved + sold)
) WITH (fillfactor = 70);

-- An order as its merchant sees it. Where it goes next is in sagas.
CREATE TABLE orders (
    id            uuid        PRIMARY KEY,
    merchant_id   text        NOT NULL REFERENCES merchants,
    customer_id   text        NOT NULL,
    status        text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'confirmed', 'cancelled')),
    reason        text        NOT NULL DEFAULT '',
    payment_id    uuid        NOT NULL UNIQUE,
    payment_token text        NOT NULL,
    total_minor   bigint      NOT NULL,
    currency      text        NOT NULL,
    callback_url  text        NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL,
    finished_at   timestamptz,
    receipt_id    text        NOT NULL DEFAULT ''
) WITH (fillfactor = 80);

-- Order ids are UUIDv7: newest first is the order of the ids.
CREATE INDEX orders_of_merchant ON orders (merchant_id, id DESC);

-- What was ordered, at the price of that moment.
CREATE TABLE order_lines (
    order_id         uuid     NOT NULL REFERENCES orders,
    line_no          smallint NOT NULL,
    sku              text     NOT NULL,
    quantity         integer  NOT NULL CHECK (quantity > 0),
    unit_price_minor bigint   NOT NULL,
    PRIMARY KEY (order_id, line_no)
);

-- Where an order stands: the one command whose reply it waits for, and when to send it again.
CREATE TABLE sagas (
    id        uuid        PRIMARY KEY REFERENCES orders,
    phase     text        NOT NULL CHECK (phase IN ('forward', 'compensating', 'completed', 'compensated')),
    step      text        NOT NULL,
    reason    text        NOT NULL DEFAULT '',
    attempts  integer     NOT NULL DEFAULT 1,
    resend_at timestamptz,
    version   integer     NOT NULL DEFAULT 1,
    CONSTRAINT sagas_version_current CHECK (version > 0)
) WITH (fillfactor = 70);

-- The sagas that wait for a reply. Not by resend_at: each step sets a new one, and a
-- step that moves nothing in an index is written in place (HOT) and costs half.
CREATE INDEX sagas_open ON sagas (id) WHERE phase IN ('forward', 'compensating');

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

-- The answer to each request that came with a key, byte for byte.
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

-- What merchants are to be told, until they have heard it.
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
    delivered_at    timestamptz
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
CREATE INDEX callbacks_of_subject ON callbacks (subject);

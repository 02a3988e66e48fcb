CREATE TABLE callbacks (
    id              uuid        PRIMARY KEY,    -- msg_<id> is the webhook-id of every try
    merchant_id     text        NOT NULL,
    subject         text        NOT NULL,
    url             text        NOT NULL,
    payload         bytea       NOT NULL,
    state           text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'parked')),
    attempts        integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(), -- also the end of the lease of whoever is sending it
    last_error      text        NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    delivered_at    timestamptz
) WITH (fillfactor = 70);

-- Only what is still to be sent is in the index; it stays small for ever.
CREATE INDEX callbacks_due ON callbacks (next_attempt_at) WHERE state = 'pending';
CREATE INDEX callbacks_of_subject ON callbacks (subject);

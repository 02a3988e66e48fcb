-- Message ids are UUIDv7, so new rows land at the right edge of the index.
CREATE TABLE inbox (
    source      text        NOT NULL,
    message_id  uuid        NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, message_id)
);

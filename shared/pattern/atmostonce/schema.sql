CREATE TABLE guards (
    name       text        PRIMARY KEY,  -- what must not happen twice: bank-transfer:pyo_…
    entered_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX guards_by_age ON guards (entered_at);

CREATE TABLE guards (
    name       text        PRIMARY KEY,  -- what must not happen twice: bank-transfer:pyo_…
    entered_at timestamptz NOT NULL DEFAULT now()
);

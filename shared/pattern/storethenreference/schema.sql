-- How far the sweep for documents without a reference has come.
CREATE TABLE storeref_sweeps (
    dir         text        PRIMARY KEY,
    swept_until timestamptz NOT NULL
);

-- What others say: the lines of their reports, kept as they came.
CREATE TABLE statement_lines (
    source      text        NOT NULL,
    line_id     text        NOT NULL,   -- the other side's
    kind        text        NOT NULL,
    reference   text        NOT NULL,
    subject     uuid        NOT NULL,   -- of the reference; all zeros when it is none of ours
    merchant_id text        NOT NULL,
    sign        smallint    NOT NULL CHECK (sign IN (1, -1)),  -- -1 takes an earlier line back
    minor       bigint      NOT NULL,
    currency    text        NOT NULL,
    at          timestamptz NOT NULL,
    run_id      uuid,                   -- the run that has seen it last
    PRIMARY KEY (source, line_id)
);

CREATE INDEX statement_lines_of_run ON statement_lines (run_id, subject);
CREATE INDEX statement_lines_of_subject ON statement_lines (subject);

CREATE TABLE reconciliations (
    id           uuid        PRIMARY KEY,
    status       text        NOT NULL DEFAULT 'requested' CHECK (status IN ('requested', 'finished')),
    since        timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00', -- from when on both sides are looked at; the default: from the beginning
    requested_at timestamptz NOT NULL DEFAULT now(),
    started_at   timestamptz,
    finished_at  timestamptz,
    subjects     bigint      NOT NULL DEFAULT 0,
    not_compared text[]      NOT NULL DEFAULT '{}'  -- the sources that made no statement
);

-- One waits at most; a caller that asks meanwhile shares it.
CREATE UNIQUE INDEX reconciliations_waiting ON reconciliations (status) WHERE status = 'requested' AND started_at IS NULL;
CREATE INDEX reconciliations_by_time ON reconciliations (requested_at);

CREATE TABLE reconciliation_differences (
    run_id      uuid   NOT NULL REFERENCES reconciliations ON DELETE CASCADE,
    source      text   NOT NULL,
    kind        text   NOT NULL,
    reference   text   NOT NULL,
    subject     uuid   NOT NULL,
    merchant_id text   NOT NULL,
    finding     text   NOT NULL,
    verdict     text   NOT NULL CHECK (verdict IN ('pending', 'resolved', 'unresolvable')),
    note        text   NOT NULL,
    ours        jsonb,
    theirs      jsonb,
    PRIMARY KEY (run_id, source, kind, reference)
);

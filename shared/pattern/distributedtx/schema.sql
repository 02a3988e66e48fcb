-- The coordinator's log. A row is the decision; there is none before it, and no
-- other after it.
CREATE TABLE twophase_decisions (
    gid         text        PRIMARY KEY,
    decision    text        NOT NULL CHECK (decision IN ('commit', 'abort')),
    decided_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz             -- when every participant had carried it out
);

CREATE INDEX twophase_decisions_unfinished ON twophase_decisions (decided_at) WHERE finished_at IS NULL;
CREATE INDEX twophase_decisions_finished ON twophase_decisions (finished_at) WHERE finished_at IS NOT NULL;

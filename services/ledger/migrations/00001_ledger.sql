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

-- Amounts are signed: above zero is a credit (somebody is owed), below zero a
-- debit (somebody owes). All balances of one currency add up to zero.
CREATE TABLE accounts (
    id            text    PRIMARY KEY,       -- kind:currency or kind:merchant:currency
    kind          text    NOT NULL CHECK (kind IN ('card_receivable', 'merchant_pending', 'merchant_available', 'platform_fee', 'processor_clearing', 'payouts_in_transit', 'cash')),
    merchant_id   text    NOT NULL DEFAULT '', -- '' for the platform's own
    currency      text    NOT NULL,
    -- What all merchants do adds up on the platform's accounts, and no sum of theirs may
    -- stop the others. A merchant's own is bounded, and fits 64 bits.
    balance_minor numeric NOT NULL DEFAULT 0,
    closed        boolean NOT NULL DEFAULT false,

    -- A merchant cannot be paid what it does not have.
    CONSTRAINT accounts_floor CHECK (kind <> 'merchant_available' OR balance_minor >= 0),
    CONSTRAINT accounts_bounded CHECK (merchant_id = '' OR balance_minor BETWEEN -9e18 AND 9e18)
) WITH (fillfactor = 50);

CREATE INDEX accounts_of_merchant ON accounts (merchant_id);

-- The journal: one entry for each thing that moved money. Never changed, never deleted.
CREATE TABLE entries (
    id          uuid        PRIMARY KEY,
    kind        text        NOT NULL,
    source      text        NOT NULL,           -- what caused it: ord_…
    reference   text        NOT NULL,           -- what else it speaks of: pay_…
    merchant_id text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),

    -- The change record: what caused an entry causes it once.
    CONSTRAINT entries_once UNIQUE (source, kind)
);

CREATE INDEX entries_of_reference ON entries (reference);

-- A payout was sent or has returned, and not both.
CREATE UNIQUE INDEX entries_payout_ends_once ON entries (source) WHERE kind IN ('payout-sent', 'payout-returned');

-- The lines of an entry: they sum to zero in each currency.
CREATE TABLE postings (
    entry_id     uuid     NOT NULL REFERENCES entries,
    line_no      smallint NOT NULL,
    account_id   text     NOT NULL REFERENCES accounts,
    amount_minor bigint   NOT NULL CHECK (amount_minor <> 0),
    PRIMARY KEY (entry_id, line_no)
);

CREATE INDEX postings_of_account ON postings (account_id);

-- Where the sale of an order stands. reversed without an entry is a tombstone: the
-- reversal overtook its sale, and the late sale is refused.
CREATE TABLE sales (
    order_id uuid    PRIMARY KEY,
    state    text    NOT NULL,
    version  integer NOT NULL DEFAULT 1,
    CONSTRAINT sales_state_known CHECK (state IN ('posted', 'reversed')),
    CONSTRAINT sales_version_current CHECK (version > 0)
);

-- A merchant's closed account takes no sale. Checked at the commit: the sale's
-- transaction has moved the balance by then and holds the account's row, so the account
-- was closed before, which is seen here, or is closed after the sale.
-- +goose StatementBegin
CREATE FUNCTION sale_needs_open_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT
          FROM entries
          JOIN postings ON postings.entry_id = entries.id
          JOIN accounts ON accounts.id = postings.account_id
         WHERE entries.source = 'ord_' || NEW.order_id
           AND entries.kind = 'sale'
           AND accounts.kind = 'merchant_pending'
           AND accounts.closed)
    THEN
        RAISE EXCEPTION 'a sale on a closed account'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'sales_account_open';
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE CONSTRAINT TRIGGER sales_account_open
    AFTER INSERT ON sales
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.state = 'posted')
    EXECUTE FUNCTION sale_needs_open_account();

-- An entry whose postings do not sum to zero in each currency is refused. All
-- postings of an entry are inserted by one statement, so one look at that
-- statement's rows is enough; a check at each row would see half an entry.
-- +goose StatementBegin
CREATE FUNCTION postings_must_balance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT
          FROM added
          JOIN accounts ON accounts.id = added.account_id
         GROUP BY added.entry_id, accounts.currency
        HAVING sum(added.amount_minor) <> 0)
    THEN
        RAISE EXCEPTION 'the postings of an entry do not sum to zero'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'postings_balance';
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER postings_balance
    AFTER INSERT ON postings
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION postings_must_balance();

-- What is in the books stays in the books; a mistake is reversed, not rubbed out.
-- +goose StatementBegin
CREATE FUNCTION books_are_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
-- +goose StatementEnd

CREATE TRIGGER entries_final
    BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION books_are_final();

CREATE TRIGGER postings_final
    BEFORE UPDATE OR DELETE OR TRUNCATE ON postings
    FOR EACH STATEMENT EXECUTE FUNCTION books_are_final();

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

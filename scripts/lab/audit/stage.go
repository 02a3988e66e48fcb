package audit

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Some invariants span databases, and no query can join those. So what each side
// says is streamed into temporary tables beside the orders, already summed up by
// what it is about, and the databases' own joins hold them against each other. It
// takes a row for each order and nothing of our memory.

// staged is one temporary table: where it comes from, and what it holds.
type staged struct {
	table, columns string
	from           func(*Databases) *pgxpool.Pool
	query          string
}

func sandbox(d *Databases) *pgxpool.Pool  { return d.Sandbox }
func payments(d *Databases) *pgxpool.Pool { return d.Payments }
func ledger(d *Databases) *pgxpool.Pool   { return d.Ledger }

var everythingElsewhere = []staged{
	{"charges", "reference text, charges bigint, held bigint, captures bigint, captured bigint, refunds bigint, given_back bigint, currency text", sandbox, `
		SELECT c.reference, count(DISTINCT c.id), count(DISTINCT c.id) FILTER (WHERE c.status = 'authorised'),
		       count(o.id) FILTER (WHERE o.kind = 'capture'),
		       COALESCE(sum(o.amount_minor) FILTER (WHERE o.kind = 'capture'), 0)::bigint,
		       count(o.id) FILTER (WHERE o.kind = 'refund'),
		       COALESCE(sum(o.amount_minor) FILTER (WHERE o.kind = 'refund'), 0)::bigint,
		       max(c.currency)
		  FROM processor_charges c
		  LEFT JOIN processor_operations o ON o.charge_id = c.id
		 GROUP BY c.reference`},
	{"transfers", "reference text, transfers bigint, minor bigint", sandbox, `
		SELECT reference, count(*), sum(amount_minor)::bigint
		  FROM bank_transfers
		 GROUP BY reference`},
	{"heard", "order_id text, accepted bigint, ids bigint, invalid bigint", sandbox, `
		SELECT order_id,
		       count(*) FILTER (WHERE answered BETWEEN 200 AND 299 AND signature_valid),
		       count(DISTINCT webhook_id),
		       count(*) FILTER (WHERE NOT signature_valid)
		  FROM merchant_deliveries
		 GROUP BY order_id`},
	{"entries", "source text, kind text, reference text, entries bigint, receivable bigint", ledger, `
		SELECT e.source, e.kind, e.reference, count(DISTINCT e.id),
		       COALESCE(-sum(p.amount_minor) FILTER (WHERE p.account_id LIKE 'card\_receivable:%'), 0)::bigint
		  FROM entries e
		  LEFT JOIN postings p ON p.entry_id = e.id
		 GROUP BY e.source, e.kind, e.reference`},
	{"paid", "id text, minor bigint, refunded bigint, settled bool", payments, `
		SELECT 'pay_' || id, amount_minor, refunded_minor, settled_at IS NOT NULL
		  FROM payments`},
	{"refunded", "id text, payment_id text, minor bigint, decision text, settled bool", payments, `
		SELECT 'rfd_' || id, 'pay_' || payment_id, amount_minor, decision, settled_at IS NOT NULL
		  FROM refunds`},
	{"paid_out", "id text, minor bigint, outcome text, booked bool", payments, `
		SELECT 'pyo_' || id, amount_minor, outcome,
		       recovery_point <> 'started' AND NOT (outcome = 'failed' AND failure = 'insufficient_balance')
		  FROM payouts`},
}

// stage opens a connection of its own to the orders and copies everything else
// there. The tables are gone with the connection.
func stage(ctx context.Context, d *Databases) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, d.Orders.Config().ConnConfig.Copy())
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, `SET work_mem = '128MB'`); err != nil {
		return nil, err
	}
	for _, s := range everythingElsewhere {
		if err := s.copy(ctx, d, conn); err != nil {
			_ = conn.Close(ctx)
			return nil, fmt.Errorf("stage %s: %w", s.table, err)
		}
	}
	return conn, nil
}

func (s staged) copy(ctx context.Context, d *Databases, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, `CREATE TEMPORARY TABLE `+s.table+` (`+s.columns+`)`); err != nil {
		return err
	}
	source, err := s.from(d).Acquire(ctx)
	if err != nil {
		return err
	}
	defer source.Release()
	rows, err := source.Query(ctx, s.query)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := conn.Query(ctx, `SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 ORDER BY attnum`, s.table)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(columns, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{s.table}, names, rows); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `ANALYZE `+s.table)
	return err
}

// across counts and checks on the staged tables.
func across(ctx context.Context, conn *pgx.Conn, count string, checks ...string) (int, []string, error) {
	var n int
	if err := conn.QueryRow(ctx, count).Scan(&n); err != nil {
		return 0, nil, err
	}
	var all []string
	for _, check := range checks {
		rows, err := conn.Query(ctx, check)
		if err != nil {
			return 0, nil, err
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return 0, nil, err
		}
		all = append(all, found...)
	}
	return n, all, nil
}

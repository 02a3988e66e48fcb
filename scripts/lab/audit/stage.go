package audit

import (
	"context"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
)

// Some invariants span databases, and no query can join those. So what each side
// says is streamed into temporary tables beside the orders, already summed up by
// what it is about, and the databases' own joins hold them against each other. It
// takes a row for each order and nothing of our memory.

// staged is one temporary table: what it holds, and the database that it comes from.
type staged struct{ table, columns, from, query string }

var everythingElsewhere = []staged{
	{"charges", "reference text, merchant_id text, charges bigint, held bigint, captures bigint, captured bigint, refunds bigint, given_back bigint, currency text", "sandbox", `
		SELECT c.reference, max(c.merchant_id), count(DISTINCT c.id), count(DISTINCT c.id) FILTER (WHERE c.status = 'authorised'),
		       count(o.id) FILTER (WHERE o.kind = 'capture'),
		       COALESCE(sum(o.amount_minor) FILTER (WHERE o.kind = 'capture'), 0),
		       count(o.id) FILTER (WHERE o.kind = 'refund'),
		       COALESCE(sum(o.amount_minor) FILTER (WHERE o.kind = 'refund'), 0),
		       max(c.currency)
		  FROM processor_charges c
		  LEFT JOIN processor_operations o ON o.charge_id = c.id
		 GROUP BY c.reference`},
	{"given_back", "operation text, reference text, merchant_id text, minor bigint, currency text", "sandbox", `
		SELECT 'op_' || o.id, c.reference, c.merchant_id, o.amount_minor, o.currency
		  FROM processor_operations o
		  JOIN processor_charges c ON c.id = o.charge_id
		 WHERE o.kind = 'refund'`},
	{"transfers", "reference text, transfers bigint, minor bigint, currency text", "sandbox", `
		SELECT reference, count(*), sum(amount_minor), max(currency)
		  FROM bank_transfers
		 GROUP BY reference`},
	// What is said in a delivery counts only when its signature is the merchant's:
	// then orders has written it. The least and the greatest of what was said are the
	// same unless two things were said.
	{"heard", "order_id text, accepted bigint, ids bigint, invalid bigint, first_merchant text, last_merchant text, first_type text, last_type text", "sandbox", `
		SELECT order_id,
		       count(*) FILTER (WHERE answered BETWEEN 200 AND 299 AND signature_valid),
		       count(DISTINCT webhook_id),
		       count(*) FILTER (WHERE NOT signature_valid),
		       min(merchant_id), max(merchant_id), min(type), max(type)
		  FROM merchant_deliveries
		 CROSS JOIN LATERAL (SELECT CASE WHEN signature_valid THEN convert_from(body, 'UTF8')::json ->> 'type' END) said (type)
		 WHERE order_id <> ''
		 GROUP BY order_id`},
	// What an entry moves, by the kind of account. Accounts of more than one merchant
	// or in more than one currency show as a merchant or currency that does not exist.
	{"entries", "source text, kind text, reference text, merchant_id text, currency text, receivable bigint, clearing bigint, transit bigint, cash bigint, pending bigint, available bigint, fee bigint", "ledger", `
		SELECT e.source, e.kind, e.reference, e.merchant_id || COALESCE(' and ' || NULLIF(p.merchant_id, e.merchant_id), ''), p.currency,
		       p.receivable, p.clearing, p.transit, p.cash, p.pending, p.available, p.fee
		  FROM entries e
		  LEFT JOIN (
		       SELECT p.entry_id,
		              min(NULLIF(a.merchant_id, '')) || COALESCE(' and ' || NULLIF(max(NULLIF(a.merchant_id, '')), min(NULLIF(a.merchant_id, ''))), '') AS merchant_id,
		              min(a.currency) || COALESCE(' and ' || NULLIF(max(a.currency), min(a.currency)), '') AS currency,
		              COALESCE(sum(p.amount_minor) FILTER (WHERE a.kind = 'card_receivable'), 0)    AS receivable,
		              COALESCE(sum(p.amount_minor) FILTER (WHERE a.kind = 'processor_clearing'), 0) AS clearing,
		              COALESCE(sum(p.amount_minor) FILTER (WHERE a.kind = 'payouts_in_transit'), 0) AS transit,
		              COALESCE(sum(p.amount_minor) FILTER (WHERE a.kind = 'cash'), 0)               AS cash,
		              COALESCE(sum(p.amount_minor) FILTER (WHERE a.kind = 'merchant_pending'), 0)   AS pending,
		              COALESCE(sum(p.amount_minor) FILTER (WHERE a.kind = 'merchant_available'), 0) AS available,
		              COALESCE(sum(p.amount_minor) FILTER (WHERE a.kind = 'platform_fee'), 0)       AS fee
		         FROM postings p
		         JOIN accounts a ON a.id = p.account_id
		        GROUP BY p.entry_id) p ON p.entry_id = e.id`},
	{"paid", "id text, minor bigint, refunded bigint, captured bool, settled bool, receipt_name text", "payments", `
		SELECT 'pay_' || id, amount_minor, refunded_minor, status = 'captured', settled_at IS NOT NULL, receipt_name
		  FROM payments`},
	{"refunded", "id text, payment_id text, merchant_id text, minor bigint, currency text, decision text, settled bool", "payments", `
		SELECT 'rfd_' || id, 'pay_' || payment_id, merchant_id, amount_minor, currency, decision, settled_at IS NOT NULL
		  FROM refunds`},
	{"paid_out", "id text, merchant_id text, minor bigint, currency text, outcome text, booked bool", "payments", `
		SELECT 'pyo_' || id, merchant_id, amount_minor, currency, outcome,
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
	for _, s := range everythingElsewhere {
		if err := s.copy(ctx, d, conn); err != nil {
			_ = conn.Close(ctx)
			return nil, fmt.Errorf("stage %s: %w", s.table, err)
		}
	}
	if err := stageDocuments(ctx, d, conn, d.Grace, true); err != nil {
		_ = conn.Close(ctx)
		return nil, err
	}
	return conn, nil
}

// copy lets one database write what the other reads; we look at none of it.
func (s staged) copy(ctx context.Context, d *Databases, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, `CREATE TEMPORARY TABLE `+s.table+` (`+s.columns+`)`); err != nil {
		return err
	}
	source, err := d.Of(s.from).Acquire(ctx)
	if err != nil {
		return err
	}
	defer source.Release()
	reader, writer := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, err := source.Conn().PgConn().CopyTo(ctx, writer, `COPY (`+s.query+`) TO STDOUT`)
		writer.CloseWithError(err)
	}()
	_, err = conn.PgConn().CopyFrom(ctx, reader, `COPY `+s.table+` FROM STDIN`)
	reader.CloseWithError(err) // or the writer would wait for a reader that has failed
	<-written
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `ANALYZE `+s.table)
	return err
}

// across counts and checks on the staged tables.
func (a *auditor) across(ctx context.Context, count string, checks ...string) (int, []string, error) {
	var n int
	if err := a.beside.QueryRow(ctx, count).Scan(&n); err != nil {
		return 0, nil, err
	}
	var all []string
	for _, check := range checks {
		rows, err := a.beside.Query(ctx, check)
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

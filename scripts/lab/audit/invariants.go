package audit

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// violations runs a query that returns one text for each violation, and another
// that counts what was looked at.
func violations(ctx context.Context, db *pgxpool.Pool, count, query string) (int, []string, error) {
	var n int
	if err := db.QueryRow(ctx, count).Scan(&n); err != nil {
		return 0, nil, err
	}
	rows, err := db.Query(ctx, query)
	if err != nil {
		return 0, nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return n, found, err
}

// orderTerminal: an order without a saga is one that no process continues.
func (a *auditor) orderTerminal(ctx context.Context) (int, []string, error) {
	return violations(ctx, a.Orders,
		`SELECT count(*) FROM orders`,
		`SELECT format('ord_%s is %s, its saga %s', o.id, o.status, COALESCE(s.phase || ' at step ' || s.step, 'is not there'))
		   FROM orders o
		   LEFT JOIN sagas s ON s.id = o.id
		  WHERE s.id IS NULL
		     OR o.status = 'pending'
		     OR (o.status = 'confirmed') <> (s.phase = 'completed')
		     OR (o.status = 'cancelled') <> (s.phase = 'compensated')`)
}

// stockConserved: once quiet no order is pending, and then nothing may be reserved.
// While some are (which is order-terminal's business), what they reserve is theirs.
func (a *auditor) stockConserved(ctx context.Context) (int, []string, error) {
	return violations(ctx, a.Orders,
		`SELECT count(*) FROM products`,
		`SELECT format('%s of %s: initial %s, available %s, reserved %s (by pending orders: %s), sold %s (in confirmed orders: %s)',
		               p.sku, p.merchant_id, p.initial, p.available, p.reserved, COALESCE(c.pending, 0), p.sold, COALESCE(c.sold, 0))
		   FROM products p
		   LEFT JOIN (
		        SELECT o.merchant_id, l.sku,
		               sum(l.quantity) FILTER (WHERE o.status = 'confirmed') AS sold,
		               sum(l.quantity) FILTER (WHERE o.status = 'pending')   AS pending
		          FROM orders o
		          JOIN order_lines l ON l.order_id = o.id
		         GROUP BY o.merchant_id, l.sku) c
		     ON c.merchant_id = p.merchant_id AND c.sku = p.sku
		  WHERE p.initial <> p.available + p.reserved + p.sold
		     OR p.reserved <> COALESCE(c.pending, 0)
		     OR p.available < 0
		     OR p.sold <> COALESCE(c.sold, 0)`)
}

func (a *auditor) booksBalance(ctx context.Context) (int, []string, error) {
	return violations(ctx, a.Ledger,
		`SELECT (SELECT count(*) FROM entries) + (SELECT count(*) FROM accounts)`,
		`SELECT format('entry %s sums to %s %s', p.entry_id, sum(p.amount_minor), a.currency)
		   FROM postings p
		   JOIN accounts a ON a.id = p.account_id
		  GROUP BY p.entry_id, a.currency
		 HAVING sum(p.amount_minor) <> 0
		  UNION ALL
		 SELECT format('entry %s has no postings', e.id)
		   FROM entries e
		  WHERE NOT EXISTS (SELECT FROM postings p WHERE p.entry_id = e.id)
		  UNION ALL
		 SELECT format('account %s shows %s, its postings sum to %s', a.id, a.balance_minor, COALESCE(sum(p.amount_minor), 0))
		   FROM accounts a
		   LEFT JOIN postings p ON p.account_id = a.id
		  GROUP BY a.id
		 HAVING a.balance_minor <> COALESCE(sum(p.amount_minor), 0)`)
}

// nothingInDoubt counts every row that could be in doubt. In an outbox those are
// the messages that were not sent, so it counts none when all is well.
func (a *auditor) nothingInDoubt(ctx context.Context) (int, []string, error) {
	checked, all, err := violations(ctx, a.Payments,
		`SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM payments) + (SELECT count(*) FROM refunds) + (SELECT count(*) FROM payouts)
		      + (SELECT count(*) FROM idempotency_keys) + (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()) + (SELECT count(*) FROM twophase_decisions)
		      + (SELECT count(*) FROM received_events) + (SELECT count(*) FROM reconciliations)`,
		`SELECT format('payments: message %s was not sent', message_id) FROM outbox
		  UNION ALL SELECT format('pay_%s is %s', id, status) FROM payments WHERE status IN ('authorising', 'voiding')
		  UNION ALL SELECT format('refund rfd_%s stands at %s', id, recovery_point) FROM refunds WHERE recovery_point <> 'finished'
		  UNION ALL SELECT format('payout pyo_%s stands at %s', id, recovery_point) FROM payouts WHERE recovery_point <> 'finished'
		  UNION ALL SELECT format('key %s of %s has no answer', key, operation) FROM idempotency_keys WHERE status IS NULL
		  UNION ALL SELECT format('%s is prepared and not decided', gid) FROM pg_prepared_xacts WHERE database = current_database() -- the server may have others
		  UNION ALL SELECT format('%s of %s is not carried out', decision, gid) FROM twophase_decisions WHERE finished_at IS NULL
		  UNION ALL SELECT format('%s of %s is held back', type, stream) FROM received_events
		             WHERE applied_at IS NULL AND stream IN (SELECT 'pay_' || id FROM payments)
		  UNION ALL SELECT format('reconciliation rec_%s is %s', id, status) FROM reconciliations
		             WHERE status <> 'finished' AND requested_at < now() - interval '1 minute' -- the regular one may have begun a moment ago`)
	if err != nil {
		return 0, nil, err
	}
	for _, s := range []struct {
		name string
		db   *pgxpool.Pool
	}{{"orders", a.Orders}, {"ledger", a.Ledger}} {
		n, found, err := violations(ctx, s.db,
			`SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database())`,
			`SELECT format('`+s.name+`: message %s was not sent', message_id) FROM outbox
			  UNION ALL SELECT format('%s is prepared and not decided', gid) FROM pg_prepared_xacts WHERE database = current_database()`)
		if err != nil {
			return 0, nil, err
		}
		checked, all = checked+n, append(all, found...)
	}
	return checked, all, nil
}

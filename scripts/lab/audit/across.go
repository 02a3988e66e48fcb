package audit

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// The invariants that span databases, over the tables that stage has filled.

// chargedOnce: the processor's own operations, against what orders promised.
func chargedOnce(ctx context.Context, conn *pgx.Conn) (int, []string, error) {
	return across(ctx, conn, `SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM charges)`, `
		SELECT format('ord_%s is confirmed over %s %s, the processor captured %s times, %s %s', o.id, o.total_minor, o.currency,
		              COALESCE(c.captures, 0), COALESCE(c.captured, 0), c.currency)
		  FROM orders o
		  LEFT JOIN charges c ON c.reference = 'pay_' || o.payment_id
		 WHERE o.status = 'confirmed'
		   AND (c.captures, c.captured, c.currency) IS DISTINCT FROM (1, o.total_minor, o.currency)`, `
		SELECT format('ord_%s is confirmed, and %s further charges are held', o.id, c.held)
		  FROM orders o
		  JOIN charges c ON c.reference = 'pay_' || o.payment_id
		 WHERE o.status = 'confirmed'
		   AND c.held > 0`, `
		SELECT format('ord_%s is cancelled, the processor took %s and holds %s charges', o.id, c.captured, c.held)
		  FROM orders o
		  JOIN charges c ON c.reference = 'pay_' || o.payment_id
		 WHERE o.status = 'cancelled'
		   AND (c.captures > 0 OR c.held > 0)`, `
		SELECT format('%s was charged (%s), and no order knows it', c.reference, c.captured)
		  FROM charges c
		  LEFT JOIN orders o ON 'pay_' || o.payment_id = c.reference
		 WHERE o.id IS NULL`)
}

// ledgerComplete: what happened outside, through orders and payments, against the
// books: each once, and nothing else.
func ledgerComplete(ctx context.Context, conn *pgx.Conn) (int, []string, error) {
	return across(ctx, conn, `SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM entries)`, `
		WITH books AS (
			SELECT source,
			       sum(entries) FILTER (WHERE kind = 'sale')          AS sales,
			       sum(entries) FILTER (WHERE kind = 'sale-reversal') AS reversals,
			       sum(receivable)                                    AS gross
			  FROM entries
			 WHERE source LIKE 'ord\_%'
			 GROUP BY source)
		SELECT format('%s is %s over %s, the books have %s sales and %s reversals over %s', COALESCE('ord_' || o.id, b.source), COALESCE(o.status, 'unknown'),
		              o.total_minor, COALESCE(b.sales, 0), COALESCE(b.reversals, 0), b.gross)
		  FROM orders o
		  FULL JOIN books b ON b.source = 'ord_' || o.id
		 WHERE o.id IS NULL
		    OR o.status = 'confirmed' AND (COALESCE(b.sales, 0), COALESCE(b.reversals, 0), COALESCE(b.gross, 0)) <> (1, 0, o.total_minor)
		    OR o.status = 'cancelled' AND (COALESCE(b.sales, 0) <> COALESCE(b.reversals, 0) OR b.sales > 1 OR b.gross <> 0)`, `
		SELECT format('%s: settled %s times, the books have %s', COALESCE(p.id, e.source), count(p.id), COALESCE(sum(e.entries), 0))
		  FROM (SELECT id FROM paid WHERE settled) p
		  FULL JOIN (SELECT source, entries FROM entries WHERE kind = 'settlement') e ON e.source = p.id
		 GROUP BY p.id, e.source
		HAVING count(p.id) <> COALESCE(sum(e.entries), 0)`, `
		SELECT format('%s: given back %s times, the books have %s', COALESCE(r.id, e.source), count(r.id), COALESCE(sum(e.entries), 0))
		  FROM (SELECT id FROM refunded WHERE decision = 'succeeded') r
		  FULL JOIN (SELECT source, entries FROM entries WHERE kind = 'refund') e ON e.source = r.id
		 GROUP BY r.id, e.source
		HAVING count(r.id) <> COALESCE(sum(e.entries), 0)`, `
		SELECT format('%s: %s refunds settled, the books have %s', COALESCE(r.payment_id, e.reference), COALESCE(r.settled, 0), COALESCE(e.entries, 0))
		  FROM (SELECT payment_id, count(*) AS settled FROM refunded WHERE settled GROUP BY payment_id) r
		  FULL JOIN (SELECT reference, sum(entries) AS entries FROM entries WHERE kind = 'refund-settlement' GROUP BY reference) e ON e.reference = r.payment_id
		 WHERE COALESCE(r.settled, 0) <> COALESCE(e.entries, 0)`)
}

// refundBounded: our refunds, against the payments they belong to and against the
// processor's own operations.
func refundBounded(ctx context.Context, conn *pgx.Conn) (int, []string, error) {
	return across(ctx, conn, `SELECT count(DISTINCT payment_id) FROM refunded`, `
		WITH ours AS (
			SELECT payment_id,
			       COALESCE(sum(minor) FILTER (WHERE decision <> 'failed'), 0)    AS claimed,
			       COALESCE(sum(minor) FILTER (WHERE decision = 'succeeded'), 0)  AS given_back,
			       count(*) FILTER (WHERE decision = 'succeeded')                 AS refunds
			  FROM refunded
			 GROUP BY payment_id)
		SELECT format('%s: %s was taken and %s is noted as given back; its refunds claim %s, %s of them made %s; the processor made %s over %s',
		              COALESCE(r.payment_id, c.reference), p.minor, p.refunded, r.claimed, r.refunds, r.given_back, c.refunds, c.given_back)
		  FROM ours r
		  FULL JOIN (SELECT reference, refunds, given_back FROM charges WHERE refunds > 0) c ON c.reference = r.payment_id
		  LEFT JOIN paid p ON p.id = COALESCE(r.payment_id, c.reference)
		 WHERE COALESCE(r.claimed, 0) > COALESCE(p.minor, 0)
		    OR COALESCE(r.claimed, 0) <> COALESCE(p.refunded, 0)
		    OR (COALESCE(r.refunds, 0), COALESCE(r.given_back, 0)) <> (COALESCE(c.refunds, 0), COALESCE(c.given_back, 0))`)
}

// payoutAtMostOnce: the bank's own transfers and both books, for each payout.
func payoutAtMostOnce(ctx context.Context, conn *pgx.Conn) (int, []string, error) {
	return across(ctx, conn, `SELECT (SELECT count(*) FROM paid_out) + (SELECT count(*) FROM transfers)`, `
		SELECT format('%s is %s over %s, the bank sent %s in %s transfers', COALESCE(p.id, t.reference), COALESCE(p.outcome, 'unknown to us'), p.minor,
		              COALESCE(t.minor, 0), COALESCE(t.transfers, 0))
		  FROM paid_out p
		  FULL JOIN transfers t ON t.reference = p.id
		 WHERE p.id IS NULL
		    OR t.transfers > 1
		    OR p.outcome = 'sent' AND t.minor IS DISTINCT FROM p.minor
		    OR p.outcome = 'failed' AND t.transfers > 0`, `
		WITH books AS (
			SELECT source,
			       COALESCE(sum(entries) FILTER (WHERE kind = 'payout'), 0)          AS begun,
			       COALESCE(sum(entries) FILTER (WHERE kind = 'payout-sent'), 0)     AS sent,
			       COALESCE(sum(entries) FILTER (WHERE kind = 'payout-returned'), 0) AS returned
			  FROM entries
			 WHERE source LIKE 'pyo\_%'
			 GROUP BY source)
		SELECT format('%s is %s here (booked: %s), the ledger has it begun %s times, sent %s times, returned %s times', COALESCE(p.id, b.source),
		              COALESCE(p.outcome, 'unknown'), COALESCE(p.booked, false), COALESCE(b.begun, 0), COALESCE(b.sent, 0), COALESCE(b.returned, 0))
		  FROM paid_out p
		  FULL JOIN books b ON b.source = p.id
		 WHERE p.id IS NULL
		    OR (COALESCE(b.begun, 0), COALESCE(b.sent, 0), COALESCE(b.returned, 0))
		       <> (p.booked::int, (p.outcome = 'sent')::int, (p.booked AND p.outcome = 'failed')::int)`)
}

// calledBack: the merchant's own records, against the orders that asked for a callback.
func calledBack(ctx context.Context, conn *pgx.Conn) (int, []string, error) {
	return across(ctx, conn, `SELECT count(*) FROM orders WHERE callback_url <> '' AND status <> 'pending'`, `
		SELECT CASE WHEN COALESCE(h.accepted, 0) = 0 THEN format('ord_%s is %s, the merchant never heard of it', o.id, o.status)
		            WHEN h.ids <> 1 THEN format('ord_%s: the merchant saw %s webhook-ids', o.id, h.ids)
		            ELSE format('ord_%s: %s deliveries with a bad signature', o.id, h.invalid) END
		  FROM orders o
		  LEFT JOIN heard h ON h.order_id = 'ord_' || o.id
		 WHERE o.callback_url <> ''
		   AND o.status <> 'pending'
		   AND (h.accepted, h.ids, h.invalid) IS DISTINCT FROM (GREATEST(h.accepted, 1), 1, 0)`)
}

package audit

import "context"

// The invariants that span databases, over the tables that stage has filled; for
// the books see books.go, for the receipts receipts.go.

// chargedOnce: the processor's own operations, against what orders promised.
func (a *auditor) chargedOnce(ctx context.Context) (int, []string, error) {
	return a.across(ctx, `SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM charges)`, `
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
		SELECT format('%s was charged (%s captured, %s charges held), and no order knows it', c.reference, c.captured, c.held)
		  FROM charges c
		  LEFT JOIN orders o ON 'pay_' || o.payment_id = c.reference
		 WHERE o.id IS NULL`)
}

// refundBounded: the processor's refunds against its own captures, and our refunds
// against both. The processor would refuse to give back too much; that it does is
// not ours to rely on.
func (a *auditor) refundBounded(ctx context.Context) (int, []string, error) {
	return a.across(ctx, `SELECT (SELECT count(*) FROM refunded) + (SELECT count(*) FROM charges WHERE captures > 0)`, `
		SELECT format('%s: the processor captured %s and gave back %s', reference, captured, given_back)
		  FROM charges
		 WHERE given_back > captured`, `
		WITH ours AS (
			SELECT payment_id,
			       COALESCE(sum(minor) FILTER (WHERE decision <> 'failed'), 0)    AS claimed,
			       COALESCE(sum(minor) FILTER (WHERE decision = 'succeeded'), 0)  AS given_back,
			       count(*) FILTER (WHERE decision = 'succeeded')                 AS refunds
			  FROM refunded
			 GROUP BY payment_id)
		SELECT format('%s: %s was captured; %s is noted as given back; its refunds claim %s, %s of them made %s; the processor made %s over %s',
		              COALESCE(r.payment_id, c.reference, p.id), COALESCE(c.captured, 0), COALESCE(p.refunded, 0), COALESCE(r.claimed, 0),
		              COALESCE(r.refunds, 0), COALESCE(r.given_back, 0), COALESCE(c.refunds, 0), COALESCE(c.given_back, 0))
		  FROM ours r
		  FULL JOIN charges c ON c.reference = r.payment_id
		  FULL JOIN paid p ON p.id = COALESCE(r.payment_id, c.reference)
		 WHERE COALESCE(r.claimed, 0) > COALESCE(c.captured, 0)
		    OR COALESCE(r.claimed, 0) <> COALESCE(p.refunded, 0)
		    OR (COALESCE(r.refunds, 0), COALESCE(r.given_back, 0)) <> (COALESCE(c.refunds, 0), COALESCE(c.given_back, 0))`)
}

// payoutAtMostOnce: the bank's own transfers and both books, for each payout.
func (a *auditor) payoutAtMostOnce(ctx context.Context) (int, []string, error) {
	return a.across(ctx, `SELECT (SELECT count(*) FROM paid_out) + (SELECT count(*) FROM transfers)`, `
		SELECT format('%s is %s over %s %s, the bank sent %s %s in %s transfers', COALESCE(p.id, t.reference), COALESCE(p.outcome, 'unknown to us'), p.minor, p.currency,
		              COALESCE(t.minor, 0), t.currency, COALESCE(t.transfers, 0))
		  FROM paid_out p
		  FULL JOIN transfers t ON t.reference = p.id
		 WHERE p.id IS NULL
		    OR t.transfers > 1
		    OR p.outcome = 'sent' AND (t.minor, t.currency) IS DISTINCT FROM (p.minor, p.currency)
		    OR p.outcome = 'failed' AND t.transfers > 0
		    OR NOT p.booked AND t.transfers > 0`, `
		WITH books AS (
			SELECT source,
			       count(*) FILTER (WHERE kind = 'payout')          AS begun,
			       count(*) FILTER (WHERE kind = 'payout-sent')     AS sent,
			       count(*) FILTER (WHERE kind = 'payout-returned') AS returned
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

// calledBack: the merchant's own records, against the orders that asked for a
// callback. That something came is not enough: it must say how the order ended, to
// the merchant whose order it is.
func (a *auditor) calledBack(ctx context.Context) (int, []string, error) {
	return a.across(ctx, `SELECT count(*) FROM orders WHERE callback_url <> '' AND status <> 'pending'`, `
		SELECT format('ord_%s of %s is %s, ', o.id, o.merchant_id, o.status)
		       || CASE WHEN COALESCE(h.accepted, 0) = 0 THEN 'the merchant never heard of it'
		               WHEN h.ids <> 1 THEN format('the merchant saw %s webhook-ids', h.ids)
		               WHEN h.invalid > 0 THEN format('%s deliveries had a bad signature', h.invalid)
		               WHEN (h.first_merchant, h.last_merchant) <> (o.merchant_id, o.merchant_id) THEN format('it was told to %s and %s', h.first_merchant, h.last_merchant)
		               ELSE format('the callback said %s and %s', h.first_type, h.last_type) END
		  FROM orders o
		  LEFT JOIN heard h ON h.order_id = 'ord_' || o.id
		 WHERE o.callback_url <> ''
		   AND o.status <> 'pending'
		   AND (h.accepted, h.ids, h.invalid, h.first_merchant, h.last_merchant, h.first_type, h.last_type)
		       IS DISTINCT FROM (GREATEST(h.accepted, 1), 1, 0, o.merchant_id, o.merchant_id, 'order.' || o.status, 'order.' || o.status)`)
}

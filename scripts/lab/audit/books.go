package audit

import "context"

// ledgerComplete: what happened, against the books: each once, of the right amounts,
// for the right merchant, and nothing else. Sales are orders' own doing; captures and
// what settles of refunds are the processor's, so that news that payments has lost
// is missed here. A refund's own entry is due when payments says that it succeeded,
// and refund-bounded holds that against the processor.
func (a *auditor) ledgerComplete(ctx context.Context) (int, []string, error) {
	return a.across(ctx, `
		SELECT (SELECT count(*) FROM entries) + (SELECT count(*) FROM orders) + (SELECT count(*) FROM charges)
		     + (SELECT count(*) FROM refunded) + (SELECT count(*) FROM given_back) + (SELECT count(*) FROM paid_out)`,
		`SELECT format('%s of %s is in the books %s times', kind, source, count(*))
		   FROM entries
		  GROUP BY kind, source
		 HAVING count(*) > 1`,
		dueAndBooked,
		shareOfTheMerchant,
		`SELECT format('%s is captured at the processor: %s; noted as settled by payments: %s', COALESCE(c.reference, p.id), COALESCE(c.captures > 0, false), COALESCE(p.settled, false))
		   FROM charges c
		   FULL JOIN paid p ON p.id = c.reference
		  WHERE COALESCE(c.captures > 0, false) <> COALESCE(p.settled, false)`,
		`SELECT format('%s of %s %s, and payments does not note it as settled', id, payment_id, decision)
		   FROM refunded
		  WHERE (decision = 'succeeded') <> settled`)
}

// dueAndBooked joins what must be in the books with what is there. Each kind moves
// its amount in its own way; with the sum of zero that books-balance checks, what is
// not listed follows. The fee of a sale is the ledger's affair: it is in no other
// record. Needed or not: of a cancelled order either nothing was booked or a sale and
// its reversal, of a pending one (which is order-terminal's business) perhaps one of
// them, and whether a payout's entries are there is payout-at-most-once's business.
const dueAndBooked = `
	WITH moves (kind, receivable, clearing, transit, cash, available, fee) AS (VALUES
		('sale',              -1,  0,  0, 0, 0,    true),
		('sale-reversal',      1,  0,  0, 0, 0,    true),
		('settlement',         1, -1,  0, 0, NULL, false), -- the merchant's share
		('refund',             1,  0,  0, 0, 0,    false),
		('refund-settlement', -1,  1,  0, 0, 0,    false),
		('payout',             0,  0,  1, 0, -1,   false),
		('payout-sent',        0,  0, -1, 1, 0,    false),
		('payout-returned',    0,  0, -1, 0, 1,    false)),
	due AS (
		SELECT 'ord_' || id AS source, 'sale' AS kind, 'pay_' || payment_id AS reference, merchant_id, currency, total_minor AS minor, status = 'confirmed' AS needed
		  FROM orders
		 UNION ALL
		SELECT e.source, 'sale-reversal', 'pay_' || o.payment_id, o.merchant_id, o.currency, o.total_minor, o.status = 'cancelled'
		  FROM orders o
		  JOIN entries e ON e.source = 'ord_' || o.id AND e.kind = 'sale'
		 WHERE o.status <> 'confirmed'
		 UNION ALL
		SELECT reference, 'settlement', reference, merchant_id, currency, captured, true
		  FROM charges
		 WHERE captures > 0
		 UNION ALL
		SELECT id, 'refund', payment_id, merchant_id, currency, minor, true
		  FROM refunded
		 WHERE decision = 'succeeded'
		 UNION ALL
		SELECT operation, 'refund-settlement', reference, merchant_id, currency, minor, true
		  FROM given_back
		 UNION ALL
		SELECT id, kind, id, merchant_id, currency, minor, false
		  FROM paid_out
		 CROSS JOIN (VALUES ('payout'), ('payout-sent'), ('payout-returned')) ends (kind))
	SELECT CASE
	       WHEN d.source IS NULL THEN format('%s of %s is in the books, and nothing that happened asks for it', e.kind, e.source)
	       WHEN e.source IS NULL THEN format('%s of %s over %s %s is not in the books', d.kind, d.source, d.minor, d.currency)
	       ELSE format('%s of %s must be over %s %s for %s and speak of %s; in the books it is of %s for %s, speaks of %s, and moves receivable %s, clearing %s, transit %s, cash %s, pending %s, available %s, fee %s',
	            d.kind, d.source, d.minor, d.currency, d.merchant_id, d.reference,
	            e.currency, e.merchant_id, e.reference, e.receivable, e.clearing, e.transit, e.cash, e.pending, e.available, e.fee)
	       END
	  FROM due d
	  FULL JOIN entries e ON e.source = d.source AND e.kind = d.kind
	  LEFT JOIN moves m ON m.kind = d.kind
	 WHERE d.source IS NULL
	    OR e.source IS NULL AND d.needed
	    OR e.source IS NOT NULL AND (
	       (e.reference, e.merchant_id, e.currency, e.receivable, e.clearing, e.transit, e.cash, e.available)
	       IS DISTINCT FROM
	       (d.reference, d.merchant_id, d.currency, m.receivable * d.minor, m.clearing * d.minor, m.transit * d.minor, m.cash * d.minor, COALESCE(m.available * d.minor, e.available))
	    OR e.fee <> 0 AND NOT m.fee)`

// shareOfTheMerchant: what a sale has left to the merchant is what a reversal takes
// back and what a settlement makes available, whatever the fee was.
const shareOfTheMerchant = `
	SELECT format('%s of %s moves a share of %s, its sale left %s to the merchant', e.kind, e.source, moved, s.pending)
	  FROM entries s
	  JOIN entries e ON e.reference = s.reference
	 CROSS JOIN LATERAL (SELECT CASE e.kind WHEN 'settlement' THEN e.available ELSE -e.pending END) share (moved)
	 WHERE s.kind = 'sale'
	   AND e.kind IN ('settlement', 'sale-reversal')
	   AND moved <> s.pending`

package audit

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The invariants that span databases. No query can join those, so what the
// outside world says is read into a map first, then each order is held against it.

// order is what orders believes.
type order struct {
	ID, PaymentID, Status, CallbackURL string
	Minor                              int64
	Currency                           string
}

func readOrders(ctx context.Context, d *Databases) ([]order, error) {
	rows, err := d.Orders.Query(ctx, `
		SELECT 'ord_' || id, 'pay_' || payment_id, status, callback_url, total_minor, currency
		  FROM orders
		 ORDER BY id`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[order])
}

// byKey reads rows into a map; the first column is the key.
func byKey[T any](ctx context.Context, db *pgxpool.Pool, key func(T) string, query string) (map[string]T, error) {
	rows, err := db.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	found := make(map[string]T, len(list))
	for _, row := range list {
		found[key(row)] = row
	}
	return found, err
}

// charge is what the processor did for one payment.
type charge struct {
	Reference      string
	Charges, Held  int
	Captures       int
	Captured, Paid int64 // minor units captured; the same less refunds
	Currency       string
}

// chargedOnce: the processor's own operations, against what orders promised.
func chargedOnce(ctx context.Context, d *Databases) (int, []string, error) {
	orders, err := readOrders(ctx, d)
	if err != nil {
		return 0, nil, err
	}
	charges, err := byKey(ctx, d.Sandbox, func(c charge) string { return c.Reference }, `
		SELECT c.reference,
		       count(DISTINCT c.id),
		       count(DISTINCT c.id) FILTER (WHERE c.status = 'authorised'),
		       count(o.id) FILTER (WHERE o.kind = 'capture'),
		       COALESCE(sum(o.amount_minor) FILTER (WHERE o.kind = 'capture'), 0)::bigint,
		       COALESCE(sum(CASE o.kind WHEN 'capture' THEN o.amount_minor WHEN 'refund' THEN -o.amount_minor END), 0)::bigint,
		       max(c.currency)
		  FROM processor_charges c
		  LEFT JOIN processor_operations o ON o.charge_id = c.id
		 GROUP BY c.reference`)
	if err != nil {
		return 0, nil, err
	}
	checked := len(orders) + len(charges)
	var wrong []string
	for _, o := range orders {
		c, charged := charges[o.PaymentID]
		delete(charges, o.PaymentID)
		switch {
		case o.Status == "confirmed" && (!charged || c.Captures != 1 || c.Captured != o.Minor || c.Currency != o.Currency):
			wrong = append(wrong, fmt.Sprintf("%s is confirmed over %d %s, the processor captured %d times, %d %s", o.ID, o.Minor, o.Currency, c.Captures, c.Captured, c.Currency))
		case o.Status == "confirmed" && c.Held > 0:
			wrong = append(wrong, fmt.Sprintf("%s is confirmed, and %d further charges are held", o.ID, c.Held))
		case o.Status == "cancelled" && (c.Captures != 0 || c.Held > 0):
			wrong = append(wrong, fmt.Sprintf("%s is cancelled, the processor took %d and holds %d charges", o.ID, c.Paid, c.Held))
		}
	}
	for reference, c := range charges {
		wrong = append(wrong, fmt.Sprintf("%s was charged (%d), and no order knows it", reference, c.Captured))
	}
	return checked, wrong, nil
}

// booked is what the ledger says of one order.
type booked struct {
	Source                string
	Sales, Reversals, All int
	Gross                 int64
}

// ledgerComplete: the processor's captures, through orders, against the books.
func ledgerComplete(ctx context.Context, d *Databases) (int, []string, error) {
	orders, err := readOrders(ctx, d)
	if err != nil {
		return 0, nil, err
	}
	books, err := byKey(ctx, d.Ledger, func(b booked) string { return b.Source }, `
		SELECT e.source,
		       count(*) FILTER (WHERE e.kind = 'sale'),
		       count(*) FILTER (WHERE e.kind = 'sale-reversal'),
		       count(*),
		       COALESCE(sum(receivable.minor), 0)::bigint
		  FROM entries e
		  LEFT JOIN LATERAL (
		       SELECT -sum(p.amount_minor) AS minor
		         FROM postings p
		        WHERE p.entry_id = e.id
		          AND p.account_id LIKE 'card\_receivable:%') receivable ON true
		 WHERE e.source LIKE 'ord\_%'
		 GROUP BY e.source`)
	if err != nil {
		return 0, nil, err
	}
	checked := len(orders) + len(books)
	var wrong []string
	for _, o := range orders {
		b := books[o.ID]
		delete(books, o.ID)
		switch {
		case o.Status == "confirmed" && (b.Sales != 1 || b.Reversals != 0 || b.Gross != o.Minor):
			wrong = append(wrong, fmt.Sprintf("%s is confirmed over %d, the books have %d sales and %d reversals over %d", o.ID, o.Minor, b.Sales, b.Reversals, b.Gross))
		case o.Status == "cancelled" && (b.Sales != b.Reversals || b.Sales > 1 || b.Gross != 0):
			wrong = append(wrong, fmt.Sprintf("%s is cancelled, the books have %d sales and %d reversals over %d", o.ID, b.Sales, b.Reversals, b.Gross))
		}
	}
	for source, b := range books {
		wrong = append(wrong, fmt.Sprintf("%s has %d entries, and no order knows it", source, b.All))
	}
	n, more, err := settledOnce(ctx, d)
	return checked + n, append(wrong, more...), err
}

// called is what a merchant heard about one order.
type called struct {
	OrderID                string
	Accepted, IDs, Invalid int
}

// calledBack: the merchant's own records, against the orders that asked for a callback.
func calledBack(ctx context.Context, d *Databases) (int, []string, error) {
	orders, err := readOrders(ctx, d)
	if err != nil {
		return 0, nil, err
	}
	heard, err := byKey(ctx, d.Sandbox, func(c called) string { return c.OrderID }, `
		SELECT order_id,
		       count(*) FILTER (WHERE answered BETWEEN 200 AND 299 AND signature_valid),
		       count(DISTINCT webhook_id),
		       count(*) FILTER (WHERE NOT signature_valid)
		  FROM merchant_deliveries
		 GROUP BY order_id`)
	if err != nil {
		return 0, nil, err
	}
	var wrong []string
	checked := 0
	for _, o := range orders {
		if o.CallbackURL == "" || o.Status == "pending" {
			continue
		}
		checked++
		h := heard[o.ID]
		switch {
		case h.Accepted == 0:
			wrong = append(wrong, fmt.Sprintf("%s is %s, the merchant never heard of it", o.ID, o.Status))
		case h.IDs != 1:
			wrong = append(wrong, fmt.Sprintf("%s: the merchant saw %d webhook-ids", o.ID, h.IDs))
		case h.Invalid > 0:
			wrong = append(wrong, fmt.Sprintf("%s: %d deliveries with a bad signature", o.ID, h.Invalid))
		}
	}
	return checked, wrong, nil
}

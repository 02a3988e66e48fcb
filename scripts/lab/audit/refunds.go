package audit

import (
	"context"
	"fmt"
)

// refunded is what we believe of one payment's refunds.
type refunded struct {
	PaymentID          string
	Captured, Noted    int64 // taken; given back as the payment's row has it
	Claimed, Succeeded int64 // sums of the refunds that did not fail, and of those that succeeded
	Count              int   // of those that succeeded
}

// givenBack is what the processor really gave back for one payment.
type givenBack struct {
	Reference string
	Minor     int64
	Count     int
}

// refundBounded: our refunds, against the payments they belong to and against
// the processor's own operations.
func refundBounded(ctx context.Context, d *Databases) (int, []string, error) {
	ours, err := byKey(ctx, d.Payments, func(r refunded) string { return r.PaymentID }, `
		SELECT 'pay_' || p.id, p.amount_minor, p.refunded_minor,
		       sum(r.amount_minor) FILTER (WHERE r.decision <> 'failed')::bigint,
		       COALESCE(sum(r.amount_minor) FILTER (WHERE r.decision = 'succeeded'), 0)::bigint,
		       count(*) FILTER (WHERE r.decision = 'succeeded')
		  FROM payments p
		  JOIN refunds r ON r.payment_id = p.id
		 GROUP BY p.id
		HAVING count(*) FILTER (WHERE r.decision <> 'failed') > 0`)
	if err != nil {
		return 0, nil, err
	}
	theirs, err := byKey(ctx, d.Sandbox, func(g givenBack) string { return g.Reference }, `
		SELECT c.reference, sum(o.amount_minor)::bigint, count(*)
		  FROM processor_operations o
		  JOIN processor_charges c ON c.id = o.charge_id
		 WHERE o.kind = 'refund'
		 GROUP BY c.reference`)
	if err != nil {
		return 0, nil, err
	}
	var wrong []string
	for id, r := range ours {
		g := theirs[id]
		delete(theirs, id)
		switch {
		case r.Claimed > r.Captured:
			wrong = append(wrong, fmt.Sprintf("%s: %d was taken, %d is being given back", id, r.Captured, r.Claimed))
		case r.Noted != r.Claimed:
			wrong = append(wrong, fmt.Sprintf("%s: the payment says %d is given back, its refunds %d", id, r.Noted, r.Claimed))
		case g.Minor != r.Succeeded || g.Count != r.Count:
			wrong = append(wrong, fmt.Sprintf("%s: %d refunds over %d, the processor made %d over %d", id, r.Count, r.Succeeded, g.Count, g.Minor))
		}
	}
	for id, g := range theirs {
		wrong = append(wrong, fmt.Sprintf("%s: the processor gave back %d, and no refund knows it", id, g.Minor))
	}
	return len(ours) + len(theirs), wrong, nil
}

// paidOut is what we believe of one payout.
type paidOut struct {
	ID, Outcome string
	Booked      bool // our half of the distributed transaction was committed
	Minor       int64
}

// transferred is what really left the bank for one payout.
type transferred struct {
	Reference string
	Count     int
	Minor     int64
}

// bookedPayout is what the ledger has of one payout.
type bookedPayout struct {
	Source                    string
	Begun, Sent, Returned, Of int
}

// payoutAtMostOnce: the bank's own transfers and both books, for each payout.
func payoutAtMostOnce(ctx context.Context, d *Databases) (int, []string, error) {
	payouts, err := byKey(ctx, d.Payments, func(p paidOut) string { return p.ID }, `
		SELECT 'pyo_' || id, outcome,
		       recovery_point <> 'started' AND NOT (outcome = 'failed' AND failure = 'insufficient_balance'),
		       amount_minor
		  FROM payouts`)
	if err != nil {
		return 0, nil, err
	}
	bank, err := byKey(ctx, d.Sandbox, func(t transferred) string { return t.Reference }, `
		SELECT reference, count(*), sum(amount_minor)::bigint
		  FROM bank_transfers
		 GROUP BY reference`)
	if err != nil {
		return 0, nil, err
	}
	books, err := byKey(ctx, d.Ledger, func(b bookedPayout) string { return b.Source }, `
		SELECT source,
		       count(*) FILTER (WHERE kind = 'payout'),
		       count(*) FILTER (WHERE kind = 'payout-sent'),
		       count(*) FILTER (WHERE kind = 'payout-returned'),
		       count(*)
		  FROM entries
		 WHERE source LIKE 'pyo\_%'
		 GROUP BY source`)
	if err != nil {
		return 0, nil, err
	}
	var wrong []string
	for id, p := range payouts {
		t, b := bank[id], books[id]
		delete(bank, id)
		delete(books, id)
		switch {
		case t.Count > 1:
			wrong = append(wrong, fmt.Sprintf("%s: the bank saw %d transfers", id, t.Count))
		case p.Outcome == "sent" && (t.Count != 1 || t.Minor != p.Minor), p.Outcome == "failed" && t.Count != 0:
			wrong = append(wrong, fmt.Sprintf("%s is %s over %d, the bank sent %d", id, p.Outcome, p.Minor, t.Minor))
		case p.Booked != (b.Begun == 1):
			wrong = append(wrong, fmt.Sprintf("%s: booked in payments: %v, in the ledger: %d times", id, p.Booked, b.Begun))
		case b.Sent != count(p.Outcome == "sent"), b.Returned != count(p.Booked && p.Outcome == "failed"), b.Of != b.Begun+b.Sent+b.Returned:
			wrong = append(wrong, fmt.Sprintf("%s is %s, the ledger has it sent %d times and returned %d times", id, p.Outcome, b.Sent, b.Returned))
		}
	}
	for id := range bank {
		wrong = append(wrong, fmt.Sprintf("%s: the bank sent it, and no payout knows it", id))
	}
	for id := range books {
		wrong = append(wrong, fmt.Sprintf("%s: the ledger has it, and no payout knows it", id))
	}
	return len(payouts) + len(bank) + len(books), wrong, nil
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// entryKinds counts the entries of one source.
type entryKinds struct {
	Source string
	Count  int
}

// settledOnce: each capture and each refund that has settled is booked as such,
// and each refund that succeeded is in the books, once.
func settledOnce(ctx context.Context, d *Databases) (int, []string, error) {
	var wrong []string
	checked := 0
	for _, c := range []struct {
		what, kind   string
		expected, is string
	}{
		{"settlement", "settlement",
			`SELECT 'pay_' || id, 1 FROM payments WHERE settled_at IS NOT NULL`,
			`SELECT source, count(*) FROM entries WHERE kind = 'settlement' GROUP BY source`},
		{"refund", "refund",
			`SELECT 'rfd_' || id, 1 FROM refunds WHERE decision = 'succeeded'`,
			`SELECT source, count(*) FROM entries WHERE kind = 'refund' GROUP BY source`},
		{"settlement of refunds", "refund-settlement",
			`SELECT 'pay_' || payment_id, count(*) FROM refunds WHERE settled_at IS NOT NULL GROUP BY payment_id`,
			`SELECT reference, count(*) FROM entries WHERE kind = 'refund-settlement' GROUP BY reference`},
	} {
		expected, err := byKey(ctx, d.Payments, func(e entryKinds) string { return e.Source }, c.expected)
		if err != nil {
			return 0, nil, err
		}
		booked, err := byKey(ctx, d.Ledger, func(e entryKinds) string { return e.Source }, c.is)
		if err != nil {
			return 0, nil, err
		}
		checked += len(expected)
		for source, e := range expected {
			if booked[source].Count != e.Count {
				wrong = append(wrong, fmt.Sprintf("%s: %d times %s, the books have %d", source, e.Count, c.what, booked[source].Count))
			}
			delete(booked, source)
		}
		for source, b := range booked {
			wrong = append(wrong, fmt.Sprintf("%s: the books have %d times %s, payments has none", source, b.Count, c.what))
		}
	}
	return checked, wrong, nil
}

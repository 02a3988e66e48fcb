package audit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/wait"
)

// WaitQuiet waits until nothing is going on any more: no pending order, no work
// half-way, no message to send, no callback to deliver, and nothing that the outside
// world has done and the books do not know yet. It returns what is still going on
// when ctx ends first.
func WaitQuiet(ctx context.Context, d *Databases) error {
	var last string // what the last whole look saw: the end of ctx mostly interrupts one
	for {
		busy, err := GoingOn(ctx, d)
		if err == nil && busy == "" {
			// A look takes a while. What began behind it and ended before it got there
			// has left its message in an outbox, sent and not deleted yet.
			busy, err = GoingOn(ctx, d)
		}
		if err == nil && busy == "" {
			return nil
		}
		if err == nil {
			last = busy
		}
		if !wait.For(ctx, 100*time.Millisecond) {
			if last == "" {
				return fmt.Errorf("audit: not quiet: %w", err)
			}
			return fmt.Errorf("audit: not quiet: %s", last)
		}
	}
}

// GoingOn looks once and names what is still going on, with counts; "" means that
// the system is quiet.
func GoingOn(ctx context.Context, d *Databases) (string, error) {
	var busy []string
	for _, q := range []struct {
		db  *pgxpool.Pool
		sql string
	}{
		{d.Orders, `SELECT count(*), 'orders pending' FROM orders WHERE status = 'pending'`},
		{d.Orders, `SELECT count(*), 'messages in the outbox of orders' FROM outbox`},
		{d.Payments, `SELECT count(*), 'messages in the outbox of payments' FROM outbox`},
		{d.Ledger, `SELECT count(*), 'messages in the outbox of ledger' FROM outbox`},
		{d.Payments, `SELECT count(*), 'payments half-way' FROM payments WHERE status IN ('authorising', 'voiding')`},
		{d.Sandbox, `SELECT count(*), 'webhooks of the processor to deliver' FROM processor_events WHERE delivered_at IS NULL`},
		{d.Payments, `SELECT count(*), 'receipts to write' FROM payments WHERE status = 'captured' AND receipt_name = ''`},
		{d.Orders, `SELECT count(*), 'receipts to note' FROM orders WHERE status = 'confirmed' AND receipt_id = ''`},
		{d.Payments, `SELECT count(*), 'webhooks held back' FROM received_events WHERE applied_at IS NULL AND stream IN (SELECT 'pay_' || id FROM payments)`},
		{d.Payments, `SELECT count(*), 'refunds and payouts unfinished' FROM idempotency_keys WHERE status IS NULL`},
		{d.Payments, `SELECT count(*), 'prepared transactions' FROM pg_prepared_xacts WHERE database = current_database()`},
		{d.Ledger, `SELECT count(*), 'prepared transactions of ledger' FROM pg_prepared_xacts WHERE database = current_database()`},
		{d.Payments, `SELECT count(*), 'decisions to carry out' FROM twophase_decisions WHERE finished_at IS NULL`},
		{d.Payments, `SELECT count(*), 'reconciliations to run' FROM reconciliations WHERE status = 'requested'`},
		{d.Orders, `SELECT count(*), 'callbacks to deliver' FROM callbacks WHERE state = 'pending'`},
	} {
		var n int
		var what string
		if err := q.db.QueryRow(ctx, q.sql).Scan(&n, &what); err != nil {
			return "", err
		}
		if n > 0 {
			busy = append(busy, fmt.Sprintf("%d %s", n, what))
		}
	}
	travelling, err := onTheirWay(ctx, d)
	if err != nil {
		return "", err
	}
	if busy = append(busy, travelling...); len(busy) > 0 {
		return strings.Join(busy, ", "), nil
	}
	n, err := dueForTheSweep(ctx, d) // last: it looks at every document
	if n > 0 {
		return fmt.Sprintf("%d documents without a reference", n), err
	}
	return "", err
}

// onTheirWay compares what has happened with what the ledger has booked. No process
// waits for a reply to these messages, so only the two ends show that one is
// between them. Of captures and refunds the far end is the processor, not
// payments: news that payments has acknowledged and lost is on its way forever.
func onTheirWay(ctx context.Context, d *Databases) ([]string, error) {
	var captures, refunds, ended, bookedCaptures, bookedRefunds, bookedEnds int
	// Of what is at the processor, only ours: its reference is a payment of ours.
	err := d.Sandbox.QueryRow(ctx, `
		SELECT (SELECT count(*)
		          FROM processor_charges
		         WHERE captured_minor > 0
		           AND reference LIKE 'pay\_%'),
		       (SELECT count(*)
		          FROM (SELECT charge_id FROM processor_operations WHERE kind = 'refund' OFFSET 0) o -- looked for once; joined, it could be once for each charge
		         WHERE EXISTS (SELECT FROM processor_charges c WHERE c.id = o.charge_id AND c.reference LIKE 'pay\_%'))`).Scan(&captures, &refunds)
	if err != nil {
		return nil, err
	}
	err = d.Payments.QueryRow(ctx, `
		SELECT count(*)
		  FROM payouts
		 WHERE outcome = 'sent'
		    OR outcome = 'failed' AND failure <> 'insufficient_balance'`).Scan(&ended)
	if err != nil {
		return nil, err
	}
	err = d.Ledger.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE kind = 'settlement'),
		       count(*) FILTER (WHERE kind = 'refund-settlement'),
		       count(*) FILTER (WHERE kind IN ('payout-sent', 'payout-returned'))
		  FROM entries`).Scan(&bookedCaptures, &bookedRefunds, &bookedEnds)
	if err != nil {
		return nil, err
	}
	var travelling []string
	for what, missing := range map[string]int{
		"captures to book as settled": captures - bookedCaptures,
		"refunds to book as settled":  refunds - bookedRefunds,
		"payouts to book as ended":    ended - bookedEnds,
	} {
		if missing > 0 {
			travelling = append(travelling, fmt.Sprintf("%d %s", missing, what))
		}
	}
	return travelling, nil
}

// Package audit checks the invariants of the whole system, over the databases of
// the services and the records of the outside world. It believes the processor
// about charges and the merchant about callbacks, not us.
package audit

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"gocloud.dev/blob"
)

// Databases are the four databases, as a superuser or any role that may read.
type Databases struct {
	Orders, Payments, Ledger, Sandbox *pgxpool.Pool

	// Receipts is where payments stores its documents; nil: not checked.
	Receipts *blob.Bucket
}

// Open opens the four databases, and the store of receipts unless its URL is
// empty. address gives the URL of each database by name.
func Open(ctx context.Context, address func(name string) string, receipts string) (*Databases, error) {
	d := &Databases{}
	if receipts != "" {
		var err error
		if d.Receipts, err = blob.OpenBucket(ctx, receipts); err != nil {
			return nil, fmt.Errorf("audit: receipts: %w", err)
		}
	}
	for name, pool := range map[string]**pgxpool.Pool{"orders": &d.Orders, "payments": &d.Payments, "ledger": &d.Ledger, "sandbox": &d.Sandbox} {
		cfg, err := pgxpool.ParseConfig(address(name))
		var p *pgxpool.Pool
		if err == nil {
			// The services' statements may not take as long as an audit of a million orders.
			cfg.ConnConfig.RuntimeParams["statement_timeout"] = "0"
			p, err = pgxpool.NewWithConfig(ctx, cfg)
		}
		if err != nil {
			d.Close()
			return nil, fmt.Errorf("audit: database %s: %w", name, err)
		}
		*pool = p
	}
	return d, nil
}

// Close closes them.
func (d *Databases) Close() {
	if d.Receipts != nil {
		_ = d.Receipts.Close() // only read
	}
	for _, p := range []*pgxpool.Pool{d.Orders, d.Payments, d.Ledger, d.Sandbox} {
		if p != nil {
			p.Close()
		}
	}
}

// Result is the verdict on one invariant.
type Result struct {
	ID         string
	Says       string
	Checked    int      // how many things were looked at
	Violations []string // what is wrong, the first few
	More       int      // how many further violations there are
}

// Held tells whether the invariant holds. Nothing to look at is nothing proven,
// but no violation either.
func (r Result) Held() bool { return len(r.Violations) == 0 }

// Run checks every invariant. Run it once the system is quiet (WaitQuiet): while
// work is going on, some of them are rightly not true yet.
func Run(ctx context.Context, d *Databases) ([]Result, error) {
	conn, err := stage(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	defer conn.Close(ctx) //nolint:errcheck // its tables are temporary
	spanning := func(check func(context.Context, *pgx.Conn) (int, []string, error)) func(context.Context, *Databases) (int, []string, error) {
		return func(ctx context.Context, _ *Databases) (int, []string, error) { return check(ctx, conn) }
	}
	var results []Result
	for _, check := range []struct {
		id, says string
		run      func(context.Context, *Databases) (int, []string, error)
	}{
		{"order-terminal", "every order is confirmed or cancelled", orderTerminal},
		{"charged-once", "a confirmed order is captured once, a cancelled one holds nothing", spanning(chargedOnce)},
		{"stock-conserved", "initial = available + sold, reserved by open orders only", stockConserved},
		{"books-balance", "entries sum to zero, balances to their postings", booksBalance},
		{"ledger-complete", "each capture, refund and payout is in the books once, nothing else is", spanning(ledgerComplete)},
		{"refund-bounded", "refunds never exceed their capture, and the processor made each once", spanning(refundBounded)},
		{"payout-at-most-once", "one bank transfer at most, and a payout is in both books or in neither", spanning(payoutAtMostOnce)},
		{"nothing-in-doubt", "no outbox row, prepared transaction, held lock or work half-way", nothingInDoubt},
		{"no-dangling-reference", "each capture has its receipt, and no document is without a reference", noDanglingReference},
		{"called-back", "each finished order's callback arrived, one id, signed", spanning(calledBack)},
		{"same-answer", "each recorded answer leads to its own work; each client got it byte for byte", sameAnswer},
	} {
		checked, violations, err := check.run(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("audit: %s: %w", check.id, err)
		}
		r := Result{ID: check.id, Says: check.says, Checked: checked, Violations: violations}
		const most = 10
		if len(violations) > most {
			r.Violations, r.More = violations[:most], len(violations)-most
		}
		results = append(results, r)
	}
	return results, nil
}

// Held tells whether all invariants hold.
func Held(results []Result) bool {
	return !slices.ContainsFunc(results, func(r Result) bool { return !r.Held() })
}

// Print shows the verdict as a table, with the offending ids under their line.
func Print(w io.Writer, results []Result) {
	fmt.Fprintf(w, "%-22s %9s  %-8s %s\n", "invariant", "checked", "verdict", "")
	for _, r := range results {
		verdict := "held"
		if !r.Held() {
			verdict = "VIOLATED"
		}
		fmt.Fprintf(w, "%-22s %9d  %-8s %s\n", r.ID, r.Checked, verdict, r.Says)
		for _, v := range r.Violations {
			fmt.Fprintf(w, "%-22s %9s  ! %s\n", "", "", v)
		}
		if r.More > 0 {
			fmt.Fprintf(w, "%-22s %9s  ! and %d more\n", "", "", r.More)
		}
	}
}

// WaitQuiet waits until nothing is going on any more: no pending order, no open
// saga, no work half-way, no message to send, no callback to deliver. It returns what is still
// going on when ctx ends first.
func WaitQuiet(ctx context.Context, d *Databases) error {
	for {
		busy, err := goingOn(ctx, d)
		if err == nil && busy == "" {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			if err != nil {
				return fmt.Errorf("audit: not quiet: %w", err)
			}
			return fmt.Errorf("audit: not quiet: %s", busy)
		}
	}
}

func goingOn(ctx context.Context, d *Databases) (string, error) {
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
		{d.Payments, `SELECT count(*), 'webhooks held back' FROM sequence_events WHERE applied_at IS NULL AND stream IN (SELECT 'pay_' || id FROM payments)`},
		{d.Payments, `SELECT count(*), 'refunds and payouts unfinished' FROM idempotency_keys WHERE status IS NULL`},
		{d.Payments, `SELECT count(*), 'prepared transactions' FROM pg_prepared_xacts`},
		{d.Payments, `SELECT count(*), 'decisions to carry out' FROM twophase_decisions WHERE finished_at IS NULL`},
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
	if travelling > 0 {
		busy = append(busy, fmt.Sprintf("%d messages to the ledger on their way", travelling))
	}
	if err != nil || len(busy) > 0 {
		return strings.Join(busy, ", "), err
	}
	n, err := orphans(ctx, d) // last: it looks at every document
	if n > 0 {
		return fmt.Sprintf("%d documents without a reference", n), err
	}
	return "", err
}

// onTheirWay counts what payments has told the ledger and the ledger has not
// booked. Of these messages nobody waits for a reply, so only the two ends show
// that one is still between them.
func onTheirWay(ctx context.Context, d *Databases) (int, error) {
	var told, booked int
	err := d.Payments.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM payments WHERE settled_at IS NOT NULL)
		     + (SELECT count(*) FROM refunds WHERE settled_at IS NOT NULL)
		     + (SELECT count(*) FROM payouts WHERE outcome = 'sent' OR outcome = 'failed' AND failure <> 'insufficient_balance')`).Scan(&told)
	if err != nil {
		return 0, err
	}
	err = d.Ledger.QueryRow(ctx, `
		SELECT count(*)
		  FROM entries
		 WHERE kind IN ('settlement', 'refund-settlement', 'payout-sent', 'payout-returned')`).Scan(&booked)
	return told - booked, err
}

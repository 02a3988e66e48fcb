package large

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/audit/audittest"
)

// auditedOrders is how many orders the audit is tried with; FAILWELL_AUDIT_ORDERS
// says otherwise.
const auditedOrders = 50_000

// The audit itself must bear a large system. It says what holds of orders that are
// all right, finds the one that is not, and says how long that took.
func TestAudit_FindsTheOneWrongOrderAmongMany(t *testing.T) {
	n := auditedOrders
	if given, err := strconv.Atoi(os.Getenv("FAILWELL_AUDIT_ORDERS")); err == nil {
		n = given
	}
	ctx := limit(t)
	// A system of its own, as it were: what other tests have left is removed.
	run(ctx, t, truth.Orders,
		`TRUNCATE orders, order_lines, sagas, idempotency_keys, callbacks`,
		`UPDATE products SET available = initial, reserved = 0, sold = 0`)
	run(ctx, t, truth.Payments,
		`TRUNCATE payments, refunds, payouts, idempotency_keys, received_events, twophase_decisions`,
		// The sweep for documents has been everywhere: its turns are not measured here.
		`INSERT INTO storeref_sweeps VALUES ('receipts', now()) ON CONFLICT (dir) DO UPDATE SET swept_until = EXCLUDED.swept_until`)
	run(ctx, t, truth.Sandbox,
		`TRUNCATE processor_tokens, processor_payment_methods, processor_charges, processor_operations, processor_events, bank_transfers, merchant_deliveries`)
	emptyBooks(t)
	begun := time.Now()
	stored := filepath.Join(system.Dir, "receipts")
	directory := ""
	err := audittest.Plant(ctx, truth, n, func(name string) error {
		file := filepath.Join(stored, name)
		if filepath.Dir(file) != directory {
			directory = filepath.Dir(file)
			if err := os.MkdirAll(directory, 0o750); err != nil {
				return err
			}
		}
		return os.WriteFile(file, nil, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("planted in %s", time.Since(begun).Round(time.Second))

	begun = time.Now()
	quiet, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := audit.WaitQuiet(quiet, truth); err != nil {
		t.Fatal(err)
	}
	t.Logf("seen to be quiet in %s", time.Since(begun).Round(10*time.Millisecond))
	begun = time.Now()
	results, err := audit.Run(ctx, truth)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	audit.Print(os.Stderr, results)
	for _, r := range results {
		took -= r.Took
		if r.Verdict() != "held" || r.Checked < n && r.ID != "stock-conserved" && r.ID != "payout-at-most-once" {
			t.Errorf("of orders that are all right: %s %s, %d looked at", r.ID, r.Verdict(), r.Checked)
		}
	}
	t.Logf("%d orders: %s to lay everything side by side, %s to look at it", n, took.Round(10*time.Millisecond), (time.Since(begun) - took).Round(10*time.Millisecond))

	// One of each kind that only a large table hides well.
	wrong := n/2 - n/2%10 + 3
	run(ctx, t, truth.Sandbox, fmt.Sprintf(`DELETE FROM merchant_deliveries WHERE order_id = 'ord_%s'`, audittest.ID(audittest.Order, wrong)))
	if err := os.Remove(filepath.Join(stored, audittest.Receipt(wrong))); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(stored, "receipts", "stray")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(stray, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(stray) //nolint:errcheck // in a temporary directory
	results, err = audit.Run(ctx, truth)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"called-back": 1, "no-dangling-reference": 2}
	for _, r := range results {
		if len(r.Violations) != want[r.ID] {
			t.Errorf("%s: %v, want %d", r.ID, r.Violations, want[r.ID])
		}
	}
}

// emptyBooks rubs out what the books refuse to have rubbed out: as the superuser
// that no service is.
func emptyBooks(t *testing.T) {
	t.Helper()
	ctx := limit(t)
	books, err := superuser(ctx, "ledger")
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	run(ctx, t, books, `ALTER TABLE entries DISABLE TRIGGER entries_final`, `ALTER TABLE postings DISABLE TRIGGER postings_final`,
		`TRUNCATE entries, postings, accounts`, `ALTER TABLE entries ENABLE TRIGGER entries_final`, `ALTER TABLE postings ENABLE TRIGGER postings_final`)
}

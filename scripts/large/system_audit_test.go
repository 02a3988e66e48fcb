package large

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"example.com/failwell/scripts/lab/audit"
)

// auditedOrders is how many orders the audit is tried with; FAILWELL_AUDIT_ORDERS
// says otherwise.
const auditedOrders = 50_000

// The audit itself must bear a large system. It says what holds of orders that are
// all right, finds the one that is not, and says how long that took.
func TestTheAuditOfManyOrdersFindsTheOneThatIsWrong(t *testing.T) {
	n := auditedOrders
	if given, err := strconv.Atoi(os.Getenv("FAILWELL_AUDIT_ORDERS")); err == nil {
		n = given
	}
	ctx := limit(t)
	const at = `now() - interval '2 hours'`
	// A system of its own, as it were: what other tests have left is removed.
	run(ctx, t, truth.Orders,
		`TRUNCATE orders, order_lines, sagas, idempotency_keys, callbacks`,
		`UPDATE products SET available = initial, reserved = 0, sold = 0`,
		fmt.Sprintf(`INSERT INTO products (merchant_id, sku, name, price_minor, currency, available, sold, initial) VALUES ('mer_acme', 'planted', 'Planted', 1000, 'GBP', 0, %[1]d, %[1]d)`, n),
		fmt.Sprintf(`
			INSERT INTO orders (id, merchant_id, customer_id, status, payment_id, payment_token, total_minor, currency, created_at)
			SELECT %s, 'mer_acme', 'cus', 'confirmed', %s, 'tok', 1000, 'GBP', %s FROM generate_series(1, %d) n`, ids(orderIDs), ids(paymentIDs), at, n),
		fmt.Sprintf(`INSERT INTO order_lines SELECT %s, 1, 'planted', 1, 1000 FROM generate_series(1, %d) n`, ids(orderIDs), n),
		fmt.Sprintf(`INSERT INTO sagas (id, phase, step) SELECT %s, 'completed', 0 FROM generate_series(1, %d) n`, ids(orderIDs), n))
	run(ctx, t, truth.Payments,
		`TRUNCATE payments, refunds, payouts, idempotency_keys, sequence_events, twophase_decisions`,
		fmt.Sprintf(`
			INSERT INTO payments (id, order_id, merchant_id, status, amount_minor, currency, charge_id, settled_at, receipt_name)
			SELECT %s, %s, 'mer_acme', 'captured', 1000, 'GBP', 'ch_' || n, %s, 'planted' FROM generate_series(1, %d) n`, ids(paymentIDs), ids(orderIDs), at, n))
	run(ctx, t, truth.Sandbox,
		`TRUNCATE processor_tokens, processor_payment_methods, processor_charges, processor_operations, processor_events, bank_transfers, merchant_deliveries`,
		`INSERT INTO processor_tokens VALUES ('tok', '4242424242424242', now())`,
		`INSERT INTO processor_payment_methods (id, token, reference, card, created_at) VALUES ('pm', 'tok', 'planted', '4242424242424242', now())`,
		fmt.Sprintf(`
			INSERT INTO processor_charges (id, status, amount_minor, currency, captured_minor, reference, merchant_id, payment_method, card, created_at)
			SELECT 'ch_' || n, 'captured', 1000, 'GBP', 1000, 'pay_' || %s, 'mer_acme', 'pm', '4242424242424242', %s FROM generate_series(1, %d) n`, ids(paymentIDs), at, n),
		fmt.Sprintf(`INSERT INTO processor_operations SELECT %s, 'ch_' || n, 'capture', 1000, 'GBP', %s FROM generate_series(1, %d) n`, ids(operationIDs), at, n))
	emptyBooks(t)
	for kind, e := range map[string]struct{ of, source, lines string }{
		"sale":       {saleIDs, "'ord_' || " + ids(orderIDs), `(1, 'card_receivable:GBP', -1000), (2, 'merchant_pending:mer_acme:GBP', 975), (3, 'platform_fee:GBP', 25)`},
		"settlement": {settlementIDs, "'pay_' || " + ids(paymentIDs), `(1, 'card_receivable:GBP', 1000), (2, 'processor_clearing:GBP', -1000), (3, 'merchant_pending:mer_acme:GBP', -975), (4, 'merchant_available:mer_acme:GBP', 975)`},
	} {
		run(ctx, t, truth.Ledger,
			fmt.Sprintf(`INSERT INTO entries SELECT %s, '%s', %s, 'pay_' || %s, 'mer_acme', %s FROM generate_series(1, %d) n`, ids(e.of), kind, e.source, ids(paymentIDs), at, n),
			fmt.Sprintf(`INSERT INTO postings SELECT %s, line.no, line.account, line.amount FROM generate_series(1, %d) n, (VALUES %s) AS line (no, account, amount)`, ids(e.of), n, e.lines))
	}
	run(ctx, t, truth.Ledger, `UPDATE accounts SET balance_minor = (SELECT COALESCE(sum(amount_minor), 0) FROM postings WHERE account_id = accounts.id)`)

	begun := time.Now()
	results, err := audit.Run(ctx, truth)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	if !audit.Held(results) {
		audit.Print(os.Stderr, results)
		t.Fatal("of orders that are all right, something does not hold")
	}
	run(ctx, t, truth.Sandbox, fmt.Sprintf(`DELETE FROM processor_operations WHERE id = '%s'`, id(operationIDs, n/2)))
	results, err = audit.Run(ctx, truth)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if wrong := r.ID == "charged-once"; r.Held() == wrong || wrong && len(r.Violations) != 1 {
			t.Errorf("%s: %v", r.ID, r.Violations)
		}
	}
	t.Logf("%d orders, %d postings: audited in %s", n, 7*n, took.Round(10*time.Millisecond))
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
		`TRUNCATE entries, postings, accounts`, `ALTER TABLE entries ENABLE TRIGGER entries_final`, `ALTER TABLE postings ENABLE TRIGGER postings_final`, `
		INSERT INTO accounts (id, kind, merchant_id, currency)
		VALUES ('card_receivable:GBP', 'card_receivable', '', 'GBP'), ('platform_fee:GBP', 'platform_fee', '', 'GBP'),
		       ('processor_clearing:GBP', 'processor_clearing', '', 'GBP'),
		       ('merchant_pending:mer_acme:GBP', 'merchant_pending', 'mer_acme', 'GBP'), ('merchant_available:mer_acme:GBP', 'merchant_available', 'mer_acme', 'GBP')`)
}

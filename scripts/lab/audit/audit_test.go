package audit_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"gocloud.dev/blob"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/audit/audittest"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// planted is a system of twenty orders in which everything holds.
func planted(t *testing.T) *audit.Databases {
	t.Helper()
	ctx := t.Context()
	addresses := map[string]string{"sandbox": testenv.Postgres(t, os.DirFS("../../sandbox"))}
	for _, service := range []string{"orders", "payments", "ledger"} {
		addresses[service] = testenv.Postgres(t, os.DirFS("../../../services/"+service))
	}
	d, err := audit.Open(ctx, func(name string) string { return addresses[name] }, "file://"+t.TempDir()+"?no_tmp_dir=true&metadata=skip")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	if err := audittest.Plant(ctx, d, 20, func(name string) error { return store(ctx, d, name) }); err != nil {
		t.Fatal(err)
	}
	return d
}

// with is the same system with one of its databases made anew and tampered with.
func with(t *testing.T, d audit.Databases, name, sql string) *audit.Databases {
	t.Helper()
	migrations := "../../../services/" + name
	if name == "sandbox" {
		migrations = "../../sandbox"
	}
	db, err := pgxpool.New(t.Context(), testenv.Postgres(t, os.DirFS(migrations)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	var alone audit.Databases
	for _, of := range []*audit.Databases{&alone, &d} {
		*map[string]**pgxpool.Pool{"orders": &of.Orders, "payments": &of.Payments, "ledger": &of.Ledger, "sandbox": &of.Sandbox}[name] = db
	}
	if err := audittest.Plant(t.Context(), &alone, 20, nil); err != nil {
		t.Fatal(err)
	}
	run(t, db, sql)
	return &d
}

func store(ctx context.Context, d *audit.Databases, name string) error {
	return d.Receipts.WriteAll(ctx, name, []byte("receipt"), nil)
}

func run(t *testing.T, db *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := db.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%v\n%s", err, sql)
	}
}

func TestAudit_FindsNothingInACorrectSystem(t *testing.T) {
	t.Parallel()
	d := planted(t)
	quiet, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := audit.WaitQuiet(quiet, d); err != nil {
		t.Error(err)
	}
	results, err := audit.Run(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Verdict() != "held" || r.Checked == 0 {
			t.Errorf("%s: %s, %d looked at: %v", r.ID, r.Verdict(), r.Checked, r.Violations)
		}
	}
}

// Each way in which each invariant can be violated, one at a time: it turns that
// invariant red, and no other.
func TestAudit_EachViolationTurnsItsInvariantRed(t *testing.T) {
	t.Parallel()
	d := planted(t)
	order := func(n int) string { return audittest.ID(audittest.Order, n) }
	payment := func(n int) string { return audittest.ID(audittest.Payment, n) }
	// The books refuse to be tampered with, except by who owns them.
	const open = `ALTER TABLE entries DISABLE TRIGGER USER; ALTER TABLE postings DISABLE TRIGGER USER`
	enter := func(kind, source, reference string, lines ...string) string {
		return fmt.Sprintf(`WITH e AS (INSERT INTO entries VALUES (gen_random_uuid(), '%s', '%s', '%s', 'mer_acme') RETURNING id)
			INSERT INTO postings SELECT id, l.* FROM e, (VALUES %s) l;
			UPDATE accounts SET balance_minor = (SELECT COALESCE(sum(amount_minor), 0) FROM postings WHERE account_id = accounts.id)`,
			kind, source, reference, strings.Join(lines, ", "))
	}
	rub := func(which string) string {
		return open + `; DELETE FROM postings WHERE entry_id IN (SELECT id FROM entries WHERE ` + which + `); DELETE FROM entries WHERE ` + which + `;
			UPDATE accounts SET balance_minor = (SELECT COALESCE(sum(amount_minor), 0) FROM postings WHERE account_id = accounts.id)`
	}
	move := func(which, by string) string { // everything that an entry moves, also where the account of which is fixed
		return open + `; UPDATE postings SET amount_minor = ` + by + ` WHERE entry_id IN (SELECT id FROM entries WHERE ` + which + `);
			UPDATE accounts SET balance_minor = (SELECT COALESCE(sum(amount_minor), 0) FROM postings WHERE account_id = accounts.id)`
	}
	callback := func(set string) string {
		return fmt.Sprintf(`UPDATE merchant_deliveries SET %s WHERE order_id = 'ord_%s'`, set, order(3))
	}
	orders, payments, ledger, sandbox := "orders", "payments", "ledger", "sandbox"
	for _, c := range []struct{ invariant, what, in, sql string }{
		{"order-terminal", "a saga that is not there", orders, `DELETE FROM sagas WHERE id = '` + order(3) + `'`},
		{"order-terminal", "a saga that did not end", orders, `UPDATE sagas SET phase = 'forward' WHERE id = '` + order(3) + `'`},
		{"order-terminal", "a saga that ended the other way", orders, `UPDATE sagas SET phase = 'compensated' WHERE id = '` + order(3) + `'`},

		{"charged-once", "a hold beside the capture", sandbox, `INSERT INTO processor_charges SELECT 'ch_x', 'authorised', amount_minor, currency, 0, 0, reference, merchant_id, payment_method, card, created_at FROM processor_charges WHERE id = 'ch_3'`},
		{"charged-once", "a hold on a cancelled order", sandbox, `UPDATE processor_charges SET status = 'authorised' WHERE id = 'ch_10'`},
		{"charged-once", "a charge without a payment", sandbox, `INSERT INTO processor_charges SELECT 'ch_x', 'authorised', amount_minor, currency, 0, 0, 'pay_x', merchant_id, payment_method, card, created_at FROM processor_charges WHERE id = 'ch_3'`},

		{"stock-conserved", "a reservation without an order", orders, `UPDATE products SET available = available - 1, reserved = 1`},
		{"stock-conserved", "more sold than ordered", orders, `UPDATE products SET available = available - 1, sold = sold + 1`},

		{"books-balance", "a balance that was not moved", ledger, `UPDATE accounts SET balance_minor = balance_minor + 1 WHERE id = 'cash:GBP'`},

		{"ledger-complete", "a capture that is not settled", ledger, rub(`kind = 'settlement' AND source = 'pay_` + payment(3) + `'`)},
		{"ledger-complete", "a sale that is not booked", ledger, rub(`kind = 'sale' AND source = 'ord_` + order(3) + `'`)},
		{"ledger-complete", "a reversal without a sale", ledger, rub(`kind = 'sale' AND source = 'ord_` + order(10) + `'`)},
		{"ledger-complete", "a sale of a cancelled order", ledger, rub(`kind = 'sale-reversal' AND source = 'ord_` + order(10) + `'`)},
		{"ledger-complete", "a refund that is not booked", ledger, rub(`kind = 'refund' AND source = 'rfd_` + audittest.ID(audittest.Refund, 1) + `'`)},
		{"ledger-complete", "a refund that is not settled", ledger, rub(`kind = 'refund-settlement' AND source = 'op_` + audittest.ID(audittest.GivenBack, 1) + `'`)},
		{"ledger-complete", "a sale over another amount", ledger, move(`kind = 'sale' AND source = 'ord_`+order(3)+`'`, `2 * amount_minor`)},
		{"ledger-complete", "a settlement over another amount", ledger, move(`kind = 'settlement' AND source = 'pay_`+payment(3)+`'`, `amount_minor + CASE line_no WHEN 1 THEN 1 WHEN 2 THEN -1 ELSE 0 END`)},
		{"ledger-complete", "a settlement of another share", ledger, move(`kind = 'settlement' AND source = 'pay_`+payment(3)+`'`, `amount_minor + CASE line_no WHEN 3 THEN -25 WHEN 4 THEN 25 ELSE 0 END`)},
		{"ledger-complete", "a refund over another amount", ledger, move(`kind = 'refund' AND source = 'rfd_`+audittest.ID(audittest.Refund, 1)+`'`, `amount_minor / 2`)},
		{"ledger-complete", "a refund that settles over another amount", ledger, move(`kind = 'refund-settlement' AND source = 'op_`+audittest.ID(audittest.GivenBack, 1)+`'`, `amount_minor / 2`)},
		{"ledger-complete", "a payout over another amount", ledger, move(`kind = 'payout' AND source = 'pyo_`+audittest.ID(audittest.Payout, 2)+`'`, `amount_minor / 2`)},
		{"ledger-complete", "a payout that was sent over another amount", ledger, move(`kind = 'payout-sent' AND source = 'pyo_`+audittest.ID(audittest.Payout, 2)+`'`, `amount_minor / 2`)},
		{"ledger-complete", "an entry for another merchant", ledger, `INSERT INTO accounts VALUES ('merchant_pending:mer_other:GBP', 'merchant_pending', 'mer_other', 'GBP', 0); ` + open + `;
			UPDATE postings SET account_id = 'merchant_pending:mer_other:GBP' WHERE line_no = 2 AND entry_id = (SELECT id FROM entries WHERE kind = 'sale' AND source = 'ord_` + order(3) + `');
			UPDATE accounts SET balance_minor = (SELECT COALESCE(sum(amount_minor), 0) FROM postings WHERE account_id = accounts.id)`},
		{"ledger-complete", "an entry of an unknown kind", ledger, enter("gift", "ord_"+order(3), "pay_"+payment(3), `(1, 'cash:GBP', 5)`, `(2, 'platform_fee:GBP', -5)`)},
		{"ledger-complete", "an entry with a foreign source", ledger, enter("sale", "rent", "pay_"+payment(3), `(1, 'card_receivable:GBP', -975)`, `(2, 'merchant_pending:mer_acme:GBP', 975)`)},
		{"ledger-complete", "an entry twice", ledger, `ALTER TABLE entries DROP CONSTRAINT entries_once; ` +
			enter("settlement", "pay_"+payment(3), "pay_"+payment(3), `(1, 'card_receivable:GBP', 1000)`, `(2, 'processor_clearing:GBP', -1000)`, `(3, 'merchant_pending:mer_acme:GBP', -975)`, `(4, 'merchant_available:mer_acme:GBP', 975)`)},
		{"ledger-complete", "a settlement that payments does not know", payments, `UPDATE payments SET settled_at = NULL WHERE id = '` + payment(3) + `'`},
		{"ledger-complete", "a refund's settlement that payments does not know", payments, `UPDATE refunds SET settled_at = NULL`},

		{"refund-bounded", "a claim that is not noted", payments, `UPDATE payments SET refunded_minor = 0 WHERE id = '` + payment(1) + `'`},
		{"refund-bounded", "a note without a claim", payments, `UPDATE payments SET refunded_minor = 1 WHERE id = '` + payment(3) + `'`},
		{"refund-bounded", "a claim above the capture", payments, `INSERT INTO refunds (id, payment_id, merchant_id, amount_minor, currency, recovery_point, decision) SELECT gen_random_uuid(), id, merchant_id, 1001, 'GBP', 'finished', '' FROM payments WHERE id = '` + payment(3) + `';
			ALTER TABLE payments DROP CONSTRAINT payments_refund_bounded; UPDATE payments SET refunded_minor = 1001 WHERE id = '` + payment(3) + `'`},

		{"payout-at-most-once", "a second transfer", sandbox, `INSERT INTO bank_transfers SELECT gen_random_uuid(), reference, amount_minor, currency, account, at FROM bank_transfers LIMIT 1`},
		{"payout-at-most-once", "a transfer without a payout", sandbox, `INSERT INTO bank_transfers VALUES (gen_random_uuid(), 'rent', 5, 'GBP', 'acct', now())`},
		{"payout-at-most-once", "a transfer over another amount", sandbox, `UPDATE bank_transfers SET amount_minor = 99`},
		{"payout-at-most-once", "a payout that the ledger does not have", ledger, rub(`kind = 'payout' AND source = 'pyo_` + audittest.ID(audittest.Payout, 2) + `'`)},
		{"payout-at-most-once", "a payout whose end the ledger does not have", ledger, rub(`kind = 'payout-sent' AND source = 'pyo_` + audittest.ID(audittest.Payout, 2) + `'`)},

		{"nothing-in-doubt", "a message that was not sent", ledger, `INSERT INTO outbox (writer, message_id, type, body) VALUES ('ledger-1', gen_random_uuid(), 'x', '')`},
		{"nothing-in-doubt", "a decision that is not carried out", payments, `UPDATE twophase_decisions SET finished_at = NULL`},
		{"nothing-in-doubt", "a payout half-way", payments, `UPDATE payouts SET recovery_point = 'booked'`},
		{"nothing-in-doubt", "a key without an answer", payments, `UPDATE idempotency_keys SET status = NULL WHERE operation = 'POST /v1/refunds'`},
		{"nothing-in-doubt", "news that is held back", payments, `INSERT INTO received_events (event_id, stream, rank, happened_at, type, body) VALUES ('evt', 'pay_` + payment(3) + `', 1, now(), 'charge.settled', '')`},
		{"nothing-in-doubt", "a reconciliation that no process runs", payments, `INSERT INTO reconciliations (id, requested_at) VALUES (gen_random_uuid(), now() - interval '2 minutes')`},

		{"no-dangling-reference", "an order without its receipt", orders, `UPDATE orders SET receipt_id = '' WHERE id = '` + order(3) + `'`},
		{"no-dangling-reference", "an order with the receipt of another", orders, `UPDATE orders SET receipt_id = 'rcp_` + payment(4) + `' WHERE id = '` + order(3) + `'`},
		{"no-dangling-reference", "a payment that names no document", payments, `UPDATE payments SET receipt_name = '' WHERE id = '` + payment(3) + `'`},
		{"no-dangling-reference", "a document that is not there", payments, `UPDATE payments SET receipt_name = 'receipts/lost' WHERE id = '` + payment(3) + `'`},

		{"called-back", "a merchant who was not told", sandbox, `DELETE FROM merchant_deliveries WHERE order_id = 'ord_` + order(3) + `'`},
		{"called-back", "a bad signature", sandbox, callback(`signature_valid = false`)},
		{"called-back", "two ids", sandbox, `INSERT INTO merchant_deliveries SELECT gen_random_uuid(), 'msg_x', merchant_id, order_id, true, body, received_at, 204 FROM merchant_deliveries WHERE order_id = 'ord_` + order(3) + `'`},
		{"called-back", "another end", sandbox, callback(`body = convert_to(replace(convert_from(body, 'UTF8'), 'confirmed', 'cancelled'), 'UTF8')`)},
		{"called-back", "another merchant", sandbox, callback(`merchant_id = 'mer_other'`)},

		{"same-answer", "an answer that leads nowhere", orders, `UPDATE idempotency_keys SET body = convert_to(replace(convert_from(body, 'UTF8'), '` + order(3) + `', '` + payment(3) + `'), 'UTF8'), headers = '{"Location": "/v1/orders/ord_` + payment(3) + `"}' WHERE key = 'order-3'`},
		{"same-answer", "another location", orders, `UPDATE idempotency_keys SET headers = '{"Location": "/v1/orders/ord_x"}' WHERE key = 'order-3'`},
		{"same-answer", "one order for two keys", orders, `INSERT INTO idempotency_keys SELECT merchant_id, operation, 'x', fingerprint, status, headers, body, created_at, expires_at FROM idempotency_keys WHERE key = 'order-3'`},
		{"same-answer", "an answer to other work", payments, `UPDATE idempotency_keys SET operation_id = gen_random_uuid()`},
	} {
		t.Run(c.invariant+"/"+c.what, func(t *testing.T) {
			t.Parallel()
			wantRed(t, with(t, *d, c.in, c.sql), c.invariant)
		})
	}
}

// wantRed sees that exactly these invariants are violated.
func wantRed(t *testing.T, d *audit.Databases, want ...string) []audit.Result {
	t.Helper()
	results, err := audit.Run(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	var red []string
	for _, r := range results {
		if !r.Held() {
			red = append(red, r.ID)
		}
	}
	if strings.Join(red, " ") != strings.Join(want, " ") {
		var table strings.Builder
		audit.Print(&table, results)
		t.Errorf("red: %v, want %v\n%s", red, want, &table)
	}
	return results
}

// The processor would refuse to give back more than it has captured. Should it not,
// the bound is its own capture, not what payments believes.
func TestRefundBounded_ComparesWithTheProcessorsCapture(t *testing.T) {
	t.Parallel()
	d := planted(t)
	run(t, d.Sandbox, `UPDATE processor_operations SET amount_minor = 1500 WHERE kind = 'refund' AND charge_id = 'ch_1'`)
	results := wantRed(t, d, "ledger-complete", "refund-bounded") // it settles over another amount, too
	want := "pay_" + audittest.ID(audittest.Payment, 1) + ": the processor captured 1000 and gave back 1500"
	if r := results[5]; len(r.Violations) == 0 || r.Violations[0] != want {
		t.Errorf("%v, want first %q", r.Violations, want)
	}
}

// It comes by itself, every two seconds in chaos, and is none that was forgotten.
func TestNothingInDoubt_RegularReconciliationMayHaveBegun(t *testing.T) {
	t.Parallel()
	d := planted(t)
	run(t, d.Payments, `INSERT INTO reconciliations (id) VALUES (gen_random_uuid())`)
	wantRed(t, d)
}

// The server may have other databases: what is prepared there is not this system's.
func TestNothingInDoubt_PreparedTransactionOfThisSystem(t *testing.T) {
	t.Parallel()
	d := planted(t)
	for i, c := range []struct {
		in   *pgxpool.Pool
		want []string
	}{{d.Payments, []string{"nothing-in-doubt"}}, {d.Ledger, []string{"nothing-in-doubt"}}, {d.Sandbox, nil}} {
		gid := fmt.Sprintf("test:%s.%d", uuid.NewString(), i)
		run(t, c.in, `BEGIN; PREPARE TRANSACTION '`+gid+`'`)
		wantRed(t, d, c.want...)
		run(t, c.in, `ROLLBACK PREPARED '`+gid+`'`)
	}
}

func TestNoDanglingReference_OrphanOnlyAfterTheGrace(t *testing.T) {
	t.Parallel()
	d := planted(t)
	if err := store(t.Context(), d, "receipts/stray"); err != nil {
		t.Fatal(err)
	}
	wantRed(t, d)
	for grace, waited := range map[time.Duration]bool{0: true, d.Grace: true, time.Hour: false} {
		d.Grace = grace
		busy, err := audit.GoingOn(t.Context(), d)
		if err != nil || waited != (busy == "1 documents without a reference") {
			t.Errorf("grace %s: going on: %q, %v; the sweep is waited for: want %v", grace, busy, err, waited)
		}
	}
	d.Grace = 0
	wantRed(t, d, "no-dangling-reference")
}

func TestNoDanglingReference_EmptiedOrExchangedDocument(t *testing.T) {
	t.Parallel()
	d := planted(t)
	name := fmt.Sprintf("receipts/stamp-7-%x", sha256.Sum256([]byte("receipt")))
	run(t, d.Payments, `UPDATE payments SET receipt_name = '`+name+`' WHERE receipt_name = '`+audittest.Receipt(3)+`'`)
	if err := errors.Join(store(t.Context(), d, name), d.Receipts.Delete(t.Context(), audittest.Receipt(3))); err != nil {
		t.Fatal(err)
	}
	wantRed(t, d)
	for _, other := range []string{"", "another"} { // as long as the one that was stored
		if err := d.Receipts.WriteAll(t.Context(), name, []byte(other), nil); err != nil {
			t.Fatal(err)
		}
		wantRed(t, d, "no-dangling-reference")
	}
}

func TestNoDanglingReference_NotCheckedWithoutDocuments(t *testing.T) {
	t.Parallel()
	d := planted(t)
	var bucket *blob.Bucket
	d.Receipts, bucket = nil, d.Receipts
	defer bucket.Close() //nolint:errcheck // only read
	for _, r := range wantRed(t, d) {
		if want := map[bool]string{true: "not checked", false: "held"}[r.ID == "no-dangling-reference"]; r.Verdict() != want {
			t.Errorf("%s: %s, want %s", r.ID, r.Verdict(), want)
		}
	}
	run(t, d.Orders, `UPDATE orders SET receipt_id = ''`) // what needs no documents is checked all the same
	wantRed(t, d, "no-dangling-reference")
}

// What has happened and is not in the books keeps the system from being quiet.
func TestGoingOn_NamesWhatIsNotBookedYet(t *testing.T) {
	t.Parallel()
	d := planted(t)
	const open = `ALTER TABLE entries DISABLE TRIGGER USER; ALTER TABLE postings DISABLE TRIGGER USER; `
	for _, c := range []struct{ in, sql, want string }{
		{"ledger", open + `DELETE FROM postings; DELETE FROM entries WHERE kind = 'settlement' AND source = 'pay_` + audittest.ID(audittest.Payment, 3) + `'`, "1 captures to book as settled"},
		{"ledger", open + `DELETE FROM postings; DELETE FROM entries WHERE kind = 'refund-settlement'`, "2 refunds to book as settled"},
		{"ledger", open + `DELETE FROM postings; DELETE FROM entries WHERE kind = 'payout-sent'`, "2 payouts to book as ended"},
		{"payments", `INSERT INTO reconciliations (id) VALUES (gen_random_uuid())`, "1 reconciliations to run"},
		{"orders", `UPDATE orders SET receipt_id = '' WHERE id = '` + audittest.ID(audittest.Order, 3) + `'`, "1 receipts to note"},
	} {
		t.Run(c.want, func(t *testing.T) {
			t.Parallel()
			d := with(t, *d, c.in, c.sql)
			if busy, err := audit.GoingOn(t.Context(), d); err != nil || busy != c.want {
				t.Errorf("going on: %q, %v; want %q", busy, err, c.want)
			}
		})
	}
}

func TestHeard_ComparesAnswersByteForByte(t *testing.T) {
	t.Parallel()
	d := planted(t)
	right := audit.Answer{Merchant: "mer_acme", Operation: "POST /v1/orders", Key: "order-3", Status: 202,
		Body: []byte(`{"id":"ord_` + audittest.ID(audittest.Order, 3) + `","status":"pending","customer_id":"cus"}`)}
	refund := audit.Answer{Merchant: "mer_acme", Operation: "POST /v1/refunds", Key: "POST /v1/refunds1", Status: 201,
		Body: []byte(`{"id":"rfd_` + audittest.ID(audittest.Refund, 1) + `"}`)}
	other, anew, unknown := right, right, right
	other.Body, anew.Status, unknown.Key = append([]byte(" "), right.Body...), 200, "no such key"
	for _, c := range []struct {
		what  string
		heard []audit.Answer
		wrong int
	}{
		{"as recorded", []audit.Answer{right, right, refund}, 0},
		{"other bytes than recorded", []audit.Answer{other}, 1},
		{"another status the second time", []audit.Answer{right, anew}, 1},
		{"never recorded", []audit.Answer{unknown}, 1},
	} {
		r, err := audit.Heard(t.Context(), d, c.heard)
		if err != nil {
			t.Fatal(err)
		}
		merged := audit.Merge(wantRed(t, d), r)
		last := merged[len(merged)-1]
		if len(last.Violations) != c.wrong || last.ID != "same-answer" || !strings.HasSuffix(last.Says, "each client got it byte for byte") {
			t.Errorf("%s: %+v", c.what, last)
		}
	}
}

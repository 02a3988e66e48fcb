package large

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// Everything planted is two hours old: older than any grace.
var planted = time.Now().Add(-2 * time.Hour).UTC().Truncate(time.Second)

// Ids of what is planted: UUIDv7 of that time, a letter for what it is, a number.
const (
	paymentIDs    = "a"
	orderIDs      = "b"
	operationIDs  = "c"
	saleIDs       = "d"
	settlementIDs = "e"
	otherIDs      = "f"
)

func id(of string, n int) string {
	return fmt.Sprintf("%08x-%04x-7%s00-8000-%012x", planted.UnixMilli()>>16, planted.UnixMilli()&0xffff, of, n)
}

// ids is the same as SQL, of the column n.
func ids(of string) string {
	return `('` + id(of, 0)[:24] + `' || lpad(to_hex(n), 12, '0'))::uuid`
}

const payments = 100_000

// Payments of which one side is planted differently.
const (
	unknownCharge = iota + 1
	missingAtProcessor
	otherAmount
	capturedTwice
	capturedThoughVoided
	notRecordedYet
	unknownRefund
	tooYoung
	noSale
	noSettlement
	otherAmountBooked
	unknownEntry
	refundNotBooked
)

// plantAgreement writes payments of which both sides say the same: captured,
// settled, booked. The books cannot be tampered with afterwards, so what they are
// to miss is left out at once.
func plantAgreement(t *testing.T) {
	ctx := limit(t)
	at := `'` + planted.Format(time.RFC3339) + `'::timestamptz`
	run(ctx, t, truth.Payments, fmt.Sprintf(`
		INSERT INTO payments (id, order_id, merchant_id, status, amount_minor, currency, charge_id, created_at, updated_at, settled_at, settled_operation, receipt_name)
		SELECT %s, %s, 'mer_acme', 'captured', 1000, 'GBP', 'ch_' || n, %[3]s, %[3]s, %[3]s, %[4]s, 'planted'
		  FROM generate_series(1, %[5]d) n`, ids(paymentIDs), ids(orderIDs), at, ids(operationIDs), payments))
	run(ctx, t, truth.Sandbox,
		`INSERT INTO processor_tokens (token, card, created_at) VALUES ('tok_planted', '4242424242424242', now())`,
		`INSERT INTO processor_payment_methods (id, token, reference, card, created_at) VALUES ('pm_planted', 'tok_planted', 'planted', '4242424242424242', now())`,
		fmt.Sprintf(`
			INSERT INTO processor_charges (id, status, amount_minor, currency, captured_minor, reference, merchant_id, payment_method, card, created_at)
			SELECT 'ch_' || n, 'captured', 1000, 'GBP', 1000, 'pay_' || %s, 'mer_acme', 'pm_planted', '4242424242424242', %s
			  FROM generate_series(1, %d) n`, ids(paymentIDs), at, payments),
		fmt.Sprintf(`
			INSERT INTO processor_operations (id, charge_id, kind, amount_minor, currency, at)
			SELECT %s, 'ch_' || n, 'capture', 1000, 'GBP', %s
			  FROM generate_series(1, %d) n`, ids(operationIDs), at, payments))

	run(ctx, t, truth.Ledger, `
		INSERT INTO accounts (id, kind, merchant_id, currency)
		VALUES ('card_receivable:GBP', 'card_receivable', '', 'GBP'), ('platform_fee:GBP', 'platform_fee', '', 'GBP'),
		       ('processor_clearing:GBP', 'processor_clearing', '', 'GBP'),
		       ('merchant_pending:mer_acme:GBP', 'merchant_pending', 'mer_acme', 'GBP'), ('merchant_available:mer_acme:GBP', 'merchant_available', 'mer_acme', 'GBP'),
		       ('payouts_in_transit:mer_acme:GBP', 'payouts_in_transit', 'mer_acme', 'GBP')
		    ON CONFLICT DO NOTHING`)
	book := func(kind, source, of string, missing int, lines string) {
		run(ctx, t, truth.Ledger,
			fmt.Sprintf(`
				INSERT INTO entries (id, kind, source, reference, merchant_id, created_at)
				SELECT %s, '%s', %s, 'pay_' || %s, 'mer_acme', %s
				  FROM generate_series(1, %d) n
				 WHERE n <> %d`, ids(of), kind, source, ids(paymentIDs), at, payments, missing),
			fmt.Sprintf(`
				INSERT INTO postings (entry_id, line_no, account_id, amount_minor)
				SELECT %s, line.no, line.account, line.amount - CASE WHEN n = %d THEN sign(line.amount)::int ELSE 0 END
				  FROM generate_series(1, %d) n,
				       (VALUES %s) AS line (no, account, amount)
				 WHERE n <> %d`, ids(of), otherAmountBooked, payments, lines, missing))
	}
	book("sale", "'ord_' || "+ids(orderIDs), saleIDs, noSale,
		`(1, 'card_receivable:GBP', -1000), (2, 'merchant_pending:mer_acme:GBP', 1000)`)
	book("settlement", "'pay_' || "+ids(paymentIDs), settlementIDs, noSettlement,
		`(1, 'card_receivable:GBP', 1000), (2, 'processor_clearing:GBP', -1000)`)
	run(ctx, t, truth.Payments, `ANALYZE payments`)
	run(ctx, t, truth.Sandbox, `ANALYZE processor_operations`)
	run(ctx, t, truth.Ledger, `ANALYZE entries`, `ANALYZE postings`)
}

// plantDrift makes the sides differ, and returns what a reconciliation has to
// find: exactly this.
func plantDrift(t *testing.T) map[string]string {
	ctx := limit(t)
	at := planted.Format(time.RFC3339)
	want := map[string]string{}
	finds := func(source, kind, reference, finding, verdict string) {
		want[fmt.Sprintf("%s %s %s", source, kind, reference)] = finding + " " + verdict
	}
	pay := func(n int) string { return "pay_" + id(paymentIDs, n) }
	pyo := func(n int) string { return "pyo_" + id(otherIDs, n) }
	copyOperation := func(n int, kind string, minor int) string {
		return fmt.Sprintf(`INSERT INTO processor_operations SELECT '%s', charge_id, '%s', %d, currency, at FROM processor_operations WHERE id = '%s'`,
			id(otherIDs, n), kind, minor, id(operationIDs, n))
	}

	run(ctx, t, truth.Payments, fmt.Sprintf(`DELETE FROM payments WHERE id = '%s'`, id(paymentIDs, unknownCharge)))
	finds("processor", "capture", pay(unknownCharge), "unknown-charge", "unresolvable")
	finds("ledger", "sale", pay(unknownCharge), "unknown-entry", "unresolvable")
	finds("ledger", "settlement", pay(unknownCharge), "unknown-entry", "unresolvable")

	run(ctx, t, truth.Sandbox, fmt.Sprintf(`DELETE FROM processor_operations WHERE id = '%s'`, id(operationIDs, missingAtProcessor)))
	finds("processor", "capture", pay(missingAtProcessor), "missing-at-processor", "unresolvable")

	run(ctx, t, truth.Sandbox, fmt.Sprintf(`UPDATE processor_operations SET amount_minor = 999 WHERE id = '%s'`, id(operationIDs, otherAmount)))
	finds("processor", "capture", pay(otherAmount), "amount-differs", "unresolvable")

	run(ctx, t, truth.Sandbox, copyOperation(capturedTwice, "capture", 1000))
	finds("processor", "capture", pay(capturedTwice), "captured-twice", "unresolvable")

	run(ctx, t, truth.Payments, fmt.Sprintf(`UPDATE payments SET status = 'voided' WHERE id = '%s'`, id(paymentIDs, capturedThoughVoided)))
	finds("processor", "capture", pay(capturedThoughVoided), "captured-though-voided", "unresolvable")
	finds("ledger", "sale", pay(capturedThoughVoided), "unknown-entry", "unresolvable")

	run(ctx, t, truth.Payments, fmt.Sprintf(`UPDATE payments SET status = 'authorised', settled_at = NULL WHERE id = '%s'`, id(paymentIDs, notRecordedYet)))
	finds("processor", "capture", pay(notRecordedYet), "not-recorded-yet", "pending")
	finds("ledger", "sale", pay(notRecordedYet), "not-recorded-yet", "pending")
	finds("ledger", "settlement", pay(notRecordedYet), "unknown-entry", "unresolvable")

	run(ctx, t, truth.Sandbox, copyOperation(unknownRefund, "refund", 10))
	finds("processor", "refund", pay(unknownRefund), "unknown-refund", "unresolvable")

	run(ctx, t, truth.Sandbox, fmt.Sprintf(`DELETE FROM processor_operations WHERE id = '%s'`, id(operationIDs, tooYoung)))
	run(ctx, t, truth.Payments, fmt.Sprintf(`UPDATE payments SET updated_at = now() WHERE id = '%s'`, id(paymentIDs, tooYoung)))
	finds("processor", "capture", pay(tooYoung), "too-young", "pending")

	finds("ledger", "sale", pay(noSale), "missing-in-ledger", "unresolvable")
	finds("ledger", "settlement", pay(noSettlement), "missing-in-ledger", "resolved")
	finds("ledger", "sale", pay(otherAmountBooked), "amount-differs", "unresolvable")
	finds("ledger", "settlement", pay(otherAmountBooked), "amount-differs", "unresolvable")

	run(ctx, t, truth.Ledger, fmt.Sprintf(`
		WITH e AS (INSERT INTO entries VALUES ('%s', 'refund', 'rfd_planted', '%s', 'mer_acme', '%s') RETURNING id)
		INSERT INTO postings SELECT id, 1, 'card_receivable:GBP', 10 FROM e UNION ALL SELECT id, 2, 'merchant_pending:mer_acme:GBP', -10 FROM e`,
		id(otherIDs, unknownEntry), pay(unknownEntry), at))
	finds("ledger", "refund", pay(unknownEntry), "unknown-entry", "unresolvable")

	run(ctx, t, truth.Sandbox, copyOperation(refundNotBooked, "refund", 10))
	run(ctx, t, truth.Payments, fmt.Sprintf(`
		INSERT INTO refunds (id, payment_id, merchant_id, amount_minor, currency, recovery_point, decision, created_at, finished_at, settled_at, settled_operation)
		VALUES ('%[1]s', '%[2]s', 'mer_acme', 10, 'GBP', 'finished', 'succeeded', '%[3]s', '%[3]s', NULL, '%[1]s')`,
		id(otherIDs, refundNotBooked), id(paymentIDs, refundNotBooked), at))
	finds("ledger", "refund", pay(refundNotBooked), "missing-in-ledger", "resolved")

	plantTransfers(t, finds, pyo)
	return want
}

// plantTransfers plants drift at the bank. The books have the payouts whose end can be told
// again; of the others they have nothing, which is a difference of its own.
func plantTransfers(t *testing.T, finds func(source, kind, reference, finding, verdict string), pyo func(int) string) {
	ctx := limit(t)
	at := planted.Format(time.RFC3339)
	for n, p := range map[int]struct {
		outcome   string // ours; "" for a payout that we do not have
		transfers []int  // the bank's, by amount
		finding   string
		verdict   string
	}{
		101: {"unknown", []int{100}, "outcome-unknown", "resolved"},
		102: {"unknown", nil, "not-on-statement", "unresolvable"},
		103: {"unknown", []int{99}, "amount-differs", "unresolvable"},
		104: {"sent", []int{100, 100}, "sent-twice", "unresolvable"},
		105: {"sent", nil, "missing-at-bank", "unresolvable"},
		106: {"failed", []int{100}, "sent-though-failed", "unresolvable"},
		107: {"", []int{100}, "unknown-transfer", "unresolvable"},
	} {
		if p.outcome != "" {
			failure := ""
			if p.outcome == "failed" {
				failure = "insufficient_balance" // so that nothing of it is expected in the books
			}
			run(ctx, t, truth.Payments, fmt.Sprintf(`
				INSERT INTO payouts (id, merchant_id, amount_minor, currency, recovery_point, outcome, failure, attempt, created_at, finished_at)
				VALUES ('%s', 'mer_acme', 100, 'GBP', 'finished', '%s', '%s', 1, '%[4]s', '%[4]s')`, id(otherIDs, n), p.outcome, failure, at))
		}
		if booked := p.outcome == "sent" || p.verdict == "resolved"; booked {
			run(ctx, t, truth.Ledger, fmt.Sprintf(`
				WITH e AS (INSERT INTO entries VALUES ('%[1]s', 'payout', '%[2]s', '%[2]s', 'mer_acme', '%[3]s') RETURNING id)
				INSERT INTO postings
				SELECT id, 1, 'merchant_available:mer_acme:GBP', -100 FROM e
				 UNION ALL
				SELECT id, 2, 'payouts_in_transit:mer_acme:GBP', 100 FROM e`, id(otherIDs, n*10+5), pyo(n), at))
		} else if p.outcome == "unknown" {
			finds("ledger", "payout", pyo(n), "missing-in-ledger", "unresolvable")
		}
		if p.outcome == "sent" {
			finds("ledger", "payout-sent", pyo(n), "missing-in-ledger", "resolved")
		}
		for i, minor := range p.transfers {
			run(ctx, t, truth.Sandbox, fmt.Sprintf(`INSERT INTO bank_transfers VALUES ('%s', '%s', %d, 'GBP', 'acct_mer_acme', '%s')`,
				id(otherIDs, n*10+i), pyo(n), minor, at))
		}
		finds("bank", "transfer", pyo(n), p.finding, p.verdict)
	}
	run(ctx, t, truth.Sandbox, fmt.Sprintf(`INSERT INTO bank_transfers VALUES ('%s', 'rent', 5, 'GBP', 'acct_landlord', '%s')`, id(otherIDs, 9999), at))
	finds("bank", "transfer", "rent", "unknown-reference", "unresolvable")
}

type found struct {
	ID, Status  string
	Subjects    int
	Differences []struct{ Source, Kind, Reference, Finding, Verdict string }
}

func reconciliation(t *testing.T) (found, time.Duration) {
	t.Helper()
	ctx := limit(t)
	begun := time.Now()
	platform := *acme // which is shown the differences of all
	platform.Key = system.Env()["SERVICE_KEY"]
	a, err := platform.Post(ctx, acme.Payments+"/v1/platform/reconciliations", "", nil)
	var got found
	for {
		if err != nil || a.Status >= http.StatusMultipleChoices {
			t.Fatalf("%d %s, %v", a.Status, a.Body, err)
		}
		if err := json.Unmarshal(a.Body, &got); err != nil {
			t.Fatal(err)
		}
		if got.Status == "finished" {
			return got, time.Since(begun)
		}
		a, err = platform.Get(ctx, acme.Payments+"/v1/platform/reconciliations/"+got.ID)
	}
}

func (f found) compare(t *testing.T, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for _, d := range f.Differences {
		got[fmt.Sprintf("%s %s %s", d.Source, d.Kind, d.Reference)] = d.Finding + " " + d.Verdict
	}
	for what, finding := range want {
		if got[what] != finding {
			t.Errorf("%s: found %q, want %q", what, got[what], finding)
		}
	}
	for what, finding := range got {
		if want[what] == "" {
			t.Errorf("%s: found %q, and nothing was planted there", what, finding)
		}
	}
}

func TestReconciliation_FindsTheDriftIn100000Payments(t *testing.T) {
	plantAgreement(t)
	want := plantDrift(t)
	before := peakMemory(t)
	first, took := reconciliation(t)
	first.compare(t, want)
	t.Logf("%d payments and payouts, %d differences: %s; peak memory of the service %s, before %s",
		first.Subjects, len(want), took.Round(10*time.Millisecond), peakMemory(t), before)

	// What was fixed is fixed; the rest is as it was. And only what changed is
	// looked at again.
	for what, finding := range want {
		if strings.HasSuffix(finding, " resolved") {
			delete(want, what)
		}
	}
	awaitMended(t)
	second, took := reconciliation(t)
	second.compare(t, want)
	young := first.Subjects - payments // what other tests have left: it is within the overlap
	if second.Subjects > young+payments/10 {
		t.Errorf("the second run looked at %d subjects, %d of them young", second.Subjects, young)
	}
	t.Logf("the second run: %d subjects, %s", second.Subjects, took.Round(10*time.Millisecond))
}

// awaitMended waits until the ledger's journal shows what it was told again.
func awaitMended(t *testing.T) {
	t.Helper()
	ctx := limit(t)
	for booked := 0; booked < 5; { // a settlement, a refund, three payouts sent
		err := truth.Ledger.QueryRow(ctx, `
			SELECT count(*)
			  FROM entries
			 WHERE created_at > now() - interval '1 hour'
			   AND created_at < now() - interval '1 second'`).Scan(&booked)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// peakMemory is the service's largest resident set so far.
func peakMemory(t *testing.T) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", system.Pid("payments")))
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(status)) {
		if size, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strings.TrimSpace(size)
		}
	}
	return "unknown"
}

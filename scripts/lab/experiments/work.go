package experiments

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

// refundOf is the body of a refund of all of an order.
func refundOf(o shop.Order) []byte { return fmt.Appendf(nil, `{"payment_id":%q}`, o.PaymentID) }

// processorRefunds counts what the processor gave back for a payment.
func (w *World) processorRefunds(ctx context.Context, reference string) int {
	return w.truth(ctx, "sandbox", `
		SELECT count(*) FROM processor_operations o JOIN processor_charges c ON c.id = o.charge_id
		 WHERE o.kind = 'refund' AND c.reference = $1`, reference)
}

// captured is a charge of 12.50 that the naive version has taken.
func (w *World) captured(ctx context.Context) (reference, charge string) {
	reference = w.name("naive")
	charge = got(w.charge(ctx, reference, w.paymentMethod(ctx, shop.CardWorks, reference), reference))
	status, err := w.processor(ctx, "/v1/charges/"+charge+"/capture", reference+":capture", struct{}{}, nil)
	must(err)
	if status != http.StatusOK {
		panic(broken{fmt.Errorf("capture: status %d", status)})
	}
	return reference, charge
}

// giveBack asks the processor for a refund of part of a charge.
func (w *World) giveBack(ctx context.Context, key, charge string, minor int) (int, error) {
	return w.processor(ctx, "/v1/charges/"+charge+"/refund", key,
		map[string]any{"amount": map[string]any{"minor": minor, "currency": "GBP"}}, nil)
}

var resumableOperation = Experiment{
	ID:    "resumable-operation",
	Says:  "A refund dies half-way, and its client sends it again.",
	Fault: "the process dies after the refund is begun; the client retries",
	Code:  "services/payments/refund.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		reference, charge := w.captured(ctx)
		w.exec(ctx, `CREATE TABLE refunds (key text PRIMARY KEY, done boolean DEFAULT false)`)
		post := func(dies bool) string {
			if _, err := w.Naive.Exec(ctx, `INSERT INTO refunds (key) VALUES ('key-1')`); err != nil {
				return "409 this refund exists already"
			}
			if dies {
				return errCrash.Error()
			}
			_, err := w.giveBack(ctx, "key-1", charge, 1250)
			must(err)
			w.exec(ctx, `UPDATE refunds SET done = true`)
			return "201"
		}
		r.Log("POST /refunds: %s", post(true))
		r.Log("POST /refunds again: %s", post(false))
		n := w.processorRefunds(ctx, reference)
		return verdict(n == 1, "%d given back; every retry gets an error", n)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		o := w.order(ctx, shop.CardWorks, mug)
		key := uuid.NewString()
		died := w.crashAt(ctx, stack.Payments, fault.PaymentsRefundAfterStart)
		_, err := w.Shop.Post(ctx, w.Shop.Payments+"/v1/refunds", key, refundOf(o))
		r.Log("POST /v1/refunds: no answer (%v)", err != nil)
		died()
		a, tries, err := w.Shop.InsistAt(ctx, w.Shop.Payments+"/v1/refunds", key, refundOf(o), nil)
		must(err)
		r.Log("the same again: %d (%d tries): it went on from \"started\"", a.Status, tries)
		w.quiet(ctx)
		n := w.processorRefunds(ctx, o.PaymentID)
		return verdict(n == 1 && a.Status == http.StatusCreated, "%d given back, the retry finished it: %d", n, a.Status)
	},
}

var recoveryPoint = Experiment{
	ID:    "recovery-point",
	Says:  "Work of several steps is begun again after a crash.",
	Fault: "the process dies after the books were told; the client retries",
	Code:  "services/payments/refund.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		// Every try begins at the beginning. The processor is given no key here:
		// its answer of the first try is not known any more.
		reference, charge := w.captured(ctx)
		w.exec(ctx, `CREATE TABLE books (minor int)`)
		post := func(dies bool) error {
			_, err := w.giveBack(ctx, "", charge, 500)
			must(err)
			w.exec(ctx, `INSERT INTO books VALUES (-500)`)
			if dies {
				return errCrash
			}
			return nil
		}
		r.Log("refund 5.00: processor, books, then %v", post(true))
		r.Log("the retry: processor, books, done %v", post(false))
		n := w.processorRefunds(ctx, reference)
		return verdict(n == 1, "the steps were made %d times: %d.00 given back instead of 5.00", n, 5*n)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		o := w.order(ctx, shop.CardWorks, mug)
		key := uuid.NewString()
		died := w.crashAt(ctx, stack.Payments, fault.PaymentsRefundAfterLedger)
		_, _ = w.Shop.Post(ctx, w.Shop.Payments+"/v1/refunds", key, refundOf(o))
		died()
		point := ""
		must(w.Truth.Payments.QueryRow(ctx, `SELECT recovery_point FROM refunds WHERE 'pay_' || payment_id = $1`, o.PaymentID).Scan(&point))
		r.Log("killed after the books were told; the row says: %s", point)
		_, _, err := w.Shop.InsistAt(ctx, w.Shop.Payments+"/v1/refunds", key, refundOf(o), nil)
		must(err)
		r.Log("the retry goes on from there; the processor is not asked again")
		w.quiet(ctx)
		n := w.processorRefunds(ctx, o.PaymentID)
		entries := w.truth(ctx, stack.Ledger, `SELECT count(*) FROM entries WHERE reference = $1 AND kind = 'refund'`, o.PaymentID)
		return verdict(n == 1 && entries == 1, "%d refund, %d entry", n, entries)
	},
}

var idempotencyKeyLock = Experiment{
	ID:    "idempotency-key-lock",
	Says:  "The client retries while its first request is still at work.",
	Fault: "the same refund twice at the same moment",
	Code:  "shared/pattern/idempotency/lock.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		reference, charge := w.captured(ctx)
		w.exec(ctx, `CREATE TABLE refunds (key text)`)
		var bothHaveLooked, both sync.WaitGroup
		bothHaveLooked.Add(2)
		for range 2 {
			both.Go(func() {
				seen := w.number(ctx, `SELECT count(*) FROM refunds WHERE key = 'key-1'`)
				bothHaveLooked.Done()
				bothHaveLooked.Wait()
				if seen == 0 {
					_, err := w.giveBack(ctx, "", charge, 500)
					must(err)
					w.exec(ctx, `INSERT INTO refunds VALUES ('key-1')`)
				}
			})
		}
		both.Wait()
		r.Log("both looked for the key and found nothing; both went on")
		n := w.processorRefunds(ctx, reference)
		return verdict(n == 1, "%d refunds under one key", n)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		o := w.order(ctx, shop.CardWorks, mug)
		key := uuid.NewString()
		must(w.Shop.ArmDelay(ctx, w.Shop.Payments, fault.PaymentsRefundAfterStart, 1800*time.Millisecond))
		var mu sync.Mutex
		var statuses []int
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				a, err := w.Shop.Post(ctx, w.Shop.Payments+"/v1/refunds", key, refundOf(o))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					statuses = append(statuses, a.Status)
					r.Log("answer: %d, Retry-After: %q", a.Status, a.Header.Get("Retry-After"))
				}
			})
		}
		both.Wait()
		w.quiet(ctx)
		n := w.processorRefunds(ctx, o.PaymentID)
		oneWaited := len(statuses) == 2 && statuses[0] == http.StatusConflict && statuses[1] == http.StatusCreated
		return verdict(n == 1 && oneWaited, "%d refund; the second waited its time and was told to come back", n)
	},
}

var completer = Experiment{
	ID:    "completer",
	Says:  "The client of a half-way refund never comes back.",
	Fault: "the process dies after the processor's answer; nobody retries",
	Code:  "shared/pattern/recovery/completer.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		reference, charge := w.captured(ctx)
		w.exec(ctx, `CREATE TABLE refunds (status text)`)
		w.exec(ctx, `INSERT INTO refunds VALUES ('started')`)
		_, err := w.giveBack(ctx, "key-1", charge, 1250)
		must(err)
		r.Log("started; given back at the processor; %v", errCrash)
		r.Log("a retry would go on from here, but no retry comes")
		n := w.number(ctx, `SELECT count(*) FROM refunds WHERE status = 'started'`)
		return verdict(n == 0, "%d given back, %d refund unfinished for ever", w.processorRefunds(ctx, reference), n)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		o := w.order(ctx, shop.CardWorks, mug)
		died := w.crashAt(ctx, stack.Payments, fault.PaymentsRefundAfterProcessor)
		_, _ = w.Shop.Post(ctx, w.Shop.Payments+"/v1/refunds", uuid.NewString(), refundOf(o))
		died()
		gone := time.Now()
		r.Log("killed after the processor's answer; the client is gone")
		w.quiet(ctx)
		r.Log("the completer took it over and finished it, %.1f s after the restart", time.Since(gone).Seconds())
		n := w.truth(ctx, stack.Payments, `SELECT count(*) FROM refunds WHERE 'pay_' || payment_id = $1 AND recovery_point = 'finished'`, o.PaymentID)
		return verdict(n == 1, "%d refund finished, %d given back", n, w.processorRefunds(ctx, o.PaymentID))
	},
}

// transfers counts what left the bank under a reference.
func (w *World) transfers(ctx context.Context, reference string) int {
	return w.truth(ctx, "sandbox", `SELECT count(*) FROM bank_transfers WHERE reference = $1`, reference)
}

// payable sells and waits until the money is available.
func (w *World) payable(ctx context.Context) {
	w.order(ctx, shop.CardWorks, mug)
	w.quiet(ctx)
}

const payoutOf1 = `{"amount":{"minor":100,"currency":"GBP"}}`

var atMostOnceGuard = Experiment{
	ID:    "at-most-once-guard",
	Says:  "A bank that takes no keys sends the money, and its answer is lost.",
	Fault: "the bank's answer is lost; the client retries",
	Code:  "services/payments/payout.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		reference := w.name("naive")
		w.misbehave(ctx, `[{"contract":"bank.transfers","fault":"lose_answer","times":1}]`)
		transfer := func() (int, error) {
			return w.call(ctx, http.MethodPost, w.System.URL[stack.Sandbox]+"/bank/transfers", nil, map[string]any{
				"reference": reference, "account": "acct_1", "amount": map[string]any{"minor": 100, "currency": "GBP"}}, nil)
		}
		_, err := transfer()
		r.Log("POST /bank/transfers: no answer (%v)", err != nil)
		status, err := transfer()
		r.Log("so it is sent again: %d %v", status, err)
		n := w.transfers(ctx, reference)
		return verdict(n <= 1, "paid out %d times", n)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		w.payable(ctx)
		w.misbehave(ctx, `[{"contract":"bank.transfers","fault":"lose_answer","times":1}]`)
		key := uuid.NewString()
		var p struct{ ID, Status string }
		for range 2 {
			a, _, err := w.Shop.InsistAt(ctx, w.Shop.Payments+"/v1/payouts", key, []byte(payoutOf1), nil)
			must(err)
			must(json.Unmarshal(a.Body, &p))
			r.Log("POST /v1/payouts: %d %s", a.Status, p.Status)
		}
		r.Log("nobody knows whether it was sent, and nobody asks the bank again")
		w.quiet(ctx)
		n := w.transfers(ctx, p.ID)
		return verdict(n <= 1 && p.Status == "unknown", "paid out %d time, known as %q until it is reconciled", n, p.Status)
	},
}

var distributedTransaction = Experiment{
	ID:    "distributed-transaction",
	Says:  "A payout must leave two books together.",
	Fault: "the process dies after the first book has moved",
	Code:  "shared/pattern/twophase/distributed_transaction.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE ledger (balance int); INSERT INTO ledger VALUES (1000); CREATE TABLE payouts (id serial)`)
		payout := func(dies bool) error {
			w.exec(ctx, `UPDATE ledger SET balance = balance - 100`) // one database
			if dies {
				return errCrash
			}
			w.exec(ctx, `INSERT INTO payouts DEFAULT VALUES`) // the other one
			return nil
		}
		r.Log("ledger: 100 less; then %v", payout(true))
		moved, payouts := (1000-w.number(ctx, `SELECT balance FROM ledger`))/100, w.number(ctx, `SELECT count(*) FROM payouts`)
		return verdict(moved == payouts, "the ledger paid %d, payments knows of %d", moved, payouts)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		w.payable(ctx)
		count := func() (ledger, payments int) {
			return w.truth(ctx, stack.Ledger, `SELECT count(*) FROM entries WHERE kind = 'payout'`),
				w.truth(ctx, stack.Payments, `SELECT count(*) FROM payouts WHERE recovery_point <> 'started' AND failure <> 'insufficient_balance'`)
		}
		died := w.crashAt(ctx, stack.Payments, fault.TwoPhaseAfterDecision)
		_, _ = w.Shop.Post(ctx, w.Shop.Payments+"/v1/payouts", uuid.NewString(), []byte(payoutOf1))
		r.Log("both have prepared, the decision is logged, the coordinator is killed before it tells anybody")
		died()
		w.quiet(ctx)
		ledger, payments := count()
		left := w.truth(ctx, stack.Payments, `SELECT count(*) FROM pg_prepared_xacts`)
		r.Log("recovered: both were told; %d prepared transactions are left", left)
		return verdict(ledger == payments && left == 0, "both books have it: they differ by %d", ledger-payments)
	},
}

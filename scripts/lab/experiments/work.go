package experiments

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

// refundOf is the body of a refund of all of an order.
func refundOf(o shop.Order) []byte { return fmt.Appendf(nil, `{"payment_id":%q}`, o.PaymentID) }

// partOf is the body of a refund of a part.
func (w *World) partOf(o shop.Order) []byte {
	return fmt.Appendf(nil, `{"payment_id":%q,"amount":{"minor":%d,"currency":"GBP"}}`, o.PaymentID, w.Dice.Minor)
}

// processorRefunds counts what the processor gave back for a payment.
func (w *World) processorRefunds(ctx context.Context, reference string) int {
	return w.truth(ctx, "sandbox", `
		SELECT count(*) FROM processor_operations o JOIN processor_charges c ON c.id = o.charge_id
		 WHERE o.kind = 'refund' AND c.reference = $1`, reference)
}

// captured is a charge that the naive version has taken.
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

// giveBack asks the processor for a refund of part of a charge. Its no is an error, too.
func (w *World) giveBack(ctx context.Context, key, charge string, minor int) error {
	status, err := w.processor(ctx, "/v1/charges/"+charge+"/refund", key,
		map[string]any{"amount": map[string]any{"minor": minor, "currency": "GBP"}}, nil)
	if err == nil && status >= http.StatusMultipleChoices {
		err = fmt.Errorf("refund: status %d", status)
	}
	return err
}

// refundDies is where the seed has a refund die, in the order of its steps.
var refundDies = []struct{ after, point string }{
	{"it was begun", fault.PaymentsRefundAfterStart},
	{"the processor's answer", fault.PaymentsRefundAfterProcessor},
	{"the books were told", fault.PaymentsRefundAfterLedger},
}

var resumableOperation = Experiment{
	ID:    "resumable-operation",
	Says:  "A refund dies half-way, and its client sends it again.",
	Fault: "the process dies after one of the refund's steps; the client retries",
	Code:  "services/payments/refund.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		reference, charge := w.captured(ctx)
		w.exec(ctx, `CREATE TABLE refunds (key text PRIMARY KEY, done boolean DEFAULT false); CREATE TABLE books (minor int)`)
		post := func(diesAfter int) string {
			steps := []func() error{
				func() error { _, err := w.Naive.Exec(ctx, `INSERT INTO refunds (key) VALUES ('key-1')`); return err },
				func() error { return w.giveBack(ctx, reference+":refund", charge, w.price()) },
				func() error { _, err := w.Naive.Exec(ctx, `INSERT INTO books VALUES ($1)`, -w.price()); return err },
			}
			for i, step := range steps {
				if err := step(); err != nil {
					return "409 this refund exists already"
				}
				if i == diesAfter {
					return errCrash.Error()
				}
			}
			w.exec(ctx, `UPDATE refunds SET done = true`)
			return "201"
		}
		r.Log("POST /refunds: %s after %s", post(w.Dice.Hit-1), refundDies[w.Dice.Hit-1].after)
		r.Log("POST /refunds again: %s", post(-1))
		done := w.number(ctx, `SELECT count(*) FROM refunds WHERE done`)
		return verdict(done == 1, "%d given back, %d finished; every retry gets an error", w.processorRefunds(ctx, reference), done)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		o := w.order(ctx, shop.CardWorks, w.mugs())
		key, dies := uuid.NewString(), refundDies[w.Dice.Hit-1]
		died := w.crashAt(ctx, stack.Payments, dies.point, 1)
		_, err := w.Shop.Post(ctx, w.Shop.Payments+"/v1/refunds", key, refundOf(o))
		point := w.recoveryPoint(ctx, o)
		r.Log("POST /v1/refunds: the process dies after %s, %s", dies.after, answerTo(err))
		died()
		a, tries, err := w.Shop.InsistAt(ctx, w.Shop.Payments+"/v1/refunds", key, refundOf(o), nil)
		must(err)
		r.Log("the same again: %d (%d tries): it went on from %q", a.Status, tries, point)
		w.quiet(ctx)
		n := w.processorRefunds(ctx, o.PaymentID)
		done := w.truth(ctx, stack.Payments, `SELECT count(*) FROM refunds WHERE 'pay_' || payment_id = $1 AND recovery_point = 'finished'`, o.PaymentID)
		return verdict(n == 1 && done == 1 && a.Status == http.StatusCreated, "%d given back, %d finished; the retry gets %d", n, done, a.Status)
	},
}

// recoveryPoint is how far the refund of an order has come.
func (w *World) recoveryPoint(ctx context.Context, o shop.Order) (point string) {
	must(w.Truth.Payments.QueryRow(ctx, `SELECT recovery_point FROM refunds WHERE 'pay_' || payment_id = $1`, o.PaymentID).Scan(&point))
	return point
}

var recoveryPoint = Experiment{
	ID:    "recovery-point",
	Says:  "Work of several steps is begun again after a crash.",
	Fault: "the process dies after the books were told; the client retries",
	Code:  "services/payments/refund.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		// Nobody has written down how far it came, so every try begins at the
		// beginning. All it has is what the others know: a key at the processor, a
		// name in the books.
		reference, charge := w.captured(ctx)
		w.exec(ctx, `CREATE TABLE books (source text PRIMARY KEY, minor int)`)
		w.misbehave(ctx, refundsWatched)
		post := func(dies bool) error {
			must(w.giveBack(ctx, reference+":refund", charge, w.Dice.Minor))
			w.exec(ctx, `INSERT INTO books VALUES ('refund-1', $1) ON CONFLICT DO NOTHING`, -w.Dice.Minor)
			if dies {
				return errCrash
			}
			return nil
		}
		r.Log("refund %s: processor, books, then %v", money(w.Dice.Minor), post(true))
		r.Log("the retry: processor, books, %s", with("done", post(false)))
		asked, n := w.asked(ctx), w.processorRefunds(ctx, reference)
		return verdict(asked == 1, "the processor was asked %d times for %d refund: only its memory of our key keeps it at one", asked, n)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		o := w.order(ctx, shop.CardWorks, w.mugs())
		key, part := uuid.NewString(), w.partOf(o)
		w.misbehave(ctx, refundsWatched)
		died := w.crashAt(ctx, stack.Payments, fault.PaymentsRefundAfterLedger, 1)
		_, _ = w.Shop.Post(ctx, w.Shop.Payments+"/v1/refunds", key, part)
		r.Log("refund %s: processor, books, then the process dies; the row says: %s", money(w.Dice.Minor), w.recoveryPoint(ctx, o))
		died()
		before := w.asked(ctx)
		a, _, err := w.Shop.InsistAt(ctx, w.Shop.Payments+"/v1/refunds", key, part, nil)
		must(err)
		w.quiet(ctx)
		asked, n := w.asked(ctx), w.processorRefunds(ctx, o.PaymentID)
		r.Log("the retry goes on from there: %d; the processor was asked %d times more", a.Status, asked-before)
		entries := w.truth(ctx, stack.Ledger, `SELECT count(*) FROM entries WHERE reference = $1 AND kind = 'refund'`, o.PaymentID)
		return verdict(asked == 1 && n == 1 && entries == 1, "the processor was asked %d time for %d refund", asked, n)
	},
}

var idempotencyKeyLock = Experiment{
	ID:    "idempotency-key-lock",
	Says:  "The client retries while its first request is still at work.",
	Fault: "the same refund twice at the same moment",
	Code:  "shared/pattern/idempotency/lock.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		reference, charge := w.captured(ctx)
		w.exec(ctx, `CREATE TABLE refunds (key text); CREATE TABLE books (minor int)`)
		w.misbehave(ctx, refundsWatched)
		bothHaveLooked := barrier(ctx, 2)
		together(2, func(int) {
			seen := w.number(ctx, `SELECT count(*) FROM refunds WHERE key = 'key-1'`)
			bothHaveLooked()
			if seen == 0 {
				must(w.giveBack(ctx, reference+":refund", charge, w.Dice.Minor))
				w.exec(ctx, `INSERT INTO books VALUES ($1)`, -w.Dice.Minor)
				w.exec(ctx, `INSERT INTO refunds VALUES ('key-1')`)
			}
		})
		r.Log("both looked for the key and found nothing; both went on")
		asked, moved := w.asked(ctx), -w.number(ctx, `SELECT sum(minor) FROM books`)
		return verdict(asked == 1 && moved == w.Dice.Minor, "%d at work under one key: the books moved by %s instead of %s", asked, money(moved), money(w.Dice.Minor))
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		o := w.order(ctx, shop.CardWorks, w.mugs())
		key := uuid.NewString()
		w.misbehave(ctx, refundsWatched)
		must(w.Shop.ArmDelay(ctx, w.Shop.Payments, fault.PaymentsRefundAfterStart, 1800*time.Millisecond))
		var mu sync.Mutex
		var statuses []int
		together(2, func(int) {
			a, err := w.Shop.Post(ctx, w.Shop.Payments+"/v1/refunds", key, w.partOf(o))
			must(err)
			mu.Lock()
			defer mu.Unlock()
			statuses = append(statuses, a.Status)
			r.Log("answer: %d, Retry-After: %q", a.Status, a.Header.Get("Retry-After"))
		})
		w.quiet(ctx)
		asked := w.asked(ctx)
		moved := w.truth(ctx, stack.Ledger, `
			SELECT COALESCE(sum(p.amount_minor), 0)::int
			  FROM postings p JOIN entries e ON e.id = p.entry_id
			 WHERE e.kind = 'refund' AND e.reference = $1 AND p.amount_minor > 0`, o.PaymentID)
		oneWaited := len(statuses) == 2 && statuses[0] == http.StatusConflict && statuses[1] == http.StatusCreated
		return verdict(asked == 1 && moved == w.Dice.Minor && oneWaited, "%d at work under one key: the books moved by %s; the other one waited its time and was told to come back", asked, money(moved))
	},
}

var completer = Experiment{
	ID:    "completer",
	Says:  "The client of a half-way refund never comes back.",
	Fault: "the process dies after the processor's answer; nobody retries",
	Code:  "shared/pattern/completer/completer.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		reference, charge := w.captured(ctx)
		w.exec(ctx, `CREATE TABLE refunds (status text)`)
		w.exec(ctx, `INSERT INTO refunds VALUES ('started')`)
		must(w.giveBack(ctx, reference+":refund", charge, w.price()))
		r.Log("started; given back at the processor; %v", errCrash)
		r.Log("a retry would go on from here, but no retry comes")
		n := w.number(ctx, `SELECT count(*) FROM refunds WHERE status = 'started'`)
		return verdict(n == 0, "%d given back, %d refund unfinished for ever", w.processorRefunds(ctx, reference), n)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		o := w.order(ctx, shop.CardWorks, w.mugs())
		died := w.crashAt(ctx, stack.Payments, fault.PaymentsRefundAfterProcessor, 1)
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
	w.order(ctx, shop.CardWorks, w.mugs())
	w.quiet(ctx)
}

// payoutBody asks for a payout of what the dice say.
func (w *World) payoutBody() []byte {
	return fmt.Appendf(nil, `{"amount":{"minor":%d,"currency":"GBP"}}`, w.Dice.Minor)
}

var atMostOnceGuard = Experiment{
	ID:     "at-most-once-guard",
	Says:   "A bank that takes no keys sends the money, and we die before we know.",
	Fault:  "payments is killed when the bank has sent the money, before that is noted; the client retries",
	Code:   "services/payments/payout.go",
	Breaks: "paid out by the bank",
	Ask: []Question{
		{
			Text: "The payout of 5.00 is in our database as \"booked\", nothing more. The client sends its request again, with its key. How much does the bank pay out in all?",
			Of:   "paid out by the bank", Choices: []string{"0.00", "5.00", "10.00"},
			Why: "Whoever finds \"booked\" must believe that the bank was not asked yet.",
		},
		{
			Text: "And what is the client told in the end?", With: true,
			Of: "the payout is", Choices: []string{"sent", "failed", "unknown"},
			Why: "The guard says that somebody may have asked the bank. It does not say what came of it: that stays unknown until the bank's statement shows it.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		w.payable(ctx)
		died := w.crashAt(ctx, stack.Payments, fault.PaymentsPayoutAfterBank, 1)
		key := uuid.NewString()
		_, err := w.Shop.Post(ctx, w.Shop.Payments+"/v1/payouts", key, w.payoutBody())
		r.Log("POST /v1/payouts, %s: the bank has sent it, then payments is killed: %s", money(w.Dice.Minor), answerTo(err))
		died()
		var p struct{ ID, Status string }
		a, _, err := w.Shop.InsistAt(ctx, w.Shop.Payments+"/v1/payouts", key, w.payoutBody(), nil)
		must(err)
		must(json.Unmarshal(a.Body, &p))
		r.Log("the client sends the same again: %d %s", a.Status, p.Status)
		r.Measure("paid out by the bank", money(w.transfers(ctx, p.ID)*w.Dice.Minor), money(w.Dice.Minor))
		r.Fact("the payout is", p.Status)
	},
}

var distributedTransaction = Experiment{
	ID:    "distributed-transaction",
	Says:  "A payout must leave two books together.",
	Fault: "the processes die when the first book has moved and the second one has not",
	Code:  "shared/pattern/distributedtx/distributed_transaction.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE payouts (minor int); CREATE TABLE ledger (minor int)`)
		payout := func(dies bool) error {
			w.exec(ctx, `INSERT INTO payouts VALUES ($1)`, w.Dice.Minor) // one database
			if dies {
				return errCrash
			}
			w.exec(ctx, `INSERT INTO ledger VALUES ($1)`, w.Dice.Minor) // the other one
			return nil
		}
		r.Log("payments: a payout of %s; then %v", money(w.Dice.Minor), payout(true))
		payments, ledger := w.number(ctx, `SELECT count(*) FROM payouts`), w.number(ctx, `SELECT count(*) FROM ledger`)
		return verdict(payments == ledger, "payments has %d payout, the ledger %d", payments, ledger)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		w.payable(ctx)
		books := func() (payments, ledger, prepared int) {
			return w.truth(ctx, stack.Payments, `SELECT count(*) FROM payouts WHERE recovery_point <> 'started' AND failure <> 'insufficient_balance'`),
				w.truth(ctx, stack.Ledger, `SELECT count(*) FROM entries WHERE kind = 'payout'`),
				w.truth(ctx, stack.Payments, `SELECT count(*) FROM pg_prepared_xacts`)
		}
		decisions := func() int { return w.truth(ctx, stack.Payments, `SELECT count(*) FROM twophase_decisions`) }
		paymentsBefore, ledgerBefore, _ := books()
		before := decisions()
		died, alsoDied := w.dying(ctx, stack.Payments, "a payout"), w.dying(ctx, stack.Ledger, "a payout")
		must(w.Shop.ArmDelay(ctx, w.Shop.Payments, fault.TwoPhaseAfterDecision, time.Second))
		noAnswer := make(chan error, 1)
		go func() {
			_, err := w.Shop.Post(ctx, w.Shop.Payments+"/v1/payouts", uuid.NewString(), w.payoutBody())
			noAnswer <- err
		}()
		await(ctx, "the decision", func() bool { return decisions() > before })
		w.System.Signal(stack.Ledger, syscall.SIGSTOP) // it will not hear of the decision
		await(ctx, "the first book", func() bool { payments, _, _ := books(); return payments > paymentsBefore })
		payments, ledger, prepared := books()
		r.Log("both have prepared, it is decided; payments has moved %d, the ledger %d and holds %d prepared", payments-paymentsBefore, ledger-ledgerBefore, prepared)
		halfWay := payments-paymentsBefore == 1 && ledger == ledgerBefore && prepared == 1
		w.System.Signal(stack.Payments, syscall.SIGKILL)
		w.System.Signal(stack.Ledger, syscall.SIGKILL)
		r.Log("both are killed: %s", answerTo(<-noAnswer))
		died()
		alsoDied()
		w.quiet(ctx)
		payments, ledger, prepared = books()
		payments, ledger = payments-paymentsBefore, ledger-ledgerBefore
		r.Log("recovered: the ledger was told; %d prepared transactions are left", prepared)
		return verdict(halfWay && payments == 1 && ledger == 1 && prepared == 0, "payments has %d payout, the ledger %d", payments, ledger)
	},
}

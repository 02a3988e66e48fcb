package experiments

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

// refundOf is the body of a refund of a part of an order.
func (w *World) refundOf(o shop.Order) []byte {
	return fmt.Appendf(nil, `{"payment_id":%q,"amount":{"minor":%d,"currency":"GBP"}}`, o.PaymentID, w.Dice.Minor)
}

// refundDies asks for a refund, and payments dies at a point of it.
func (w *World) refundDies(ctx context.Context, r *Run, point, when string) (o shop.Order, key string) {
	o, key = w.order(ctx, shop.CardWorks, w.mugs()), uuid.NewString()
	died := w.crashAt(ctx, stack.Payments, point)
	_, err := w.Shop.Post(ctx, w.Shop.Payments+"/v1/refunds", key, w.refundOf(o))
	r.Log("POST /v1/refunds, %s of %s: payments is killed when %s: %s", money(w.Dice.Minor), money(w.price()), when, answerTo(err))
	died()
	return o, key
}

// retryRefund sends a refund again until there is a definite answer, for a few seconds.
func (w *World) retryRefund(ctx context.Context, r *Run, o shop.Order, key string) int {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	a, _, err := w.Shop.InsistAt(ctx, w.Shop.Payments+"/v1/refunds", key, w.refundOf(o), nil)
	if err != nil {
		r.Log("the client sends the same again and again: it is never finished")
		return 0
	}
	r.Log("the client sends the same again, until it is finished: %d", a.Status)
	return a.Status
}

// givenBack is what the processor gave back for an order.
func (w *World) givenBack(ctx context.Context, o shop.Order) int {
	return w.truth(ctx, stack.Sandbox, `SELECT COALESCE(sum(refunded_minor), 0)::int FROM processor_charges WHERE reference = $1`, o.PaymentID)
}

// finished counts the finished refunds of an order.
func (w *World) finished(ctx context.Context, o shop.Order) int {
	return w.truth(ctx, stack.Payments, `SELECT count(*) FROM refunds WHERE 'pay_' || payment_id = $1 AND recovery_point = 'finished'`, o.PaymentID)
}

var resumableOperation = Experiment{
	ID:     "resumable-operation",
	Says:   "A refund dies half-way, and its client sends it again.",
	Fault:  "payments is killed when the processor has given the money back and the books know nothing; the client retries",
	Code:   "services/payments/refund.go",
	Breaks: "refunds finished",
	Points: []string{fault.PaymentsRefundAfterProcessor, fault.PaymentsRefundAfterDecided},
	Ask: []Question{
		{
			Text: "The retry finds a refund that was begun before, does not go on with it, and is told that it is not finished. 5.00 are back on the card. How many refunds are finished?",
			Of:   "refunds finished", Choices: []string{"0", "1"},
			Why: "Not to go on keeps the money safe and the work undone: every later try finds the same row.",
		},
		{
			Text: "What is the retry answered with, when it goes on from where the first try stopped?", With: true,
			Of: "the retry is answered with", Choices: []string{"201", "202", "409"},
			Why: "The retry does the two steps that are missing, and gets the answer that the first request would have got.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		o, key := w.refundDies(ctx, r, fault.PaymentsRefundAfterDecided, "the processor has given it back, and that is noted")
		status := w.retryRefund(ctx, r, o, key)
		r.Measure("given back on the card", money(w.givenBack(ctx, o)), money(w.Dice.Minor))
		r.Measure("refunds finished", w.finished(ctx, o), 1)
		r.Fact("the retry is answered with", status)
	},
}

var recoveryPoint = Experiment{
	ID:     "recovery-point",
	Says:   "Work of several steps is begun again after a crash, and the others have forgotten us.",
	Fault:  "payments is killed when the books have the refund; meanwhile the processor forgets its keys; the client retries",
	Code:   "services/payments/refund.go",
	Breaks: "given back on the card",
	Ask: []Question{
		{
			Text: "The refund of 5.00 begins again at its first step. The processor's memory of our key is gone. How much is given back in all?",
			Of:   "given back on the card", Choices: []string{"0.00", "5.00", "10.00"},
			Why: "A key at the other side makes a repeated step harmless for as long as the other side remembers it.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		o, key := w.refundDies(ctx, r, fault.PaymentsRefundAfterLedger, "processor and books have it")
		_, err := w.Truth.Sandbox.Exec(ctx, `DELETE FROM processor_idempotency`)
		must(err)
		r.Log("the processor forgets its keys")
		w.retryRefund(ctx, r, o, key)
		r.Measure("given back on the card", money(w.givenBack(ctx, o)), money(w.Dice.Minor))
		r.Fact("refunds finished", w.finished(ctx, o))
	},
}

var idempotencyKeyLock = Experiment{
	ID:     "idempotency-key-lock",
	Says:   "The client retries while its first request is still at work.",
	Fault:  "the processor is slow; the same refund comes twice at the same moment",
	Code:   "shared/pattern/idempotency/lock.go",
	Breaks: "calls to the processor",
	Ask: []Question{
		{
			Text: "The first request waits for the processor when the second comes, with the same key. How many calls does the processor get?",
			Of:   "calls to the processor", Choices: []string{"1", "2"},
			Why: "Both find the refund at its first point. What keeps it at one refund is the processor's memory of the key, another pattern.",
		},
		{
			Text: "With the lock, what is the second request answered with, when it has waited its time?", With: true,
			Of: "the second request is answered with", Choices: []string{"201", "409", "422"},
			Why: "409 with Retry-After: nothing was refused, somebody is at it. The client comes back for the answer.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		o, key := w.order(ctx, shop.CardWorks, w.mugs()), uuid.NewString()
		w.misbehave(ctx, `[{"contract":"charges.refund","fault":"delay","delay_ms":1800}]`)
		first := make(chan int, 1)
		go func() {
			a, _ := w.Shop.Post(ctx, w.Shop.Payments+"/v1/refunds", key, w.refundOf(o))
			first <- a.Status
		}()
		await(ctx, "the first call", func() bool { return w.asked(ctx) > 0 })
		second := got(w.Shop.Post(ctx, w.Shop.Payments+"/v1/refunds", key, w.refundOf(o)))
		r.Log("the first request waits for the processor; the second, with the same key: %d", second.Status)
		<-first
		calls := w.asked(ctx)
		r.Log("the processor was called %d times", calls)
		r.Measure("calls to the processor", calls, 1)
		r.Measure("given back on the card", money(w.givenBack(ctx, o)), money(w.Dice.Minor))
		r.Fact("the second request is answered with", second.Status)
	},
}

var completer = Experiment{
	ID:     "completer",
	Says:   "The client of a half-way refund never comes back.",
	Fault:  "payments is killed when the processor has given the money back; the client is gone",
	Code:   "shared/pattern/completer/completer.go",
	Breaks: "refunds finished",
	Ask: []Question{
		{
			Text: "A retry would go on from where it stopped. No retry comes. How many refunds are finished after twenty seconds?",
			Of:   "refunds finished", Choices: []string{"0", "1"},
			Why: "The work can be resumed, and nothing resumes it.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		o, _ := w.refundDies(ctx, r, fault.PaymentsRefundAfterProcessor, "the processor has given it back")
		r.Log("payments is running again; the client never comes back")
		w.within(ctx, 20*time.Second, func() bool { return w.finished(ctx, o) > 0 })
		r.Measure("given back on the card", money(w.givenBack(ctx, o)), money(w.Dice.Minor))
		r.Measure("refunds finished", w.finished(ctx, o), 1)
	},
}

// transfers counts what left the bank under a reference.
func (w *World) transfers(ctx context.Context, reference string) int {
	return w.truth(ctx, stack.Sandbox, `SELECT count(*) FROM bank_transfers WHERE reference = $1`, reference)
}

// payable sells and waits until the money is available to the merchant.
func (w *World) payable(ctx context.Context) {
	o := w.order(ctx, shop.CardWorks, w.mugs())
	await(ctx, "the settlement", func() bool { return w.settled(ctx, o) > 0 })
}

// payoutBody asks for a payout.
func (w *World) payoutBody() []byte {
	return fmt.Appendf(nil, `{"amount":{"minor":%d,"currency":"GBP"}}`, w.Dice.Minor)
}

var atMostOnceGuard = Experiment{
	ID:     "at-most-once-guard",
	Says:   "A bank that takes no keys sends the money, and we die before we know.",
	Fault:  "payments is killed when the bank has sent the money, before that is noted; the client retries",
	Code:   "services/payments/payout.go",
	Breaks: "paid out by the bank",
	Points: []string{fault.PaymentsPayoutAfterBank},
	Ask: []Question{
		{
			Text: "The payout of 5.00 is in our database as \"booked\", nothing more. The client sends its request again, with its key. How much does the bank pay out in all?",
			Of:   "paid out by the bank", Choices: []string{"0.00", "5.00", "10.00"},
			Why: "A process that finds \"booked\" must believe that the bank was not asked yet.",
		},
		{
			Text: "And what is the client told in the end?", With: true,
			Of: "the payout is", Choices: []string{"sent", "failed", "unknown"},
			Why: "The guard says that somebody may have asked the bank. It does not say what came of it: that stays unknown until the bank's statement shows it.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		w.payable(ctx)
		died := w.crashAt(ctx, stack.Payments, fault.PaymentsPayoutAfterBank)
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
	ID:     "distributed-transaction",
	Says:   "A payout must leave two books together.",
	Fault:  "payments is killed when the ledger has done its half; the client gives up",
	Code:   "shared/pattern/distributedtx/distributed_transaction.go",
	Breaks: "payouts that only one of two books has",
	Points: []string{fault.PaymentsPayoutAfterLedgerPrepare, fault.TwoPhaseAfterDecision},
	Ask: []Question{
		{
			Text: "The ledger commits its half at once. Then payments dies, before its own half. How many payouts does only one of the two books have, twenty seconds later?",
			Of:   "payouts that only one of two books has", Choices: []string{"0", "1"},
			Why: "What is committed cannot be rolled back; what was to follow may be refused, or never come.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		w.payable(ctx)
		died := w.crashAt(ctx, stack.Payments, fault.PaymentsPayoutAfterLedgerPrepare)
		_, err := w.Shop.Post(ctx, w.Shop.Payments+"/v1/payouts", uuid.NewString(), w.payoutBody())
		r.Log("POST /v1/payouts, %s: the ledger has done its half, then payments is killed: %s", money(w.Dice.Minor), answerTo(err))
		died()
		var id string
		must(w.Truth.Payments.QueryRow(ctx, `SELECT 'pyo_' || id FROM payouts ORDER BY id DESC LIMIT 1`).Scan(&id))
		books := func() (ledger, payments int) {
			return w.truth(ctx, stack.Ledger, `SELECT count(*) FROM entries WHERE kind = 'payout' AND source = $1`, id),
				w.truth(ctx, stack.Payments, `SELECT count(*) FROM payouts WHERE 'pyo_' || id = $1 AND (recovery_point = 'booked' OR outcome IN ('sent', 'unknown'))`, id)
		}
		w.within(ctx, 20*time.Second, func() bool { ledger, payments := books(); return ledger == 1 && payments == 1 })
		ledger, payments := books()
		r.Log("then the ledger has %d payout, payments %d", ledger, payments)
		r.Measure("payouts that only one of two books has", max(ledger, payments)-min(ledger, payments), 0)
		r.Fact("prepared transactions left", w.truth(ctx, stack.Payments, `SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE '%' || $1 || '%'`, id))
	},
}

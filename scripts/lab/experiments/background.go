package experiments

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

var storeThenReference = Experiment{
	ID:     "store-then-reference",
	Says:   "A receipt is a row in the database and a document in a store.",
	Fault:  "payments is killed when it has written the reference",
	Code:   "shared/pattern/storethenreference/store_then_reference.go",
	Breaks: "a reader of the receipt gets",
	Points: []string{fault.PaymentsReceiptAfterReference},
	Ask: []Question{
		{
			Text: "The row refers to a document that was to be stored next. What does a reader of the receipt get, after the restart?",
			Of:   "a reader of the receipt gets", Choices: []string{"200", "404", "500"},
			Why: "The row says that there is a receipt. To the code that is a document that must be there.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		died := w.crashAt(ctx, stack.Payments, fault.PaymentsReceiptAfterReference)
		o := w.order(ctx, shop.CardWorks, w.mugs())
		died()
		r.Log("the order is %s; payments writes the reference to its receipt, and is killed", o.Status)
		status := 0
		w.within(ctx, 10*time.Second, func() bool {
			a, err := w.Shop.Get(ctx, w.Shop.Payments+"/v1/payments/"+o.PaymentID+"/receipt")
			status = a.Status
			return err == nil && status == http.StatusOK
		})
		r.Log("GET the receipt: %d", status)
		r.Measure("a reader of the receipt gets", status, http.StatusOK)
	},
}

var garbageCollection = Experiment{
	ID:     "garbage-collection",
	Says:   "Keys are kept for a day and written with every request.",
	Fault:  "thousands of keys have expired",
	Code:   "shared/pattern/garbagecollection/garbage_collection.go",
	Breaks: "expired rows left",
	Ask: []Question{
		{
			Text: "5000 keys have expired. A reader ignores them. How many of them are there twenty seconds later?",
			Of:   "expired rows left", Choices: []string{"0", "5000"},
			Why: "To ignore a row is not to delete it. The table grows with every request, and never shrinks.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		expired, err := w.Truth.Orders.Exec(ctx, `
			INSERT INTO idempotency_keys (merchant_id, operation, key, fingerprint, status, headers, body, expires_at)
			SELECT 'mer_acme', 'POST /v1/orders', 'old-' || n, '\x00', 202, '{}', '', now() - interval '1 day' FROM generate_series(1, $1::int) n`, 250*w.Dice.Crowd)
		must(err)
		left := func() int {
			return w.truth(ctx, stack.Orders, `SELECT count(*) FROM idempotency_keys WHERE expires_at < now()`)
		}
		r.Log("%d keys have expired", expired.RowsAffected())
		w.within(ctx, 20*time.Second, func() bool { return left() == 0 })
		r.Measure("expired rows left", left(), 0)
	},
}

var reconciliation = Experiment{
	ID:     "reconciliation",
	Says:   "The bank has sent a payout, and we do not know.",
	Fault:  "the bank's answer is lost",
	Code:   "services/payments/reconcile.go",
	Breaks: "payouts that the bank has sent and we do not know of",
	Ask: []Question{
		{
			Text: "The answer was lost, so our row says: unknown. The bank's statement is never fetched. Of how many payouts that were sent do we not know?",
			Of:   "payouts that the bank has sent and we do not know of", Choices: []string{"0", "1"},
			Why: "Nothing inside the system can find out. Only the other side's records tell.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		w.payable(ctx)
		w.misbehave(ctx, `[{"contract":"bank.transfers","fault":"lose_answer","times":1}]`)
		var p struct{ ID, Status string }
		a, _, err := w.Shop.InsistAt(ctx, w.Shop.Payments+"/v1/payouts", uuid.NewString(), w.payoutBody(), nil)
		must(err)
		must(json.Unmarshal(a.Body, &p))
		r.Log("POST /v1/payouts, %s: the bank sends it, its answer is lost: %d %s", money(w.Dice.Minor), a.Status, p.Status)
		known := func() int {
			return w.truth(ctx, stack.Payments, `SELECT count(*) FROM payouts WHERE 'pyo_' || id = $1 AND outcome = 'sent'`, p.ID)
		}
		w.within(ctx, 15*time.Second, func() bool {
			got(w.Shop.Post(ctx, w.Shop.Payments+"/v1/reconciliations", "", nil))
			return known() > 0
		})
		r.Log("POST /v1/reconciliations, again and again; payouts known as sent: %d", known())
		r.Measure("payouts that the bank has sent and we do not know of", w.transfers(ctx, p.ID)-known(), 0)
	},
}

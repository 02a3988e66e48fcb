package experiments

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

var acidTransaction = Experiment{
	ID:     "acid-transaction",
	Says:   "An order and its stock are written one after the other.",
	Fault:  "orders is killed after its first commit; the client sends the same request again",
	Code:   "services/orders/accept.go",
	Breaks: "taken from the shelf for it",
	Ask: []Question{
		{
			Text: "The order is committed; its lines and its stock, which are written next, are not. Orders is started again. How does the order end?",
			Of:   "the order", Choices: []string{"pending", "confirmed", "cancelled"},
			Why: "The order with its command is whole enough for every other service: the card is charged.",
		},
		{
			Text: "The client has no answer, and sends the same request again, with the same idempotency key. How many mugs are taken from the shelf in the end?",
			Of:   "taken from the shelf for it", Choices: []string{"0", "1", "2"},
			Why: "The key and its answer were in the first transaction. So the retry gets that answer, and orders does nothing. No row says that the second transaction is missing.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		key, body := w.placedBlind(ctx, r)
		o := got(w.Shop.Finished(ctx, w.newestOrder(ctx)))
		r.Log("orders is running again; the order is %s", o.Status)
		a, _, err := w.Shop.Insist(ctx, key, body, nil)
		must(err)
		r.Log("the client sends the same request again, with the same key: %d", a.Status)
		r.Measure("paid by the customer", money(w.charges(ctx, o.PaymentID)*w.price()), money(w.price()))
		r.Measure("taken from the shelf for it",
			w.truth(ctx, stack.Orders, `SELECT COALESCE(sum(quantity), 0)::int FROM order_lines WHERE 'ord_' || order_id = $1`, o.ID), w.Dice.Quantity)
		r.Fact("the order", o.Status)
	},
}

var atomicReadThenWrite = Experiment{
	ID:     "atomic-read-then-write",
	Says:   "Many buyers want the last one at the same moment.",
	Fault:  "all of them have read the stock before the first of them writes",
	Code:   "services/orders/stock.go",
	Breaks: "sold of the one on the shelf",
	Ask: []Question{
		{
			Text: "Twenty buyers read: 1 available. Each checks that 1 is enough, and then subtracts 1 (SET available = available - 1). No constraint limits the column. What does the row say in the end?",
			Of:   "available", Choices: []string{"1", "0", "-19"},
			Why: "No subtraction is lost: each one waits for the row and works on what is there. The decisions are wrong: all twenty rest on the 1 that was read before.",
		},
		{
			Text: "The same twenty subtract 1, and the column has a CHECK (available >= 0). How many are sold?", With: true,
			Of: "sold of the one on the shelf", Choices: []string{"0", "1", "20"},
			Why: "The second subtraction would make -1. The constraint is checked under the row's lock, on the value that would be written.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		sku := w.name("last-one")
		a := got(w.Shop.Offer(ctx, sku, []byte(`{"name":"The last one","price":{"minor":5000,"currency":"GBP"},"stock":1}`)))
		if a.Status != http.StatusCreated {
			panic(broken{fmt.Errorf("product %s: %s", sku, a)})
		}
		letGo, waiting := w.holdProduct(ctx, sku)
		// Disarmed when the last buyer passes it: each has read before it, and writes after it.
		must(w.Shop.Arm(ctx, w.System.URL[stack.Orders], fault.OrdersAcceptBeforeCommit, "delay", w.Dice.Crowd))
		var accepted atomic.Int32
		buyers := make(chan struct{})
		go func() {
			defer close(buyers)
			together(w.Dice.Crowd, func(int) {
				a, _, err := w.Shop.Insist(ctx, uuid.NewString(), w.Shop.Basket(w.token(ctx, shop.CardWorks), shop.Item{SKU: sku, Quantity: 1}), nil)
				if err == nil && a.Status == http.StatusAccepted {
					accepted.Add(1)
				}
			})
		}()
		await(ctx, "the buyers", func() bool { return waiting() > 0 && !w.armed(ctx, stack.Orders) })
		r.Log("%d buyers read: 1 available; the first of them is about to write", w.Dice.Crowd)
		letGo()
		<-buyers
		r.Log("orders answers 202, accepted, to %d of them", accepted.Load())
		r.Measure("sold of the one on the shelf", w.truth(ctx, stack.Orders, `SELECT (initial - available)::int FROM products WHERE sku = $1`, sku), 1)
		r.Fact("available", w.truth(ctx, stack.Orders, `SELECT available::int FROM products WHERE sku = $1`, sku))
	},
}

// holdProduct locks the row of a product until it is let go. waiting is how many
// transactions stand before it.
func (w *World) holdProduct(ctx context.Context, sku string) (letGo func(), waiting func() int) {
	tx := got(w.Truth.Orders.Begin(ctx))
	_, err := tx.Exec(ctx, `SELECT FROM products WHERE sku = $1 FOR UPDATE`, sku)
	must(err)
	us := tx.Conn().PgConn().PID()
	return func() { must(tx.Rollback(ctx)) }, func() int {
		return w.truth(ctx, stack.Orders, `SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))`, us)
	}
}

var idempotencyKeyExternal = Experiment{
	ID:     "idempotency-key-external",
	Says:   "The card processor does the work and its answer is lost.",
	Fault:  "the answer to the authorisation is lost; payments asks again",
	Code:   "services/payments/authorise.go",
	Breaks: "held or taken on the customer's card",
	Points: []string{fault.PaymentsAuthoriseAfterProcessor},
	Ask: []Question{
		{
			Text: "Payments cannot know whether the first call did anything, and repeats it. How much is held or taken for the one mug of 12.50?",
			Of:   "held or taken on the customer's card", Choices: []string{"0.00", "12.50", "25.00"},
			Why: "To the processor, two calls without a key are two customers.",
		},
		{
			Text: "How does the order end, with the second charge?",
			Of:   "the order", Choices: []string{"pending", "confirmed", "cancelled"},
			Why: "Nothing has failed. The merchant sees a good order; the customer sees two lines on the statement.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		w.misbehave(ctx, `[{"contract":"charges.create","fault":"lose_answer","times":1}]`)
		o := w.order(ctx, shop.CardWorks, w.mugs())
		r.Log("payments: POST /v1/charges at the processor: the work is done, the answer is lost; payments repeats the call")
		r.Log("the order is %s", o.Status)
		r.Measure("held or taken on the customer's card", money(w.charges(ctx, o.PaymentID)*w.price()), money(w.price()))
		r.Fact("the order", o.Status)
	},
}

var changeRecord = Experiment{
	ID:     "change-record",
	Says:   "The broker delivers a message twice.",
	Fault:  "the ledger is killed after its commit, before the acknowledgement; the message comes again",
	Code:   "shared/pattern/changerecord/change_record.go",
	Breaks: "booked as settled",
	Points: []string{fault.LedgerSettleAfterCommit},
	Ask: []Question{
		{
			Text: "Two guards are taken away: the inbox, and the constraint that lets one cause make one entry. The ledger has booked the settlement of one mug, 12.50, and dies before it acknowledges. The message comes again. How much is booked as settled?",
			Of:   "booked as settled", Choices: []string{"0.00", "12.50", "25.00"},
			Why: "The second delivery is handled like the first: nothing in the database says that its change was made. One of the two guards would have been enough.",
		},
		{
			Text: "The audit adds up the postings of each journal entry. How many entries do not sum to zero now?",
			Of:   "entries that do not sum to zero", Choices: []string{"0", "1", "2"},
			Why: "Both entries are right in themselves. No rule over a single entry finds this mistake.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		died := w.crashAt(ctx, stack.Ledger, fault.LedgerSettleAfterCommit)
		o := w.order(ctx, shop.CardWorks, w.mugs())
		r.Log("%s sold for %s; the processor says that it has settled", w.mugs(), money(w.price()))
		died()
		r.Log("the ledger books the settlement, and is killed before the acknowledgement; the message comes again")
		w.within(ctx, 4*time.Second, func() bool { return w.settled(ctx, o) > w.price() })
		r.Measure("booked as settled", money(w.settled(ctx, o)), money(w.price()))
		unbalanced := w.truth(ctx, stack.Ledger, `
			SELECT count(*) FROM (SELECT FROM postings GROUP BY entry_id HAVING sum(amount_minor) <> 0) wrong`)
		r.Log("entries that do not sum to zero: %d", unbalanced)
		r.Fact("entries that do not sum to zero", unbalanced)
	},
}

var ioInsideTransaction = Experiment{
	ID:     "io-inside-transaction",
	Says:   "The processor is called while a database transaction is open, and the processor is slow.",
	Fault:  "the processor takes almost two seconds for each authorisation; forty orders come in",
	Code:   "shared/platform/web/client.go",
	Breaks: "reads of payments answered within half a second, of 10",
	Ask: []Question{
		{
			Text: "Forty orders come in. The pool has 16 connections, so 16 authorisations wait for the processor, each inside a transaction. Of ten clients who only want to read a payment, how many are answered within half a second?",
			Of:   "reads of payments answered within half a second, of 10", Choices: []string{"0", "10"},
			Why: "Each waiting call keeps a connection. The pool is empty, and what is wrong looks like a slow database.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		before := w.order(ctx, shop.CardWorks, w.mugs())
		w.misbehave(ctx, `[{"contract":"charges.create","fault":"delay","delay_ms":1900}]`)
		const crowd = 40
		ids := make([]string, crowd)
		together(crowd, func(i int) {
			a, _, err := w.Shop.Insist(ctx, uuid.NewString(), w.Shop.Basket(w.token(ctx, shop.CardWorks), w.mugs()), nil)
			must(err)
			ids[i] = orderIn(a).ID
		})
		await(ctx, "the calls", func() bool { return w.asked(ctx) >= 16 })
		r.Log("%d orders placed; payments waits for the processor", crowd)
		var quick atomic.Int32
		together(10, func(int) {
			brief, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			if a, err := w.Shop.Get(brief, w.Shop.Payments+"/v1/payments/"+before.PaymentID); err == nil && a.Status == http.StatusOK {
				quick.Add(1)
			}
		})
		r.Log("ten clients read a payment: %d are answered within half a second", quick.Load())
		r.Measure("reads of payments answered within half a second, of 10", quick.Load(), 10)
		must(w.Shop.Misbehave(ctx, `{"rules":[]}`))
		for _, id := range ids {
			got(w.Shop.Finished(ctx, id))
		}
	},
}

var singleUseTokenRecovery = Experiment{
	ID:     "single-use-token-recovery",
	Says:   "A card token can be redeemed once, and the answer to our redemption is lost.",
	Fault:  "the answer to the redemption is lost; payments tries again",
	Code:   "services/payments/authorise.go",
	Breaks: "the order",
	Ask: []Question{
		{
			Text: "The processor has redeemed the token and its answer was lost. The second try is told: already used. How does the order end?",
			Of:   "the order", Choices: []string{"pending", "confirmed", "cancelled"},
			Why: "\"Already used\" sounds definite. The one who used it was payments itself.",
		},
		{
			Text: "And when payments then asks who has used it?", With: true,
			Of: "the order", Choices: []string{"pending", "confirmed", "cancelled"},
			Why: "The token was redeemed under this payment's reference: payments goes on with what it has bought.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		w.misbehave(ctx, `[{"contract":"payment_methods","fault":"lose_answer","times":1}]`)
		o := w.order(ctx, shop.CardWorks, w.mugs())
		r.Log("payments: redeem the token: done, the answer is lost; redeem it again: already used")
		r.Log("the order is %s %s", o.Status, o.Reason)
		r.Measure("the order", o.Status, "confirmed")
	},
}

package experiments

import (
	"context"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

var transactionalOutbox = Experiment{
	ID:     "transactional-outbox",
	Says:   "A service commits an order, and then tells the next service.",
	Fault:  "orders is killed after its commit, before its message is published; the client gives up",
	Code:   "shared/pattern/outbox/relay.go",
	Breaks: "orders that payments has heard of",
	Ask: []Question{
		{
			Text: "The order is committed, and orders is killed before the line that publishes the command to payments. Orders is started again, and no client asks again. What is the order eight seconds later?",
			Of:   "the order", Choices: []string{"pending", "confirmed", "cancelled"},
			Why: "Nothing in the database says that a message is owed, so a restart has nothing to go by. Payments has never heard of the order.",
		},
		{
			Text: "The message was committed as a row beside the order. What is the order now?", With: true,
			Of: "the order", Choices: []string{"pending", "confirmed", "cancelled"},
			Why: "The relay of the restarted process finds the row and publishes it; the client plays no part in this.",
		},
		{
			Text: "An order takes three commands: authorise, post the sale, capture. How many of their rows are in the outbox when it is finished?", With: true,
			Of: "rows in the outbox", Choices: []string{"0", "1", "3"},
			Why: "The relay deletes what the broker has confirmed. The outbox is no history, and an empty one means that nothing is owed.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		died := w.crashAt(ctx, stack.Orders, fault.OrdersAcceptAfterCommit)
		_, err := w.Shop.Place(ctx, uuid.NewString(), w.Shop.Basket(w.token(ctx, shop.CardWorks), w.mugs()))
		r.Log("POST /v1/orders, %s for %s: committed, then orders is killed: %s", w.mugs(), money(w.price()), answerTo(err))
		died()
		id := w.newestOrder(ctx)
		r.Log("orders is running again; the order stands in its database; the client never asks again")
		w.within(ctx, 8*time.Second, func() bool { return got(w.Shop.Order(ctx, id)).Status != "pending" })
		status := got(w.Shop.Order(ctx, id)).Status
		r.Log("then the order is %s", status)
		rows := func() int { return w.truth(ctx, stack.Orders, `SELECT count(*) FROM outbox`) }
		w.within(ctx, 4*time.Second, func() bool { return rows() == 0 })
		r.Log("rows in the outbox: %d", rows())
		r.Fact("rows in the outbox", rows())
		r.Measure("orders that payments has heard of", w.truth(ctx, stack.Payments, `SELECT count(*) FROM payments WHERE 'ord_' || order_id = $1`, id), 1)
		r.Fact("the order", status)
	},
}

var reliableRetries = Experiment{
	ID:     "reliable-retries",
	Says:   "A consumer cannot handle a message at the moment.",
	Fault:  "the ledger's handler of a settlement fails once, before its commit",
	Code:   "shared/pattern/reliableretries/reliable_retries.go",
	Breaks: "booked as settled",
	Ask: []Question{
		{
			Text: "The message fails once; the consumer writes a line to its log and takes the next one. How much is booked as settled for the mug of 12.50?",
			Of:   "booked as settled", Choices: []string{"0.00", "12.50"},
			Why: "No service waits for a reply to a settlement, so no completer sends it again. (The hourly reconciliation would; here it is off.)",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		must(w.Shop.Arm(ctx, w.System.URL[stack.Ledger], fault.LedgerSettleBeforeCommit, "error", 1))
		o := w.order(ctx, shop.CardWorks, w.mugs())
		r.Log("%s sold for %s; the processor has settled; the ledger fails at the message", w.mugs(), money(w.price()))
		w.within(ctx, 10*time.Second, func() bool { return w.settled(ctx, o) > 0 })
		r.Log("then %s are booked as settled", money(w.settled(ctx, o)))
		r.Measure("booked as settled", money(w.settled(ctx, o)), money(w.price()))
	},
}

// settled is how much the ledger has booked as settled for an order.
func (w *World) settled(ctx context.Context, o shop.Order) int {
	return w.truth(ctx, stack.Ledger, `
		SELECT COALESCE(sum(p.amount_minor), 0)::int
		  FROM postings p JOIN entries e ON e.id = p.entry_id
		 WHERE e.kind = 'settlement' AND e.reference = $1 AND p.account_id LIKE 'card\_receivable:%'`, o.PaymentID)
}

var outOfOrderMessages = Experiment{
	ID:     "out-of-order-messages",
	Says:   "News of the settlement overtakes our own record of the capture.",
	Fault:  "payments is slow to record the capture; the processor's webhook arrives before that",
	Code:   "services/payments/settle.go",
	Breaks: "booked as settled",
	Ask: []Question{
		{
			Text: "The webhook says: settled. The payment is not captured yet in our books, so there is nothing to settle, and the webhook is acknowledged. How much is booked as settled in the end?",
			Of:   "booked as settled", Choices: []string{"0.00", "12.50"},
			Why: "The sender has its 2xx and never sends it again. The merchant's money stays pending until reconciliation finds it; in the lab that runs only when it is asked to.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		must(w.Shop.ArmDelay(ctx, w.Shop.Payments, fault.PaymentsCaptureAfterProcessor, time.Second))
		o := w.order(ctx, shop.CardWorks, w.mugs())
		r.Log("charge.settled arrives; a second later payments records the capture; the order is %s", o.Status)
		w.within(ctx, 10*time.Second, func() bool { return w.settled(ctx, o) > 0 })
		r.Measure("booked as settled", money(w.settled(ctx, o)), money(w.price()))
	},
}

var sagaExperiment = Experiment{
	ID:     "saga",
	Says:   "The last step of an order is refused, after the others are done.",
	Fault:  "the card authorises and then refuses the capture",
	Code:   "services/orders/saga.go",
	Breaks: "held on the customer's card",
	Ask: []Question{
		{
			Text: "Stock is reserved, 12.50 held on the card, the sale booked; then the capture is refused, and the order is cancelled. What is still held on the card?",
			Of:   "held on the customer's card", Choices: []string{"0.00", "12.50"},
			Why: "Each of the four steps was a transaction of its own, in another database. Only another transaction takes one back.",
		},
		{
			Text: "The same with compensations. How does the order end?", With: true,
			Of: "the order", Choices: []string{"pending", "confirmed", "cancelled"},
			Why: "The saga turns around: reverse the sale, release the hold, release the stock, and only then cancel.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		o := w.order(ctx, shop.CardCaptureFails, w.mugs())
		r.Log("%s: stock reserved, %s held on the card, sale booked; the capture is refused", w.mugs(), money(w.price()))
		r.Log("the order is %s (%s)", o.Status, o.Reason)
		held := w.truth(ctx, stack.Sandbox, `
			SELECT COALESCE(sum(amount_minor), 0)::int
			  FROM processor_charges
			 WHERE reference = $1
			   AND status = 'authorised'`, o.PaymentID)
		sale := w.truth(ctx, stack.Ledger, `
			SELECT COALESCE(-sum(p.amount_minor), 0)::int
			  FROM postings p JOIN entries e ON e.id = p.entry_id
			 WHERE e.source = $1 AND p.account_id LIKE 'card\_receivable:%'`, o.ID)
		r.Log("the books say that the card owes %s for it", money(sale))
		r.Measure("held on the customer's card", money(held), "0.00")
		r.Measure("units reserved", w.truth(ctx, stack.Orders, `SELECT sum(reserved)::int FROM products WHERE sku = 'mug'`), 0)
		r.Fact("the order", o.Status)
	},
}

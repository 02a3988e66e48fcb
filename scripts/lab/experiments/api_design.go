package experiments

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

// placedBlind places an order whose answer never comes: orders is killed after its
// commit. It returns what the client needs for a retry.
func (w *World) placedBlind(ctx context.Context, r *Run) (key string, body []byte) {
	died := w.crashAt(ctx, stack.Orders, fault.OrdersAcceptAfterCommit)
	key, body = uuid.NewString(), w.Shop.Basket(w.token(ctx, shop.CardWorks), w.mugs())
	_, err := w.Shop.Place(ctx, key, body)
	r.Log("POST /v1/orders, %s for %s: committed, then orders is killed: %s", w.mugs(), money(w.price()), answerTo(err))
	died()
	return key, body
}

// ordersPlaced counts the orders of the shop.
func (w *World) ordersPlaced(ctx context.Context) int {
	return w.truth(ctx, stack.Orders, `SELECT count(*) FROM orders`)
}

var idempotencyKey = Experiment{
	ID:     "idempotency-key",
	Says:   "The answer to an order is lost; the client sends it again.",
	Fault:  "orders is killed after its commit, before the answer; the client retries",
	Code:   "services/orders/accept.go",
	Breaks: "orders placed",
	Points: []string{fault.OrdersAcceptAfterCommit},
	Ask: []Question{
		{
			Text: "The client wants one mug, has no answer, and sends the same request again. How many orders are placed?",
			Of:   "orders placed", Choices: []string{"0", "1", "2"},
			Why: "The order was committed before the process died. To the server the second request is another customer's.",
		},
		{
			Text: "The id of the first order has reached no client. How does that order end?",
			Of:   "the first order", Choices: []string{"pending", "confirmed", "cancelled"},
			Why: "What is committed goes on without its client: the card is charged, and the client knows of the second order only.",
		},
		{
			Text: "With the same key both times, what is the retry answered with?", With: true,
			Of: "the retry is answered with", Choices: []string{"202", "409", "422"},
			Why: "The key is known, so the retry gets the answer of the first request, and not an error.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		before := w.ordersPlaced(ctx)
		key, body := w.placedBlind(ctx, r)
		first := w.newestOrder(ctx)
		end := got(w.Shop.Finished(ctx, first)).Status // the client is slow: of two orders with one card token, the first has redeemed it
		a, _, err := w.Shop.Insist(ctx, key, body, nil)
		must(err)
		r.Log("the client does not know whether it was placed, and sends the same again: %d", a.Status)
		r.Log("the first order is %s", end)
		r.Measure("orders placed", w.ordersPlaced(ctx)-before, 1)
		r.Fact("the first order", end)
		r.Fact("the retry is answered with", a.Status)
	},
}

var rejectNonIdentical = Experiment{
	ID:     "reject-non-identical",
	Says:   "A client with a bug sends another basket under a key that it has used.",
	Fault:  "one key, two baskets",
	Code:   "shared/pattern/idempotency/fingerprint.go",
	Breaks: "accepted and never ordered",
	Ask: []Question{
		{
			Text: "A mug under a key, then a poster under the same key. The server compares nothing but the key. What is the second request answered with?",
			Of:   "the poster is answered with", Choices: []string{"202", "409", "422"},
			Why: "The key is known, so the second request gets the recorded answer of the first one: accepted, with the order of the mug.",
		},
		{
			Text: "And with the comparison of the fingerprints?", With: true,
			Of: "the poster is answered with", Choices: []string{"202", "409", "422"},
			Why: "The key stands for another request. Neither answer to give is right, so the client is told of its bug.",
		},
		{
			Text: "After that, the client sends the request for the mug once more, byte for byte, under the same key. What is it answered with?", With: true,
			Of: "the mug is then answered with", Choices: []string{"202", "409", "422"},
			Why: "A refusal writes nothing. The key still has the fingerprint and the answer of its first request.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		before, key := w.ordersPlaced(ctx), uuid.NewString()
		basket := func(sku string) []byte {
			return w.Shop.Basket(w.token(ctx, shop.CardWorks), shop.Item{SKU: sku, Quantity: w.Dice.Quantity})
		}
		place := func(what string, body []byte) int {
			a := got(w.Shop.Place(ctx, key, body))
			r.Log("POST /v1/orders, %d %s, under one key: %d", w.Dice.Quantity, what, a.Status)
			return a.Status
		}
		mug := basket("mug")
		first, poster := place("mug", mug), place("poster", basket("poster"))
		again := place("mug once more", mug)
		accepted := 0
		for _, status := range []int{first, poster} { // the third asks for nothing new
			if status == http.StatusAccepted {
				accepted++
			}
		}
		r.Measure("accepted and never ordered", accepted-(w.ordersPlaced(ctx)-before), 0)
		r.Fact("the poster is answered with", poster)
		r.Fact("the mug is then answered with", again)
	},
}

var callbackExperiment = Experiment{
	ID:     "callback",
	Says:   "The merchant's endpoint is down when the order is finished.",
	Fault:  "the endpoint refuses the first two tries",
	Code:   "shared/pattern/callback/worker.go",
	Breaks: "times that the merchant was told",
	Ask: []Question{
		{
			Text: "The order is confirmed; the notification is sent once, and refused. How often is the merchant told?",
			Of:   "times that the merchant was told", Choices: []string{"0", "1", "3"},
			Why: "A warning in a log is all that is left of it.",
		},
		{
			Text: "With three tries, under how many webhook-ids?", With: true,
			Of: "webhook-ids", Choices: []string{"1", "2", "3"},
			Why: "A merchant that got the first try after all must see that the second is the same notification.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		w.misbehave(ctx, `[{"contract":"merchant","fault":"refuse","times":2}]`)
		o := w.order(ctx, shop.CardWorks, w.mugs())
		r.Log("the order is %s; POST to the merchant: refused", o.Status)
		heard := func() int {
			return w.truth(ctx, stack.Sandbox, `SELECT count(*) FROM merchant_deliveries WHERE order_id = $1 AND answered BETWEEN 200 AND 299`, o.ID)
		}
		w.within(ctx, 10*time.Second, func() bool { return heard() > 0 })
		r.Log("tries until then, or within ten seconds: %d", w.truth(ctx, stack.Orders, `SELECT attempts FROM callbacks WHERE subject = $1`, o.ID))
		r.Measure("times that the merchant was told", heard(), 1)
		r.Measure("webhook-ids", w.truth(ctx, stack.Sandbox, `SELECT count(DISTINCT webhook_id) FROM merchant_deliveries WHERE order_id = $1`, o.ID), 1)
	},
}

var responseRecord = Experiment{
	ID:     "response-record",
	Says:   "The world changes between the first answer and the retry.",
	Fault:  "the order is cancelled in between; the client retries its POST",
	Code:   "shared/pattern/idempotency/response.go",
	Breaks: "different answers to one request",
	Ask: []Question{
		{
			Text: "The first answer said: pending. Then the card was declined, and the order is cancelled. The client retries its POST. What does it read as the status of the order?", With: true,
			Of: "the retry reads", Choices: []string{"pending", "confirmed", "cancelled"},
			Why: "The retry gets the very bytes of the first answer: one request, one answer. What the order is now, GET tells.",
		},
		{
			Text: "The server keeps the key and not the answer: it looks the order up and shows it. With which status code, and which status of the order, is the retry answered?",
			Of:   "the retry is answered with", Choices: []string{"202, pending", "202, cancelled", "409, cancelled"},
			Why: "The code says that the request was accepted, and the body that the order is cancelled. The client's first answer, had it arrived, was another one.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		key, body := uuid.NewString(), w.Shop.Basket(w.token(ctx, shop.CardDeclined), w.mugs())
		first, _, err := w.Shop.Insist(ctx, key, body, nil)
		must(err)
		r.Log("POST /v1/orders: %d, %s", first.Status, orderIn(first).Status)
		end := got(w.Shop.Finished(ctx, orderIn(first).ID))
		second, _, err := w.Shop.Insist(ctx, key, body, nil)
		must(err)
		r.Log("the card is declined, the order is %s; the same POST again: %d, %s", end.Status, second.Status, orderIn(second).Status)
		answers := 1
		if first.Status != second.Status || !bytes.Equal(first.Body, second.Body) {
			answers = 2
		}
		r.Measure("different answers to one request", answers, 1)
		r.Log("GET of the order: %s", got(w.Shop.Order(ctx, end.ID)).Status)
		r.Fact("the retry reads", orderIn(second).Status)
		r.Fact("the retry is answered with", fmt.Sprintf("%d, %s", second.Status, orderIn(second).Status))
	},
}

var rejectDuplicate = Experiment{
	ID:     "reject-duplicate",
	Says:   "A retry is told that it is a duplicate.",
	Fault:  "orders is killed after its commit, before the answer; the client retries with its key",
	Code:   "services/orders/accept.go",
	Breaks: "the retry is answered with",
	Ask: []Question{
		{
			Text: "The order is placed, its answer lost. The retry is a duplicate, and is told so. What does the client have in the end?",
			Of:   "the client has", Choices: []string{"the order's id", "an error and no id"},
			Why: "The refusal is true and of no use: the client cannot tell it from \"somebody else has used your key\".",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		key, body := w.placedBlind(ctx, r)
		a, _, err := w.Shop.Insist(ctx, key, body, nil)
		must(err)
		has := "an error and no id"
		if orderIn(a).ID != "" {
			has = "the order's id"
		}
		r.Log("the same again: %d; the client has %s", a.Status, has)
		r.Measure("the retry is answered with", a.Status, http.StatusAccepted)
		r.Fact("the client has", has)
	},
}

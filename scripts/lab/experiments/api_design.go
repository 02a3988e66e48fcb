package experiments

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

var idempotencyKey = Experiment{
	ID:    "idempotency-key",
	Says:  "The answer to an order is lost; the client sends it again.",
	Fault: "the process dies after one of the commits, before the answer; the client retries",
	Code:  "services/orders/accept.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE orders (id serial, sku text)`)
		post := func(dies bool) error {
			w.exec(ctx, `INSERT INTO orders (sku) VALUES ('mug')`)
			if dies {
				return errCrash
			}
			return nil
		}
		for range w.Dice.Hit - 1 {
			must(post(false))
		}
		r.Log("POST /orders: %v", post(true))
		r.Log("the client does not know whether it was placed, and sends it again")
		r.Log("POST /orders: %s", with("201", post(false)))
		n := w.number(ctx, `SELECT count(*) FROM orders`)
		return verdict(n == w.Dice.Hit, "%d wanted, %d ordered", w.Dice.Hit, n)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		before := w.truth(ctx, stack.Orders, `SELECT count(*) FROM orders`)
		died := w.crashAt(ctx, stack.Orders, fault.OrdersAcceptAfterCommit, w.Dice.Hit)
		w.orders(ctx, w.Dice.Hit-1)
		key, body := uuid.NewString(), w.Shop.Basket(w.token(ctx, shop.CardWorks), w.mugs())
		_, err := w.Shop.Place(ctx, key, body)
		r.Log("POST /v1/orders: %s", answerTo(err))
		died()
		a, tries, err := w.Shop.Insist(ctx, key, body, nil)
		must(err)
		r.Log("again with the same key: %d, Idempotent-Replayed: %s (%d tries)", a.Status, a.Header.Get("Idempotent-Replayed"), tries)
		w.quiet(ctx)
		n := w.truth(ctx, stack.Orders, `SELECT count(*) FROM orders`) - before
		return verdict(n == w.Dice.Hit, "%d wanted, %d ordered", w.Dice.Hit, n)
	},
}

// baskets are two different things to buy.
func (w *World) baskets() []string {
	all := []string{"mug", "shirt", "poster", "mug"}
	return all[w.Dice.Hit-1 : w.Dice.Hit+1]
}

var rejectNonIdentical = Experiment{
	ID:    "reject-non-identical",
	Says:  "A client with a bug sends another basket under a key that it has used.",
	Fault: "one key, two baskets",
	Code:  "shared/pattern/idempotency/fingerprint.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE orders (key text PRIMARY KEY, sku text)`)
		post := func(key, sku string) (status int, ordered string) {
			w.exec(ctx, `INSERT INTO orders VALUES ($1, $2) ON CONFLICT DO NOTHING`, key, sku)
			must(w.Naive.QueryRow(ctx, `SELECT sku FROM orders WHERE key = $1`, key).Scan(&ordered))
			return http.StatusCreated, ordered
		}
		baskets := w.baskets()
		for _, sku := range baskets {
			status, ordered := post("key-1", sku)
			r.Log("POST %s under key-1: %d, ordered: %s", sku, status, ordered)
		}
		n := w.number(ctx, `SELECT count(*) FROM orders`)
		return verdict(n == len(baskets), "%d baskets answered with 201, %d of them ordered; the %s is gone without a word", len(baskets), n, baskets[1])
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		key := uuid.NewString()
		before := w.truth(ctx, stack.Orders, `SELECT count(*) FROM orders`)
		var statuses []int
		for _, sku := range w.baskets() {
			a := got(w.Shop.Place(ctx, key, w.Shop.Basket(w.token(ctx, shop.CardWorks), shop.Item{SKU: sku, Quantity: w.Dice.Quantity})))
			r.Log("POST %s under one key: %d", sku, a.Status)
			statuses = append(statuses, a.Status)
		}
		w.quiet(ctx)
		n := w.truth(ctx, stack.Orders, `SELECT count(*) FROM orders`) - before
		return verdict(n == 1 && statuses[1] == http.StatusUnprocessableEntity, "the second basket is refused with %d, and nothing is written", statuses[1])
	},
}

var callbackExperiment = Experiment{
	ID:    "callback",
	Says:  "The merchant's endpoint is down when the order is finished.",
	Fault: "the endpoint is closed at the first tries",
	Code:  "shared/pattern/callback/worker.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		// Once, after the commit, best effort; signed as it should be.
		notify := func(order string) (int, error) {
			return w.signed(ctx, w.System.URL[stack.Sandbox]+"/merchant/webhooks/mer_acme",
				fmt.Appendf(nil, `{"type":"order.confirmed","data":{"id":%q}}`, order))
		}
		heard := func(order string) int {
			return w.truth(ctx, "sandbox", `SELECT count(*) FROM merchant_deliveries WHERE order_id = $1 AND answered BETWEEN 200 AND 299`, order)
		}
		before, order := "ord_"+uuid.NewString(), "ord_"+uuid.NewString()
		status, err := notify(before)
		r.Log("an order while the endpoint is open: POST to the merchant: %s, heard %d time", with(strconv.Itoa(status), err), heard(before))
		w.misbehave(ctx, w.closedAtFirst())
		status, err = notify(order)
		r.Log("order confirmed; POST to the merchant: %s", with(strconv.Itoa(status), err))
		r.Log("logged as a warning; nobody sends it again")
		return verdict(heard(order) > 0 || heard(before) == 0, "the merchant heard of it %d times", heard(order))
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		w.misbehave(ctx, w.closedAtFirst())
		o := w.order(ctx, shop.CardWorks, w.mugs())
		r.Log("order %s", o.Status)
		w.quiet(ctx)
		tries := w.truth(ctx, stack.Orders, `SELECT attempts FROM callbacks WHERE subject = $1`, o.ID)
		taken := w.truth(ctx, "sandbox", `SELECT count(*) FROM merchant_deliveries WHERE order_id = $1 AND answered BETWEEN 200 AND 299 AND signature_valid`, o.ID)
		signed := w.truth(ctx, "sandbox", `SELECT count(*) FROM merchant_deliveries WHERE order_id = $1 AND signature_valid`, o.ID)
		ids := w.truth(ctx, "sandbox", `SELECT count(DISTINCT webhook_id) FROM merchant_deliveries WHERE order_id = $1`, o.ID)
		r.Log("%d tries, %d with a valid signature, under %d webhook-id", tries, signed, ids)
		return verdict(taken == 1 && ids == 1 && signed == tries && tries == w.closedTries()+1, "delivered at try %d, under %d webhook-id", tries, ids)
	},
}

// closedTries is how many tries the merchant's endpoint is closed for.
func (w *World) closedTries() int { return w.Dice.Hit + 1 }

func (w *World) closedAtFirst() string {
	return fmt.Sprintf(`[{"contract":"merchant","fault":"refuse","times":%d}]`, w.closedTries())
}

var responseRecord = Experiment{
	ID:    "response-record",
	Says:  "The world changes between the first answer and the retry.",
	Fault: "the order is cancelled in between; the client retries its POST",
	Code:  "shared/pattern/idempotency/response.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		// The key is known, and the answer is made from what is there now.
		w.exec(ctx, `CREATE TABLE orders (key text PRIMARY KEY, status text DEFAULT 'pending')`)
		post := func() (answer string) {
			w.exec(ctx, `INSERT INTO orders (key) VALUES ('key-1') ON CONFLICT DO NOTHING`)
			must(w.Naive.QueryRow(ctx, `SELECT format('{"status":"%s"}', status) FROM orders WHERE key = 'key-1'`).Scan(&answer))
			return answer
		}
		first := post()
		r.Log("POST: %s", first)
		w.exec(ctx, `UPDATE orders SET status = 'cancelled'`)
		second := post()
		r.Log("the order is cancelled; POST again: %s", second)
		return verdict(first == second, "2 different answers to one request")
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		key, body := uuid.NewString(), w.Shop.Basket(w.token(ctx, shop.CardDeclined), w.mugs())
		first, _, err := w.Shop.Insist(ctx, key, body, nil)
		must(err)
		r.Log("POST: %d, %d bytes", first.Status, len(first.Body))
		w.quiet(ctx)
		r.Log("the card was declined; the order is cancelled")
		second, _, err := w.Shop.Insist(ctx, key, body, nil)
		must(err)
		r.Log("POST again: %d, %d bytes, Idempotent-Replayed: %s", second.Status, len(second.Body), second.Header.Get("Idempotent-Replayed"))
		same := first.Status == second.Status && bytes.Equal(first.Body, second.Body)
		return verdict(same, "byte-identical: %s", fmt.Sprint(same))
	},
}

var rejectDuplicate = Experiment{
	ID:    "reject-duplicate",
	Says:  "A retry is told that it is a duplicate.",
	Fault: "the process dies after the commit, before the answer; the client retries with its key",
	Code:  "services/orders/accept.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE orders (id text, key text PRIMARY KEY)`)
		post := func(dies bool) (status int, id string) {
			_, err := w.Naive.Exec(ctx, `INSERT INTO orders VALUES ('order-1', 'key-1')`)
			switch {
			case err != nil:
				return http.StatusConflict, "" // "duplicate key": what more could it want?
			case dies:
				return 0, ""
			}
			return http.StatusCreated, "order-1"
		}
		post(true)
		r.Log("POST: the process dies, no answer")
		status, id := post(false)
		r.Log("POST again: %d duplicate", status)
		return verdict(id != "", "the client got %d and no order id; the order exists", status)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		died := w.crashAt(ctx, stack.Orders, fault.OrdersAcceptAfterCommit, w.Dice.Hit)
		w.orders(ctx, w.Dice.Hit-1)
		key, body := uuid.NewString(), w.Shop.Basket(w.token(ctx, shop.CardWorks), w.mugs())
		_, _ = w.Shop.Place(ctx, key, body)
		r.Log("POST: the process dies, no answer")
		died()
		a, _, err := w.Shop.Insist(ctx, key, body, nil)
		must(err)
		r.Log("POST again: %d, Location: %s", a.Status, a.Header.Get("Location"))
		w.quiet(ctx)
		return verdict(a.Status == http.StatusAccepted && a.Header.Get("Location") != "", "the client got %d and the order's id", a.Status)
	},
}

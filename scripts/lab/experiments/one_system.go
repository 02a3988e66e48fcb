package experiments

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

var acidTransaction = Experiment{
	ID:    "acid-transaction",
	Says:  "An order and its stock are written one after the other.",
	Fault: "the process dies between the two writes",
	Code:  "services/orders/accept.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE products (available int); INSERT INTO products VALUES (10); CREATE TABLE orders (id serial)`)
		place := func(dies bool) error {
			w.exec(ctx, `UPDATE products SET available = available - 1`)
			if dies {
				return errCrash
			}
			w.exec(ctx, `INSERT INTO orders DEFAULT VALUES`)
			return nil
		}
		r.Log("stock taken, then: %v", place(true))
		gone, orders := 10-w.number(ctx, `SELECT available FROM products`), w.number(ctx, `SELECT count(*) FROM orders`)
		return verdict(gone == orders, "%d gone from the shelf, %d ordered", gone, orders)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		shelf := func() int {
			return w.truth(ctx, stack.Orders, `SELECT (initial - available)::int FROM products WHERE sku = 'poster' AND merchant_id = 'mer_acme'`)
		}
		ordered := func() int {
			return w.truth(ctx, stack.Orders, `SELECT COALESCE(sum(l.quantity), 0)::int FROM order_lines l JOIN orders o ON o.id = l.order_id WHERE l.sku = 'poster' AND o.status <> 'cancelled' AND o.merchant_id = 'mer_acme'`)
		}
		died := w.crashAt(ctx, stack.Orders, fault.OrdersAcceptBeforeCommit)
		_, err := w.Shop.Place(ctx, uuid.NewString(), w.Shop.Basket(w.token(ctx, shop.CardWorks), shop.Item{SKU: "poster", Quantity: 1}))
		r.Log("POST /v1/orders: no answer (%v); the client gives up", err != nil)
		died()
		w.quiet(ctx)
		return verdict(shelf() == ordered(), "%d gone from the shelf, %d ordered: all or nothing", shelf(), ordered())
	},
}

var atomicReadThenWrite = Experiment{
	ID:    "atomic-read-then-write",
	Says:  "Many buyers want the last one at the same moment.",
	Fault: "20 buyers at once",
	Code:  "services/orders/stock.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE products (available int); INSERT INTO products VALUES (1); CREATE TABLE orders (id serial)`)
		var everybodyHasRead, buyers sync.WaitGroup
		everybodyHasRead.Add(20)
		for range 20 {
			buyers.Go(func() {
				available := w.number(ctx, `SELECT available FROM products`)
				everybodyHasRead.Done()
				everybodyHasRead.Wait() // the moment that a slow network makes
				if available > 0 {
					w.exec(ctx, `UPDATE products SET available = $1`, available-1)
					w.exec(ctx, `INSERT INTO orders DEFAULT VALUES`)
				}
			})
		}
		buyers.Wait()
		sold := w.number(ctx, `SELECT count(*) FROM orders`)
		r.Log("everybody read: 1 available; everybody wrote: 0 available")
		return verdict(sold == 1, "1 on the shelf, %d sold", sold)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		sku := w.name("rare")
		product := map[string]any{"name": "The only one", "price": map[string]any{"minor": 100, "currency": "GBP"}, "stock": 1}
		status, err := w.call(ctx, http.MethodPut, w.Shop.Orders+"/v1/products/"+sku,
			map[string]string{"Authorization": "Bearer " + w.Shop.Key, "If-None-Match": "*"}, product, nil)
		must(err)
		if status >= http.StatusMultipleChoices {
			panic(broken{fmt.Errorf("product %s: status %d", sku, status)})
		}
		var mu sync.Mutex
		statuses := map[int]int{}
		var buyers sync.WaitGroup
		for range 20 {
			token := w.token(ctx, shop.CardWorks)
			buyers.Go(func() {
				a, _, err := w.Shop.Insist(ctx, uuid.NewString(), w.Shop.Basket(token, shop.Item{SKU: sku, Quantity: 1}), nil)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					statuses[a.Status]++
				}
			})
		}
		buyers.Wait()
		w.quiet(ctx)
		r.Log("20 buyers: %d accepted, %d told that it is sold out", statuses[http.StatusAccepted], 20-statuses[http.StatusAccepted])
		sold := w.truth(ctx, stack.Orders, `SELECT sold::int FROM products WHERE sku = $1`, sku)
		return verdict(sold == 1 && statuses[http.StatusAccepted] == 1, "1 on the shelf, %d sold", sold)
	},
}

var idempotencyKeyExternal = Experiment{
	ID:    "idempotency-key-external",
	Says:  "The card processor does the work and its answer is lost.",
	Fault: "the answer to the authorisation is lost; we try again",
	Code:  "services/payments/authorise.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		reference := w.name("naive")
		method := w.paymentMethod(ctx, shop.CardWorks, reference)
		w.misbehave(ctx, `[{"contract":"charges.create","fault":"lose_answer","times":1}]`)
		_, err := w.charge(ctx, "", method, reference)
		r.Log("POST /v1/charges: no answer (%v)", err != nil)
		id, err := w.charge(ctx, "", method, reference)
		r.Log("POST /v1/charges again: %s… %v", id[:9], err)
		n := w.charges(ctx, reference)
		return verdict(n == 1, "%d charges on the customer's card", n)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		w.misbehave(ctx, `[{"contract":"charges.create","fault":"lose_answer","times":1}]`)
		o := w.order(ctx, shop.CardWorks, mug)
		r.Log("the processor's answer was lost; the same call was made again with the same key")
		r.Log("order %s", o.Status)
		w.quiet(ctx)
		n := w.charges(ctx, o.PaymentID)
		return verdict(n == 1 && o.Status == "confirmed", "%d charge", n)
	},
}

var changeRecord = Experiment{
	ID:    "change-record",
	Says:  "The broker delivers a message twice.",
	Fault: "the consumer dies after its commit, before the acknowledgement; the message comes again",
	Code:  "shared/pattern/inbox/change_record.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE accounts (balance int); INSERT INTO accounts VALUES (0)`)
		handle := func() { w.exec(ctx, `UPDATE accounts SET balance = balance + 1250`) }
		handle()
		r.Log("message 1: balance + 12.50, committed; the process dies before the acknowledgement")
		handle()
		r.Log("message 1, delivered again: balance + 12.50")
		n := w.number(ctx, `SELECT balance FROM accounts`)
		return verdict(n == 1250, "the balance moved by %d.%02d instead of 12.50", n/100, n%100)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		died := w.crashAt(ctx, stack.Ledger, fault.LedgerSaleAfterCommit)
		o := w.order(ctx, shop.CardWorks, mug)
		died()
		r.Log("the sale was committed, the ledger died before the acknowledgement, the message came again")
		w.quiet(ctx)
		n := w.truth(ctx, stack.Ledger, `SELECT count(*) FROM entries WHERE source = $1 AND kind = 'sale'`, o.ID)
		return verdict(n == 1, "booked %d time", n)
	},
}

var ioInsideTransaction = Experiment{
	ID:    "io-inside-transaction",
	Says:  "The processor is called while a database transaction is open.",
	Fault: "the process dies between the call and the commit",
	Code:  "shared/platform/web/client.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE payments (reference text, charge text)`)
		reference := w.name("naive")
		method := w.paymentMethod(ctx, shop.CardWorks, reference)
		err := pgx.BeginFunc(ctx, w.Naive, func(tx pgx.Tx) error {
			id, err := w.charge(ctx, reference, method, reference)
			must(err)
			_, err = tx.Exec(ctx, `INSERT INTO payments VALUES ($1, $2)`, reference, id)
			must(err)
			r.Log("BEGIN; POST /v1/charges: %s…; INSERT", id[:9])
			return errCrash
		})
		r.Log("%v: the database rolls back, the processor does not", err)
		charged, known := w.charges(ctx, reference), w.number(ctx, `SELECT count(*) FROM payments`)
		return verdict(charged == known, "%d charge at the processor, %d in our books", charged, known)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		refused := refusedInsideTransaction(ctx, w)
		r.Log("our HTTP client, asked to call inside a transaction: %v", refused)
		died := w.crashAt(ctx, stack.Payments, fault.PaymentsAuthoriseAfterProcessor)
		o := w.order(ctx, shop.CardWorks, mug)
		died()
		r.Log("so the call is made between two transactions; killed there, it is made again with its key")
		w.quiet(ctx)
		charged := w.charges(ctx, o.PaymentID)
		known := w.truth(ctx, stack.Payments, `SELECT count(*) FROM payments WHERE 'pay_' || id = $1 AND status = 'captured'`, o.PaymentID)
		return verdict(refused != nil && charged == known, "%d charge at the processor, %d in our books; the mistake itself is refused", charged, known)
	},
}

var singleUseTokenRecovery = Experiment{
	ID:    "single-use-token-recovery",
	Says:  "A card token can be redeemed once, and we die after redeeming it.",
	Fault: "the answer to the redemption is lost; we try again",
	Code:  "services/payments/authorise.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		token, reference := w.token(ctx, shop.CardWorks), w.name("naive")
		w.misbehave(ctx, `[{"contract":"payment_methods","fault":"lose_answer","times":1}]`)
		redeem := func() (int, error) {
			return w.processor(ctx, "/v1/payment_methods", "", map[string]string{"token": token, "reference": reference}, nil)
		}
		_, err := redeem()
		r.Log("redeem the token: no answer (%v)", err != nil)
		status, err := redeem()
		must(err)
		r.Log("redeem it again: %d, already used; the order fails", status)
		return verdict(status < http.StatusMultipleChoices, "the order failed with %d, although the token was ours", status)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		w.misbehave(ctx, `[{"contract":"payment_methods","fault":"lose_answer","times":1}]`)
		o := w.order(ctx, shop.CardWorks, mug)
		r.Log("the answer was lost; \"already used\" by whom? The reference is ours: go on from there")
		w.quiet(ctx)
		return verdict(o.Status == "confirmed", "the order is %s", o.Status)
	},
}

package experiments

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

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
		w.exec(ctx, `CREATE TABLE products (available int); INSERT INTO products VALUES (10); CREATE TABLE orders (quantity int)`)
		place := func(quantity int, dies bool) error {
			w.exec(ctx, `UPDATE products SET available = available - $1`, quantity)
			if dies {
				return errCrash
			}
			w.exec(ctx, `INSERT INTO orders VALUES ($1)`, quantity)
			return nil
		}
		r.Log("stock taken, then: %v", place(w.Dice.Quantity, true))
		gone, ordered := 10-w.number(ctx, `SELECT available FROM products`), w.number(ctx, `SELECT COALESCE(sum(quantity), 0) FROM orders`)
		return verdict(gone == ordered, "%d gone from the shelf, %d ordered", gone, ordered)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		before := w.posters(ctx)
		letGo, waiting := w.holdPosters(ctx)
		died := w.dying(ctx, stack.Orders, "its own transaction")
		body := w.Shop.Basket(w.token(ctx, shop.CardWorks), shop.Item{SKU: "poster", Quantity: w.Dice.Quantity})
		noAnswer := make(chan error, 1)
		go func() {
			_, err := w.Shop.Place(ctx, uuid.NewString(), body)
			noAnswer <- err
		}()
		var found []waiter
		await(ctx, "the order to reach the stock", func() bool { found = waiting(); return len(found) > 0 })
		r.Log("POST /v1/orders: the order is written, in a transaction whose %s waits for us to let go of the row", found[0].Does)
		w.System.Signal(stack.Orders, syscall.SIGKILL)
		died()
		// The database would notice the death when it next writes to that connection:
		// after the commit. This is a machine that died, connections and all.
		await(ctx, "the end of its transaction", func() bool { return w.end(ctx, waiting()) == 0 })
		letGo()
		r.Log("killed there, and its transaction with it: %s; the client gives up", answerTo(<-noAnswer))
		w.quiet(ctx)
		after := w.posters(ctx)
		gone, ordered := after.gone-before.gone, after.ordered-before.ordered
		return verdict(gone == 0 && ordered == 0, "%d gone from the shelf, %d ordered", gone, ordered)
	},
}

// posters is where the posters are.
type posters struct{ gone, ordered int }

func (w *World) posters(ctx context.Context) posters {
	return posters{
		gone:    w.truth(ctx, stack.Orders, `SELECT (initial - available)::int FROM products WHERE sku = 'poster' AND merchant_id = 'mer_acme'`),
		ordered: w.truth(ctx, stack.Orders, `SELECT COALESCE(sum(l.quantity), 0)::int FROM order_lines l JOIN orders o ON o.id = l.order_id WHERE l.sku = 'poster' AND o.merchant_id = 'mer_acme'`),
	}
}

// holdPosters locks the poster's row until it is let go. waiting are the
// transactions that stand before it: their process ids, with what they want to do.
func (w *World) holdPosters(ctx context.Context) (letGo func(), waiting func() []waiter) {
	tx := got(w.Truth.Orders.Begin(ctx))
	_, err := tx.Exec(ctx, `SELECT FROM products WHERE sku = 'poster' AND merchant_id = 'mer_acme' FOR UPDATE`)
	must(err)
	us := tx.Conn().PgConn().PID()
	waiting = func() []waiter {
		rows, err := w.Truth.Orders.Query(ctx, `
			SELECT pid, COALESCE(substring(query FROM '(?i)update +[a-z]+'), 'statement')
			  FROM pg_stat_activity
			 WHERE $1 = ANY(pg_blocking_pids(pid))`, us)
		must(err)
		return got(pgx.CollectRows(rows, pgx.RowToStructByPos[waiter]))
	}
	return func() { must(tx.Rollback(ctx)) }, waiting
}

type waiter struct {
	PID  int
	Does string
}

// end ends transactions, as their machine's death would, and returns how many there were.
func (w *World) end(ctx context.Context, all []waiter) int {
	for _, each := range all {
		_, err := w.Truth.Orders.Exec(ctx, `SELECT pg_terminate_backend($1)`, each.PID)
		must(err)
	}
	return len(all)
}

var atomicReadThenWrite = Experiment{
	ID:    "atomic-read-then-write",
	Says:  "Many buyers want the last one at the same moment, and two editors change one product.",
	Fault: "all of them have read before the first of them writes",
	Code:  "services/orders/stock.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE products (available int, name text, minor int); INSERT INTO products VALUES (1, 'Rare', 100); CREATE TABLE orders (id serial)`)
		everybodyHasRead := barrier(ctx, w.Dice.Crowd)
		together(w.Dice.Crowd, func(int) {
			available := w.number(ctx, `SELECT available FROM products`)
			everybodyHasRead() // the moment that a slow network makes
			if available > 0 {
				w.exec(ctx, `UPDATE products SET available = $1`, available-1)
				w.exec(ctx, `INSERT INTO orders DEFAULT VALUES`)
			}
		})
		sold := w.number(ctx, `SELECT count(*) FROM orders`)
		r.Log("%d buyers read: 1 available; all of them wrote: 0 available", w.Dice.Crowd)
		var name string
		must(w.Naive.QueryRow(ctx, `SELECT name FROM products`).Scan(&name)) // both editors read
		w.exec(ctx, `UPDATE products SET name = $1, minor = 200`, name)      // one changes the price
		w.exec(ctx, `UPDATE products SET name = 'Rarest', minor = 100`)      // the other one the name, as it saw the rest
		r.Log("one editor: the price is 2.00; the other one, who read before: the name is Rarest")
		kept := w.number(ctx, `SELECT count(*) FROM products WHERE minor = 200`) + w.number(ctx, `SELECT count(*) FROM products WHERE name = 'Rarest'`)
		return verdict(sold == 1 && kept == 2, "1 on the shelf, %d sold; %d of 2 edits lost", sold, 2-kept)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		sku := w.name("rare")
		edit := func(condition, version, name string, minor int) int {
			return got(w.call(ctx, http.MethodPut, w.Shop.Orders+"/v1/products/"+sku, map[string]string{"Authorization": "Bearer " + w.Shop.Key, condition: version},
				map[string]any{"name": name, "price": map[string]any{"minor": minor, "currency": "GBP"}, "stock": 1}, nil))
		}
		if status := edit("If-None-Match", "*", "Rare", 100); status != http.StatusCreated {
			panic(broken{fmt.Errorf("product %s: status %d", sku, status)})
		}
		seen := got(w.Shop.Get(ctx, w.Shop.Orders+"/v1/products/"+sku)).Header.Get("ETag") // both editors read
		one, other := edit("If-Match", seen, "Rare", 200), edit("If-Match", seen, "Rarest", 100)
		r.Log("two editors with If-Match: %s: %d, %d", seen, one, other)
		var accepted, refused atomic.Int32
		together(w.Dice.Crowd, func(int) {
			a, _, err := w.Shop.Insist(ctx, uuid.NewString(), w.Shop.Basket(w.token(ctx, shop.CardWorks), shop.Item{SKU: sku, Quantity: 1}), nil)
			must(err)
			switch a.Status {
			case http.StatusAccepted:
				accepted.Add(1)
			case http.StatusUnprocessableEntity, http.StatusConflict:
				refused.Add(1)
			}
		})
		w.quiet(ctx)
		r.Log("%d buyers: %d accepted, %d told that it is sold out", w.Dice.Crowd, accepted.Load(), refused.Load())
		sold := w.truth(ctx, stack.Orders, `SELECT sold::int FROM products WHERE sku = $1`, sku)
		return verdict(sold == 1 && accepted.Load() == 1 && int(accepted.Load()+refused.Load()) == w.Dice.Crowd && one == http.StatusOK && other == http.StatusPreconditionFailed,
			"1 on the shelf, %d sold; the second editor is told: %d", sold, other)
	},
}

var idempotencyKeyExternal = Experiment{
	ID:     "idempotency-key-external",
	Says:   "The card processor does the work and its answer is lost.",
	Fault:  "the answer to the authorisation is lost; payments asks again",
	Code:   "services/payments/authorise.go",
	Breaks: "held or taken on the customer's card",
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
	Ask: []Question{
		{
			Text: "The ledger has booked the settlement of one mug, 12.50, and dies before it acknowledges. The message comes again. How much is booked as settled?",
			Of:   "booked as settled", Choices: []string{"0.00", "12.50", "25.00"},
			Why: "The second delivery is handled like the first: nothing in the database says that its change was made.",
		},
		{
			Text: "Does every journal entry still sum to zero?",
			Of:   "entries that do not sum to zero", Choices: []string{"0", "1", "2"},
			Why: "Both entries are right in themselves. No rule over a single entry finds this mistake.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		died := w.crashAt(ctx, stack.Ledger, fault.LedgerSettleAfterCommit, 1)
		o := w.order(ctx, shop.CardWorks, w.mugs())
		r.Log("%s sold for %s; the processor says that it has settled", w.mugs(), money(w.price()))
		died()
		r.Log("the ledger books the settlement, and is killed before the acknowledgement; the message comes again")
		booked := func() int {
			return w.truth(ctx, stack.Ledger, `
				SELECT COALESCE(sum(p.amount_minor), 0)::int
				  FROM postings p JOIN entries e ON e.id = p.entry_id
				 WHERE e.kind = 'settlement' AND e.reference = $1 AND p.account_id LIKE 'card\_receivable:%'`, o.PaymentID)
		}
		w.within(ctx, 2*time.Second, func() bool { return booked() > w.price() })
		r.Measure("booked as settled", money(booked()), money(w.price()))
		r.Fact("entries that do not sum to zero", w.truth(ctx, stack.Ledger, `
			SELECT count(*) FROM (SELECT FROM postings GROUP BY entry_id HAVING sum(amount_minor) <> 0) wrong`))
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
		died := w.crashAt(ctx, stack.Payments, fault.PaymentsAuthoriseAfterProcessor, 1)
		o := w.order(ctx, shop.CardWorks, w.mugs())
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
	Says:  "A card token can be redeemed once. We die after redeeming it; and two of us redeem one at once.",
	Fault: "the answer to a redemption is lost, and we try again; then, the broker delivers the order to pay twice at once",
	Code:  "services/payments/authorise.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		redeem := func(token, reference string) int {
			status, err := w.processor(ctx, "/v1/payment_methods", "", map[string]string{"token": token, "reference": reference}, nil)
			if err != nil {
				r.Log("redeem the token: no answer")
			}
			return status
		}
		token, reference := w.token(ctx, shop.CardWorks), w.name("naive")
		w.misbehave(ctx, `[{"contract":"payment_methods","fault":"lose_answer","times":1}]`)
		redeem(token, reference)
		again := redeem(token, reference)
		r.Log("redeem it again: %d, already used; the order fails", again)
		token, reference = w.token(ctx, shop.CardWorks), w.name("naive")
		var statuses [2]int
		together(2, func(i int) { statuses[i] = redeem(token, reference) })
		slices.Sort(statuses[:])
		r.Log("two at once, for one order: %d, %d; the slower one fails it", statuses[0], statuses[1])
		return verdict(again < http.StatusMultipleChoices && statuses[1] < http.StatusMultipleChoices,
			"both orders failed with %d and %d, although the tokens were ours", again, statuses[1])
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		w.misbehave(ctx, `[{"contract":"payment_methods","fault":"lose_answer","times":1}]`)
		lost := w.order(ctx, shop.CardWorks, w.mugs())
		r.Log("the answer was lost; \"already used\" by whom? The reference is ours: go on from there: %s", lost.Status)
		w.quiet(ctx)
		// The first redemption does its work and is slow to say so; the second comes meanwhile.
		w.misbehave(ctx, `[{"contract":"payment_methods","fault":"delay","delay_ms":0},{"contract":"payment_methods","fault":"delay","delay_ms":700,"times":1}]`)
		delivered := w.deliverTwice(ctx, "payments.authorise", "payments.commands")
		twice := w.order(ctx, shop.CardWorks, w.mugs())
		delivered()
		w.quiet(ctx)
		asked, charges := w.asked(ctx), w.charges(ctx, twice.PaymentID)
		r.Log("two at once: the processor was asked more than once (%v), %d charge: %s", asked > 1, charges, twice.Status) // a slow machine asks thrice
		return verdict(lost.Status == "confirmed" && twice.Status == "confirmed" && asked >= 2 && charges == 1,
			"both orders are confirmed, %d charge for two redeemers", charges)
	},
}

// Command demo is the guided tour: it starts the whole system as local
// processes, breaks it in front of the reader, and ends with a verdict. Its exit
// status is 0 only if every invariant holds.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/scripts/command"
	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/wait"
)

// patience bounds each wait of the tour; it is reached only when something is broken.
const patience = 30 * time.Second

func main() { command.Main("demo", run) }

func run(ctx context.Context) error {
	out := newScreen(os.Stdout)
	start := time.Now()
	out.say("Three services, a card processor and a merchant, as processes on this machine.")
	started, err := world.Start(ctx, stack.Options{Out: indented{os.Stdout}})
	if err != nil {
		return err
	}
	defer started.Close()
	t := &tour{started, out}

	for _, act := range []func(context.Context) error{t.works, t.refused, t.lostAnswer, t.kill, t.retry, t.lastOne, t.merchantDown, t.refund, t.payout} {
		ctx, cancel := context.WithTimeout(ctx, patience)
		err := act(ctx)
		cancel()
		if err != nil {
			return err
		}
	}
	return t.verdict(ctx, start)
}

type tour struct {
	*world.World
	out screen
}

func (t *tour) works(ctx context.Context) error {
	t.out.act("An order that works", "The stock is reserved, the card held, the sale booked, the money taken, the merchant told.")
	_, err := t.follow(ctx, shop.CardWorks)
	return err
}

func (t *tour) refused(ctx context.Context) error {
	t.out.act("Two orders that must be compensated", "One card is declined. The other is held, and then the money cannot be taken: books, hold and stock are undone in reverse.")
	for _, card := range []string{shop.CardDeclined, shop.CardCaptureFails} {
		if _, err := t.follow(ctx, card); err != nil {
			return err
		}
	}
	return nil
}

func (t *tour) lostAnswer(ctx context.Context) error {
	t.out.act("The processor does the work, and its answer is lost", "A time-out is not a refusal: payments asks again, with the same key, and the card is charged once.")
	_, err := t.follow(ctx, shop.CardLosesAnswer)
	return err
}

func (t *tour) kill(ctx context.Context) error {
	t.out.act("payments is killed between the processor's answer and its own record", "SIGKILL at "+fault.PaymentsAuthoriseAfterProcessor+". The money is held, and no row of ours says so.")
	before, _ := t.System.Starts(stack.Payments)
	if err := t.Shop.Arm(ctx, t.System.URL[stack.Payments], fault.PaymentsAuthoriseAfterProcessor, "crash", 1); err != nil {
		return err
	}
	o, err := t.follow(ctx, shop.CardWorks)
	if err != nil {
		return err
	}
	if starts, _ := t.System.Starts(stack.Payments); starts == before {
		return errors.New("payments was not killed")
	}
	t.out.event("payments", "was killed, started again, and asked with the same key")
	var operations string
	err = t.Truth.Sandbox.QueryRow(ctx, `
		SELECT string_agg(o.kind, ', ' ORDER BY o.at)
		  FROM processor_operations o
		  JOIN processor_charges c ON c.id = o.charge_id
		 WHERE c.reference = $1`, o.PaymentID).Scan(&operations)
	if err != nil {
		return err
	}
	t.out.event("processor", "its own record of this payment: "+operations)
	return nil
}

func (t *tour) retry(ctx context.Context) error {
	t.out.act("orders is killed after its commit, before its answer", "The client has no answer and sends the request again, with the same Idempotency-Key.")
	if err := t.Shop.Arm(ctx, t.System.URL[stack.Orders], fault.OrdersAcceptAfterCommit, "crash", 1); err != nil {
		return err
	}
	token, err := t.Shop.Token(ctx, shop.CardWorks)
	if err != nil {
		return err
	}
	key, body := "demo-"+uuid.NewString(), t.Shop.Basket(token, shop.Item{SKU: "poster", Quantity: 1})
	if _, err := t.Shop.Place(ctx, key, body); err == nil {
		return errors.New("orders was not killed")
	}
	t.out.event("client", "no answer: the connection broke")
	first, tries, err := t.Shop.Insist(ctx, key, body, nil)
	if err != nil {
		return err
	}
	t.out.event("client", fmt.Sprintf("try %d: %d, Idempotent-Replayed: %s", tries+1, first.Status, first.Header.Get("Idempotent-Replayed")))
	var o shop.Order
	if err := json.Unmarshal(first.Body, &o); err != nil {
		return err
	}
	if _, err := t.finish(ctx, o); err != nil {
		return err
	}
	again, err := t.Shop.Place(ctx, key, body)
	if err != nil {
		return err
	}
	if !bytes.Equal(first.Body, again.Body) {
		return fmt.Errorf("two answers to one request:\n%s\n%s", first.Body, again.Body)
	}
	t.out.event("client", fmt.Sprintf("once more, now that it is confirmed: the same %d bytes, status still \"pending\"", len(again.Body)))
	return nil
}

func (t *tour) lastOne(ctx context.Context) error {
	t.out.act("Twenty buyers, one item", "The database's own constraint decides; no code reads the stock first and hopes.")
	answers := make(chan int)
	for range 20 {
		go func() {
			token, err := t.Shop.Token(ctx, shop.CardWorks)
			if err != nil {
				answers <- 0
				return
			}
			a, _, _ := t.Shop.Insist(ctx, uuid.NewString(), t.Shop.Basket(token, shop.Item{SKU: "last-one", Quantity: 1}), nil)
			answers <- a.Status
		}()
	}
	count := map[int]int{}
	for range 20 {
		count[<-answers]++
	}
	t.out.event("orders", fmt.Sprintf("%d × 202 accepted, %d × 409 out-of-stock", count[http.StatusAccepted], count[http.StatusConflict]))
	if count[http.StatusAccepted] != 1 || count[http.StatusConflict] != 19 {
		return fmt.Errorf("answers by status: %v", count)
	}
	return nil
}

func (t *tour) merchantDown(ctx context.Context) error {
	t.out.act("The merchant's endpoint is down for two tries", "The callback is tried again under the same webhook-id until it is heard.")
	if err := t.Shop.Misbehave(ctx, `{"rules":[{"contract":"merchant","fault":"refuse","times":2}]}`); err != nil {
		return err
	}
	o, err := t.follow(ctx, shop.CardWorks)
	if err != nil {
		return err
	}
	seen := 0
	for {
		rows, err := t.deliveries(ctx, o.ID)
		if err != nil {
			return err
		}
		for _, d := range rows[seen:] {
			t.out.event("merchant", fmt.Sprintf("callback %s…: answered %d", d.ID[:16], d.Answered))
			if d.Answered < 300 && d.Answered >= 200 {
				return nil
			}
		}
		seen = len(rows)
		if !wait.For(ctx, look) {
			return ctx.Err()
		}
	}
}

type delivery struct {
	ID       string
	Answered int
}

func (t *tour) deliveries(ctx context.Context, orderID string) ([]delivery, error) {
	rows, err := t.Truth.Sandbox.Query(ctx, `
		SELECT webhook_id, answered
		  FROM merchant_deliveries
		 WHERE order_id = $1
		 ORDER BY received_at`, orderID)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[delivery])
}

// verdict waits until the system is quiet and asks the auditor.
func (t *tour) verdict(ctx context.Context, start time.Time) error {
	t.out.act("The verdict", "Counted in the databases of the services and of the outside world.")
	quiet, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := audit.WaitQuiet(quiet, t.Truth); err != nil {
		return err
	}
	results, err := audit.Run(ctx, t.Truth)
	if err != nil {
		return err
	}
	audit.Print(indented{os.Stdout}, results)
	if !audit.Held(results) {
		return errors.New("an invariant is violated")
	}
	t.out.say(fmt.Sprintf("Every invariant held. %.0f seconds.", time.Since(start).Seconds()))
	return nil
}

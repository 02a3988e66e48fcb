package experiments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/platform/web"
)

// refusedInsideTransaction makes the mistake with our own client.
func refusedInsideTransaction(ctx context.Context, w *World) error {
	return postgres.InTx(ctx, w.Naive, func(ctx context.Context, _ pgx.Tx) error {
		request := got(http.NewRequestWithContext(ctx, http.MethodGet, w.System.URL[stack.Sandbox]+"/healthz", nil))
		response, err := web.Client(time.Second).Do(request)
		if err == nil {
			_ = response.Body.Close()
			return nil
		}
		return errors.Unwrap(err)
	})
}

var transactionalOutbox = Experiment{
	ID:     "transactional-outbox",
	Says:   "A service commits an order, and then tells the next service.",
	Fault:  "orders is killed after its commit, before its message is published; the client gives up",
	Code:   "shared/pattern/outbox/relay.go",
	Breaks: "orders that payments has heard of",
	Ask: []Question{
		{
			Text: "The order is in the database and its message was never published. Orders is started again, and left alone for three seconds. Of how many orders has payments heard?",
			Of:   "orders that payments has heard of", Choices: []string{"0", "1"},
			Why: "Nothing in the database says that a message is owed, so a restart has nothing to go by.",
		},
		{
			Text: "The message was committed as a row beside the order. How does the order end?", With: true,
			Of: "the order", Choices: []string{"pending", "confirmed", "cancelled"},
			Why: "The relay of the restarted process finds the row and publishes it; the client plays no part in this.",
		},
	},
	Drive: func(ctx context.Context, w *World, r *Run) {
		died := w.crashAt(ctx, stack.Orders, fault.OrdersAcceptAfterCommit, 1)
		_, err := w.Shop.Place(ctx, uuid.NewString(), w.Shop.Basket(w.token(ctx, shop.CardWorks), w.mugs()))
		r.Log("POST /v1/orders, %s for %s: committed, then orders is killed: %s", w.mugs(), money(w.price()), answerTo(err))
		died()
		id := w.newestOrder(ctx)
		r.Log("orders is running again; the order stands in its database; nobody asks for it")
		w.within(ctx, 3*time.Second, func() bool { return got(w.Shop.Order(ctx, id)).Status != "pending" })
		status := got(w.Shop.Order(ctx, id)).Status
		r.Log("three seconds later the order is %s", status)
		r.Measure("orders that payments has heard of", w.truth(ctx, stack.Payments, `SELECT count(*) FROM payments WHERE 'ord_' || order_id = $1`, id), 1)
		r.Fact("the order", status)
	},
}

// quietLog is for parts of ours that run inside the lab.
var quietLog = slog.New(slog.NewTextHandler(io.Discard, nil))

var reliableRetries = Experiment{
	ID:    "reliable-retries",
	Says:  "A consumer fails on a message a few times, and on another one always.",
	Fault: "one message fails a few times, one until its consumer is mended, the others are fine",
	Code:  "shared/pattern/reliableretries/reliable_retries.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		conn := got(amqp.Dial(w.System.Env()["AMQP_URL"]))
		defer conn.Close() //nolint:errcheck // nothing is owed to it
		channel := got(conn.Channel())
		queue := got(channel.QueueDeclare("", false, true, true, false, nil))
		subjects := w.subjects()
		for _, subject := range subjects {
			must(channel.PublishWithContext(ctx, "", queue.Name, false, false, amqp.Publishing{Body: []byte(subject)}))
		}
		tries, handled := map[string]int{}, 0
		handle := func(subject string) error {
			tries[subject]++
			if subject == "poison" || subject == "shaky" && tries[subject] <= w.shakes() {
				return errors.New("no")
			}
			handled++
			return nil
		}
		deliveries := got(channel.ConsumeWithContext(ctx, queue.Name, "", false, true, false, false, nil))
		for range subjects {
			d := <-deliveries
			if err := handle(string(d.Body)); err != nil {
				// Put back at once it would come back at once, for ever.
				r.Log("%s: %v; dropped", d.Body, err)
				must(d.Nack(false, false))
				continue
			}
			must(d.Ack(false))
		}
		return verdict(handled == len(subjects), "%d of %d messages handled; the shaky one is gone, and so is the poison", handled, len(subjects))
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		queue := w.name("lab.retries")
		conn := rabbit.Dial(rabbit.Options{URL: w.System.Env()["AMQP_URL"], Name: "lab", Logger: quietLog})
		defer conn.Close()
		await(ctx, "the broker", func() bool { return conn.Ready() == nil })
		var mu sync.Mutex
		tries, handled, mended := map[string]int{}, map[string]bool{}, false
		working, stop := context.WithCancel(ctx)
		var consumer sync.WaitGroup
		consumer.Go(func() {
			reliableretries.NewConsumer(reliableretries.Config{
				Conn: conn, Queue: queue, Bindings: []string{queue}, Workers: 4,
				Delays: []time.Duration{20 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond, 160 * time.Millisecond},
				Logger: quietLog,
				Handle: func(_ context.Context, e event.Event) error {
					mu.Lock()
					defer mu.Unlock()
					tries[e.Subject()]++
					if e.Subject() == "poison" && !mended || e.Subject() == "shaky" && tries["shaky"] <= w.shakes() {
						return errors.New("no")
					}
					handled[e.Subject()] = true
					return nil
				},
			}).Run(working)
		})
		defer func() { stop(); consumer.Wait() }()
		publisher := conn.Publisher()
		await(ctx, "the queue", func() bool {
			_, err := publisher.Publish(ctx, []rabbit.Message{labMessage(queue, "hello")})
			return err == nil
		})
		subjects, messages := w.subjects(), []rabbit.Message{}
		for _, subject := range subjects {
			messages = append(messages, labMessage(queue, subject))
		}
		_, err := publisher.Publish(ctx, messages)
		must(err)
		count := func() int { mu.Lock(); defer mu.Unlock(); return len(handled) - 1 } // but for the hello
		await(ctx, "the good messages", func() bool { return count() == len(subjects)-1 })
		var parked []reliableretries.Parked
		await(ctx, "the poison to be parked", func() bool { parked = got(reliableretries.List(conn, queue, 10)); return len(parked) == 1 })
		mu.Lock()
		r.Log("the shaky one: handled at try %d; the poison: parked after %d tries, with its error", tries["shaky"], tries["poison"])
		mended = true
		mu.Unlock()
		replayed := got(reliableretries.Replay(ctx, conn, queue, 10, time.Hour)).Moved
		await(ctx, "the poison to be handled", func() bool { return count() == len(subjects) })
		r.Log("the others did not wait for either; the consumer is mended, %d replayed", replayed)
		return verdict(len(parked) == 1 && replayed == 1, "%d of %d messages handled, one of them after a person replayed it", count(), len(subjects))
	},
}

// subjects are the messages of reliable-retries.
func (w *World) subjects() []string {
	subjects := []string{"shaky", "poison"}
	for n := range w.Dice.Crowd {
		subjects = append(subjects, fmt.Sprintf("good-%d", n))
	}
	return subjects
}

// shakes is how often the shaky one fails: less often than it is tried.
func (w *World) shakes() int { return w.Dice.Hit + 1 }

// deliverTwice has the next message of a kind delivered to its queue a second time,
// as a broker may, and returns a function that waits until that has happened.
func (w *World) deliverTwice(ctx context.Context, kind, queue string) (delivered func()) {
	conn := got(amqp.Dial(w.System.Env()["AMQP_URL"]))
	channel := got(conn.Channel())
	ear := got(channel.QueueDeclare("", false, true, true, false, nil))
	must(channel.QueueBind(ear.Name, kind, rabbit.Exchange, false, nil))
	heard := got(channel.ConsumeWithContext(ctx, ear.Name, "", true, true, false, false, nil))
	done := make(chan error, 1)
	go func() {
		d, ok := <-heard
		if !ok {
			done <- errors.New("no " + kind + " was heard")
			return
		}
		done <- channel.PublishWithContext(ctx, "", queue, true, false, amqp.Publishing{
			Headers: d.Headers, ContentType: d.ContentType, MessageId: d.MessageId, DeliveryMode: amqp.Persistent, Body: d.Body,
		})
	}()
	return func() {
		must(<-done)
		_ = conn.Close() // nothing is owed to it
	}
}

func labMessage(queue, subject string) rabbit.Message {
	e := event.New()
	e.SetID(uuid.NewString())
	e.SetSource("/lab")
	e.SetType(queue)
	e.SetSubject(subject)
	must(e.SetData(event.ApplicationJSON, struct{}{}))
	return rabbit.Message{RoutingKey: queue, ID: e.ID(), ContentType: event.ApplicationCloudEventsJSON, Body: got(e.MarshalJSON())}
}

var outOfOrderMessages = Experiment{
	ID:    "out-of-order-messages",
	Says:  "News of the settlement overtakes our own record of the capture.",
	Fault: "the webhook arrives before the payment is captured here",
	Code:  "services/payments/settle.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE payments (status text, settled boolean DEFAULT false); INSERT INTO payments (status) VALUES ('authorised')`)
		webhook := func() { w.exec(ctx, `UPDATE payments SET settled = true WHERE status = 'captured'`) }
		webhook()
		r.Log("charge.settled: no captured payment to settle; 200 OK, dropped")
		w.exec(ctx, `UPDATE payments SET status = 'captured'`)
		r.Log("captured")
		n := w.number(ctx, `SELECT count(*) FROM payments WHERE settled`)
		return verdict(n == 1, "captured, %d settled: the merchant's money stays pending for ever", n)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		must(w.Shop.ArmDelay(ctx, w.Shop.Payments, fault.PaymentsCaptureAfterProcessor, time.Second))
		a, _, err := w.Shop.Insist(ctx, uuid.NewString(), w.Shop.Basket(w.token(ctx, shop.CardWorks), w.mugs()), nil)
		must(err)
		id := string(bytes.Split(bytes.Split(a.Body, []byte(`"payment_id":"`))[1], []byte(`"`))[0])
		await(ctx, "the news", func() bool {
			return w.truth(ctx, stack.Payments, `SELECT count(*) FROM sequence_events WHERE stream = $1 AND applied_at IS NULL`, id) == 1
		})
		r.Log("charge.settled: stored, acknowledged, held: the capture is not recorded yet")
		w.quiet(ctx)
		r.Log("captured; the held news is applied")
		n := w.truth(ctx, stack.Payments, `SELECT count(*) FROM payments WHERE 'pay_' || id = $1 AND status = 'captured' AND settled_at IS NOT NULL`, id)
		return verdict(n == 1, "captured and settled: %d", n)
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

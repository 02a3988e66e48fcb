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
	ID:    "transactional-outbox",
	Says:  "A service commits, and then publishes what it has done.",
	Fault: "the process dies between the commit and the publish",
	Code:  "shared/pattern/outbox/relay.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE orders (id serial)`)
		published := 0
		place := func(dies bool) error {
			w.exec(ctx, `INSERT INTO orders DEFAULT VALUES`)
			if dies {
				return errCrash
			}
			published++
			return nil
		}
		for range w.Dice.Hit - 1 {
			must(place(false))
		}
		r.Log("order committed, then: %v", place(true))
		r.Log("restarted: nothing in the database says that a message is owed")
		orders := w.number(ctx, `SELECT count(*) FROM orders`)
		return verdict(orders == published, "%d ordered, %d messages", orders, published)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		before := w.truth(ctx, stack.Payments, `SELECT count(*) FROM payments`)
		w.orders(ctx, w.Dice.Hit-1)
		w.quiet(ctx)
		died := w.crashAt(ctx, stack.Orders, fault.OutboxRelayBeforePublish, 1)
		key, body := uuid.NewString(), w.Shop.Basket(w.token(ctx, shop.CardWorks), w.mugs())
		_, _ = w.Shop.Place(ctx, key, body) // with or without an answer
		died()
		r.Log("order committed with its message; killed before the publish; restarted, the relay finds it")
		w.quiet(ctx)
		n := w.truth(ctx, stack.Payments, `SELECT count(*) FROM payments`) - before
		return verdict(n == w.Dice.Hit, "%d ordered, payments has heard of %d", w.Dice.Hit, n)
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
		conn := got(amqp.Dial(w.System.Servers.AMQPURL))
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
		conn := rabbit.Dial(rabbit.Options{URL: w.System.Servers.AMQPURL, Name: "lab", Logger: quietLog})
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
	conn := got(amqp.Dial(w.System.Servers.AMQPURL))
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
	ID:    "saga",
	Says:  "A step in the middle of an order is refused.",
	Fault: "the card authorises and then refuses the capture",
	Code:  "services/orders/saga.go",
	Without: func(ctx context.Context, w *World, r *Run) Verdict {
		w.exec(ctx, `CREATE TABLE products (available int); INSERT INTO products VALUES (10)`)
		reference := w.name("naive")
		w.exec(ctx, `UPDATE products SET available = available - $1`, w.Dice.Quantity)
		id := got(w.charge(ctx, reference, w.paymentMethod(ctx, shop.CardCaptureFails, reference), reference))
		r.Log("stock taken; %s held on the card", money(w.price()))
		status, err := w.processor(ctx, "/v1/charges/"+id+"/capture", reference+":capture", struct{}{}, nil)
		must(err)
		r.Log("capture: %d; return 500 to the client", status)
		held := w.held(ctx, reference)
		gone := 10 - w.number(ctx, `SELECT available FROM products`)
		return verdict(held == 0 && gone == 0, "%s held on the card, %d gone from the shelf, no order", money(held), gone)
	},
	With: func(ctx context.Context, w *World, r *Run) Verdict {
		o := w.order(ctx, shop.CardCaptureFails, w.mugs())
		r.Log("stock reserved → authorised → booked → capture refused")
		w.quiet(ctx)
		r.Log("sale reversed → hold released → stock released: order %s (%s)", o.Status, o.Reason)
		held := w.held(ctx, o.PaymentID)
		reserved := w.truth(ctx, stack.Orders, `SELECT sum(reserved)::int FROM products`)
		return verdict(o.Status == "cancelled" && held == 0 && reserved == 0, "%s held on the card, %d reserved, order %s", money(held), reserved, o.Status)
	},
}

// held is what the processor holds on a card, and nobody has taken or let go.
func (w *World) held(ctx context.Context, reference string) int {
	return w.truth(ctx, "sandbox", `SELECT COALESCE(sum(amount_minor), 0)::int FROM processor_charges WHERE reference = $1 AND status = 'authorised'`, reference)
}

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

// eventually waits for a condition; the test's deadline bounds it.
func eventually(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		if ctx.Err() != nil {
			t.Fatalf("still not so: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func readiness(ctx context.Context, service string) (int, string) {
	a, err := acme.Get(ctx, system.URL[service]+"/readyz")
	if err != nil {
		return 0, err.Error()
	}
	return a.Status, string(a.Body)
}

func TestOrders_WithoutItsBrokerAcceptsAndFinishesLater(t *testing.T) {
	ctx := limit(t)
	time.Sleep(time.Second) // not a wait for a condition: RabbitMQ 3.10 can lose a queue that was declared within the last second before a kill
	if err := system.Servers.KillRabbit(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "orders says that the broker is away", func() bool {
		_, body := readiness(ctx, stack.Orders)
		return strings.Contains(body, `"broker":"failing"`)
	})
	if status, body := readiness(ctx, stack.Orders); status != http.StatusOK {
		t.Errorf("a balancer would take orders away, which can accept: %d %s", status, body)
	}
	var placed []shop.Order
	for range 5 {
		placed = append(placed, order(ctx, t, shop.CardWorks, mug))
	}
	if err := system.Servers.StartRabbit(ctx); err != nil {
		t.Fatal(err)
	}
	for _, o := range placed {
		if o, err := acme.Finished(ctx, o.ID); err != nil || o.Status != "confirmed" {
			t.Errorf("%s: %s, error %v", o.ID, o.Status, err)
		}
	}
	allHolds(ctx, t)
}

func TestOrders_WithoutItsDatabaseIsUnreadyAndRecovers(t *testing.T) {
	ctx := limit(t)
	running := order(ctx, t, shop.CardWorks, mug)
	token, err := acme.Token(ctx, shop.CardWorks)
	if err != nil {
		t.Fatal(err)
	}
	before := starts(stack.Orders)
	if err := system.Servers.KillPostgres(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "orders says that the database is away", func() bool {
		status, body := readiness(ctx, stack.Orders)
		return status == http.StatusServiceUnavailable && !strings.Contains(body, `"database":"ok"`)
	})
	key, body := uuid.NewString(), acme.Basket(token, mug)
	a, err := acme.Place(ctx, key, body)
	if err != nil || a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("without a database: %d %s, Retry-After %q, error %v", a.Status, a.Body, a.Header.Get("Retry-After"), err)
	}
	if err := system.Servers.StartPostgres(ctx); err != nil {
		t.Fatal(err)
	}
	a, _, err = acme.Insist(ctx, key, body, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{decode(t, a).ID, running.ID} {
		if o, err := acme.Finished(ctx, id); err != nil || o.Status != "confirmed" {
			t.Errorf("%s: %s, error %v", id, o.Status, err)
		}
	}
	if starts(stack.Orders) != before {
		t.Error("orders had to be restarted")
	}
	allHolds(ctx, t)
}

func TestShutdown_LetsARunningRequestFinish(t *testing.T) {
	for _, service := range stack.Services {
		t.Run(service, func(t *testing.T) {
			ctx := limit(t)
			before := starts(service)
			answered := make(chan error, 1)
			if service == stack.Orders {
				// A request that is in progress when the signal comes.
				if err := acme.ArmDelay(ctx, system.URL[service], "orders.accept.before-commit", 2*time.Second); err != nil {
					t.Fatal(err)
				}
				token, err := acme.Token(ctx, shop.CardWorks)
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					a, err := acme.Place(ctx, uuid.NewString(), acme.Basket(token, mug))
					if err == nil && a.Status != http.StatusAccepted {
						err = fmt.Errorf("status %d: %s", a.Status, a.Body)
					}
					answered <- err
				}()
				eventually(ctx, t, "the request is in progress", func() bool {
					a, err := acme.Get(ctx, system.URL[service]+"/lab/faults")
					return err == nil && !strings.Contains(string(a.Body), `"armed"`)
				})
			} else {
				answered <- nil
			}
			start := time.Now()
			system.Signal(service, syscall.SIGTERM)
			if err := <-answered; err != nil {
				t.Errorf("the request in progress: %v", err)
			}
			eventually(ctx, t, "the process has ended", func() bool { return starts(service) > before })
			if took := time.Since(start); took > 15*time.Second { // at nine it ends itself, with another exit status; the rest is a busy machine's
				t.Errorf("it took %s", took)
			}
			if _, exit := system.Starts(service); exit != 0 {
				t.Errorf("exit status %d", exit)
			}
			eventually(ctx, t, "the next one is ready", func() bool { status, _ := readiness(ctx, service); return status == http.StatusOK })
			allHolds(ctx, t)
		})
	}
}

func TestConsumer_APoisonMessageIsParkedAndReplayed(t *testing.T) {
	ctx := limit(t)
	sold(ctx, t, mug) // then every queue has been declared, also when this test is the first
	conn, err := amqp.Dial(system.Env()["AMQP_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	parked := func() int {
		q, err := ch.QueueDeclarePassive("payments.commands.dead", true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
		if err != nil {
			t.Fatal(err)
		}
		return q.Messages
	}
	// On a slow machine an outage of a test before this one may have used up a command's tries.
	ops(ctx, t, "dlq", "replay", "payments.commands")
	eventually(ctx, t, "nothing is parked", func() bool { return parked() == 0 })
	if err := ch.PublishWithContext(ctx, "", "payments.commands", true, false,
		amqp.Publishing{MessageId: "garbage", DeliveryMode: amqp.Persistent, Body: []byte("\xff not an event")}); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "the garbage is parked", func() bool { return parked() == 1 })
	if out := ops(ctx, t, "dlq", "list", "payments.commands"); !strings.Contains(out, "not a CloudEvent") || !strings.Contains(out, "1 parked") {
		t.Errorf("dlq list says: %s", out)
	}

	// A capture that always fails: tried six times, then parked, while other
	// messages of the same queue pass.
	if err := acme.Misbehave(ctx, `{"rules":[{"contract":"charges.capture","fault":"fail_before","times":0}]}`); err != nil {
		t.Fatal(err)
	}
	stuck := order(ctx, t, shop.CardWorks, mug)
	for range 3 {
		if o, err := acme.Finished(ctx, order(ctx, t, shop.CardDeclined, mug).ID); err != nil || o.Status != "cancelled" {
			t.Errorf("an order beside the poison: %s, error %v", o.Status, err)
		}
	}
	eventually(ctx, t, "the capture is parked", func() bool { return parked() >= 2 })
	if o, err := acme.Order(ctx, stuck.ID); err != nil || o.Status != "pending" {
		t.Errorf("a capture that fails without an answer ended the order: %s, error %v", o.Status, err)
	}
	if out := ops(ctx, t, "dlq", "list", "payments.commands"); !strings.Contains(out, "tries 6") {
		t.Errorf("dlq list says: %s", out)
	}
	if err := acme.Misbehave(ctx, `{"rules":[]}`); err != nil {
		t.Fatal(err)
	}
	ops(ctx, t, "dlq", "replay", "payments.commands")
	if o, err := acme.Finished(ctx, stuck.ID); err != nil || o.Status != "confirmed" {
		t.Errorf("after the replay: %s, error %v", o.Status, err)
	}
	eventually(ctx, t, "only the garbage is parked again", func() bool { return parked() == 1 })
	if _, err := ch.QueuePurge("payments.commands.dead", false); err != nil {
		t.Fatal(err)
	}
	allHolds(ctx, t)
}

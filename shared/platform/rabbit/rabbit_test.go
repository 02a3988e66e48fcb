package rabbit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/platform/postgres/txmark"
	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/testenv"
)

func connect(t *testing.T) *rabbit.Conn {
	t.Helper()
	return connectWith(t, rabbit.Options{URL: testenv.Rabbit(t)})
}

func connectWith(t *testing.T, opts rabbit.Options) *rabbit.Conn {
	t.Helper()
	opts.Name, opts.Logger = "test", slog.New(slog.DiscardHandler)
	conn := rabbit.Dial(opts)
	t.Cleanup(conn.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := conn.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	return conn
}

// queue declares a queue that a routing key leads to.
func queue(t *testing.T, conn *rabbit.Conn, name string, args amqp.Table) *amqp.Channel {
	t.Helper()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	err = conn.DeclareExchange(ch)
	if err == nil {
		_, err = ch.QueueDeclare(name, true, false, false, false, args)
	}
	if err == nil {
		err = ch.QueueBind(name, name, rabbit.Exchange, false, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func messages(n int, key string) []rabbit.Message {
	msgs := make([]rabbit.Message, n)
	for i := range msgs {
		msgs[i] = rabbit.Message{ID: fmt.Sprintf("%s-%d", key, i), RoutingKey: key, Body: []byte("{}")}
	}
	return msgs
}

func ready(t *testing.T, ch *amqp.Channel, name string) int {
	t.Helper()
	q, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q.Messages
}

func TestPublisher_ConfirmsAWholePipeline(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	ch := queue(t, conn, "q", nil)
	confirmed, err := conn.Publisher().Publish(t.Context(), messages(1000, "q"))
	if err != nil {
		t.Fatal(err)
	}
	for i, ok := range confirmed {
		if !ok {
			t.Errorf("message %d is not confirmed", i)
		}
	}
	if n := ready(t, ch, "q"); n != 1000 {
		t.Errorf("%d messages in the queue", n)
	}
	if _, err := conn.Publisher().Publish(t.Context(), messages(1001, "q")); err == nil {
		t.Error("more than fit were taken")
	}
}

// A message that no queue is bound for is confirmed by the broker, and gone. Ours
// are mandatory: they come back, and count as not published.
func TestPublisher_UnroutableMessageIsNotConfirmed(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	queue(t, conn, "q", nil)
	msgs := append(messages(400, "q"), append(messages(300, "no-such-queue"), messages(300, "q")...)...)
	for i := range msgs {
		msgs[i].ID = fmt.Sprint(i)
	}
	publisher := conn.Publisher()
	confirmed, err := publisher.Publish(t.Context(), msgs)
	if !errors.Is(err, rabbit.ErrUnroutable) {
		t.Errorf("error %v", err)
	}
	for i, ok := range confirmed {
		if want := msgs[i].RoutingKey == "q"; ok != want {
			t.Fatalf("message %d for %q: confirmed %v", i, msgs[i].RoutingKey, ok)
		}
	}
	if confirmed, err := publisher.Publish(t.Context(), messages(1, "q")); err != nil || !confirmed[0] {
		t.Errorf("the next one: %v, %v", confirmed, err)
	}
}

// A queue that is full says no, and the publisher hears it.
func TestPublisher_ReportsARefusalOfTheBroker(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	queue(t, conn, "full", amqp.Table{"x-max-length": int64(1), amqp.QueueOverflowArg: "reject-publish"})
	confirmed, err := conn.Publisher().Publish(t.Context(), messages(5, "full"))
	if !errors.Is(err, rabbit.ErrRefused) {
		t.Errorf("error %v", err)
	}
	if n := strings.Count(fmt.Sprint(confirmed), "true"); n != 1 {
		t.Errorf("confirmed %v", confirmed)
	}
}

func TestPublisher_InsideATransactionIsRefused(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	ch := queue(t, conn, "q", nil)
	if _, err := conn.Publisher().Publish(txmark.Mark(t.Context()), messages(1, "q")); !errors.Is(err, rabbit.ErrInTransaction) {
		t.Error(err)
	}
	if n := ready(t, ch, "q"); n != 0 {
		t.Errorf("%d messages were sent", n)
	}
}

func TestPublisher_SendsNothingWithoutAConnection(t *testing.T) {
	t.Parallel()
	conn := rabbit.Dial(rabbit.Options{URL: "amqp://guest:guest@127.0.0.1:1/", Name: "test", Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(conn.Close)
	confirmed, err := conn.Publisher().Publish(t.Context(), messages(1, "q"))
	if !errors.Is(err, rabbit.ErrNotConnected) || confirmed[0] {
		t.Errorf("%v, %v", confirmed, err)
	}
}

// A consumer that is stopped finishes what is in progress and takes nothing new; the
// rest is still there.
func TestConsume_StoppedFinishesItsWork(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	ch := queue(t, conn, "q", nil)
	if _, err := conn.Publisher().Publish(t.Context(), messages(50, "q")); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	begun := make(chan struct{}, 50)
	goOn := make(chan struct{})
	var handled, cutOff atomic.Int32
	var running sync.WaitGroup
	running.Go(func() {
		conn.Consume(ctx, rabbit.Consumption{
			Queue: "q", Declare: func(*amqp.Channel) error { return nil }, Workers: 2, Prefetch: 16,
			Handle: func(ctx context.Context, d amqp.Delivery) error {
				begun <- struct{}{}
				<-goOn
				if ctx.Err() != nil {
					cutOff.Add(1)
				}
				handled.Add(1)
				if err := d.Ack(false); err != nil {
					t.Error(err)
				}
				return nil
			},
		})
	})
	<-begun
	<-begun
	stop()
	close(goOn)
	running.Wait()
	if handled.Load() != 2 || cutOff.Load() != 0 {
		t.Errorf("%d handled, %d cut off", handled.Load(), cutOff.Load())
	}
	for deadline := time.Now().Add(30 * time.Second); ready(t, ch, "q") != 48; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d left, want 48", ready(t, ch, "q"))
		}
	}
}

// A consumer whose channel breaks comes back, and gets again what it had not
// acknowledged.
func TestConsume_ComesBackWhenItsChannelBreaks(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	queue(t, conn, "q", nil)
	if _, err := conn.Publisher().Publish(t.Context(), messages(1, "q")); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var deliveries []bool
	conn.Consume(ctx, rabbit.Consumption{
		Queue: "q", Declare: func(*amqp.Channel) error { return nil }, Workers: 1, Prefetch: 1,
		Handle: func(_ context.Context, d amqp.Delivery) error {
			deliveries = append(deliveries, d.Redelivered)
			if len(deliveries) == 1 {
				_ = d.Acknowledger.Ack(d.DeliveryTag+1000, false) // a tag that is none: the broker closes the channel
				return nil
			}
			_ = d.Ack(false)
			stop()
			return nil
		},
	})
	if fmt.Sprint(deliveries) != "[false true]" {
		t.Errorf("delivered (again): %v", deliveries)
	}
}

// A key that AMQP cannot carry is refused by itself: the messages beside it arrive, and
// the connection stays.
func TestPublisher_TooLongARoutingKeyIsRefusedAlone(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	ch := queue(t, conn, "q", nil)
	msgs := append(messages(1, "q"), rabbit.Message{ID: "long", RoutingKey: strings.Repeat("k", 300)}, rabbit.Message{ID: "last", RoutingKey: "q"})
	publisher := conn.Publisher()
	for n := range 2 {
		confirmed, err := publisher.Publish(t.Context(), msgs)
		if !errors.Is(err, rabbit.ErrRefused) || errors.Is(err, rabbit.ErrUnconfirmed) || fmt.Sprint(confirmed) != "[true false true]" {
			t.Errorf("%v, %v", confirmed, err)
		}
		if got := ready(t, ch, "q"); got != 2*(n+1) {
			t.Errorf("%d messages in the queue", got)
		}
	}
}

// The first of two brokers is away.
func TestDial_TriesTheNextBrokerAfterAFailure(t *testing.T) {
	t.Parallel()
	conn := connectWith(t, rabbit.Options{URL: "amqp://guest:guest@127.0.0.1:1/," + testenv.Rabbit(t)})
	queue(t, conn, "q", nil)
	if _, err := conn.Publisher().Publish(t.Context(), messages(1, "q")); err != nil {
		t.Error(err)
	}
}

func TestCheckURL_RefusesWhatWouldNeverConnect(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"amqp://u:secret@a/":                                true,
		"amqps://u:secret@a:5671/v?heartbeat=10":            true,
		"amqp://u:secret@a:1/%2Fv,amqp://u:secret@b:2/%2Fv": true,
		"amqp://u:secret@a:1,b:2/":                          false,
		"amqp://u:secret@a/,u:secret@b/":                    false,
		"amqp://u:secret@a/,":                               false,
		"amqp://u:secret@a:70000/":                          false,
		"amqp://u:secret@a:port/":                           false,
		"amqp://u:secret@a/v/w":                             false,
		"amqp://u:secret@a/v#f":                             false,
		"amqp://u:secret@a/?verify=verify_none":             false,
		"amqp://u:secret@a/?heartbeat=often":                false,
		"amqp://u:sec ret@a/":                               false,
		"http://u:secret@a/":                                false,
		"amqp:///v":                                         false,
	} {
		if err := rabbit.CheckURL(text); (err == nil) != ok || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestConsume_TellsWhetherTheQueueIsConsumed(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	queue(t, conn, "q", nil)
	ctx, stop := context.WithCancel(t.Context())
	var told []float64
	conn.Consume(ctx, rabbit.Consumption{
		Queue: "q", Declare: func(*amqp.Channel) error { return nil }, Workers: 1, Prefetch: 1,
		Handle: func(context.Context, amqp.Delivery) error { return nil },
		Consuming: func(now float64) {
			told = append(told, now)
			stop()
		},
	})
	if fmt.Sprint(told) != "[1 0]" {
		t.Errorf("told %v", told)
	}
}

package reliableretries_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/platform/rabbit"
)

const queue = "tests.commands"

// world is a consumer that writes down what it sees.
type world struct {
	t        *testing.T
	conn     *rabbit.Conn
	consumer *reliableretries.Consumer
	metrics  *prometheus.Registry

	mu   sync.Mutex
	seen []string    // ids in the order of handling
	at   []time.Time // when
}

func newWorld(t *testing.T, handle func(id string, nth int) error) *world {
	t.Helper()
	w := &world{t: t, conn: connect(t), metrics: prometheus.NewRegistry()}
	w.consumer = reliableretries.NewConsumer(reliableretries.Config{
		Conn: w.conn, Queue: queue, Bindings: []string{"work"}, Workers: 1,
		Delays: []time.Duration{50 * time.Millisecond, 100 * time.Millisecond},
		Logger: slog.New(slog.DiscardHandler), Metrics: w.metrics,
		Handle: func(_ context.Context, e event.Event) error {
			w.mu.Lock()
			w.seen, w.at = append(w.seen, e.ID()), append(w.at, time.Now())
			nth := 0
			for _, id := range w.seen {
				if id == e.ID() {
					nth++
				}
			}
			w.mu.Unlock()
			return handle(e.ID(), nth)
		},
	})
	ch, err := w.conn.Channel()
	if err == nil {
		err = errors.Join(w.conn.DeclareExchange(ch), w.consumer.Declare(ch))
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) run() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	var running sync.WaitGroup
	running.Go(func() { w.consumer.Run(ctx) })
	w.t.Cleanup(func() { cancel(); running.Wait() })
}

func (w *world) publish(msgs ...rabbit.Message) {
	w.t.Helper()
	if _, err := w.conn.Publisher().Publish(w.t.Context(), msgs); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) await(what string, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not in time: %s; seen %s", what, w.all())
		}
	}
}

func (w *world) all() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.seen, " ")
}

// handled is the counter of an outcome.
func (w *world) handled(outcome string) (n float64) {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "failwell_messages_handled_total" && strings.Contains(m.String(), `"`+outcome+`"`) {
				n = m.GetCounter().GetValue()
			}
		}
	}
	return n
}

func (w *world) parked() []reliableretries.Parked {
	w.t.Helper()
	parked, err := reliableretries.List(w.conn, queue, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	return parked
}

// empty waits until a queue and its retries hold nothing, acknowledged or not.
func (w *world) empty() {
	w.t.Helper()
	ch, err := w.conn.Channel()
	if err != nil {
		w.t.Fatal(err)
	}
	defer ch.Close() //nolint:errcheck // a test's
	w.await("empty queues", func() bool {
		n := 0
		for _, name := range []string{queue, queue + ".retry.50ms", queue + ".retry.100ms"} {
			q, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
			if err != nil {
				w.t.Fatal(err)
			}
			n += q.Messages
		}
		return n == 0
	})
}

// The broker is new, and no script has made the queue: the consumer does.
func TestConsumer_DeclaresItsQueuesOnABrokerThatHasNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(string, int) error { return nil })
	ch, err := w.conn.Channel()
	if err == nil {
		_, err = ch.QueueDelete(queue, false, false, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.run()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, err := w.conn.Publisher().Publish(t.Context(), []rabbit.Message{message("good")})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no queue takes the message: %v", err)
		}
	}
	w.await("it is handled", func() bool { return w.handled("done") == 1 })
}

func TestConsumer_FailureComesBackLaterAndHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(id string, nth int) error {
		if id == "fails" && nth < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	w.publish(message("fails"), message("good"))
	w.run()
	w.await("four", func() bool { return len(strings.Fields(w.all())) == 4 })
	if got := w.all(); got != "fails good fails fails" {
		t.Errorf("seen %s", got)
	}
	first, second := w.at[2].Sub(w.at[0]), w.at[3].Sub(w.at[2])
	if first < 50*time.Millisecond || second < 100*time.Millisecond {
		t.Errorf("came back after %v and %v", first, second)
	}
	if parked := w.parked(); len(parked) > 0 {
		t.Errorf("parked: %+v", parked)
	}
}

func TestConsumer_ParksAfterTheLastTryWithTheError(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(string, int) error { return errors.New("the processor says nonsense") })
	w.publish(message("m"))
	w.run()
	w.await("parked", func() bool { return len(w.parked()) == 1 })
	if p := w.parked()[0]; p.MessageID != "m" || p.Tries != 3 || p.Error != "the processor says nonsense" || p.Since == "" {
		t.Errorf("parked %+v", p)
	}
	if got := w.all(); got != "m m m" {
		t.Errorf("seen %s", got)
	}
}

// What no retry can fix is parked at once, and it does not take the process
// with it.
func TestConsumer_ParksPoisonAtOnceAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(id string, _ int) error {
		if id == "pointless" {
			return fmt.Errorf("order 7: %w", reliableretries.Permanent(errors.New("no such order")))
		}
		return nil
	})
	junk := rabbit.Message{ID: "junk", RoutingKey: "work", Body: []byte("{")}
	halfAnEvent := rabbit.Message{ID: "half", RoutingKey: "work", Body: []byte(`{"specversion":"1.0","id":"half"}`)}
	w.publish(junk, halfAnEvent, message("pointless"), message("good"))
	w.run()
	w.await("three parked", func() bool { return len(w.parked()) == 3 })
	w.await("the good one", func() bool { return strings.Contains(w.all(), "good") })
	for _, p := range w.parked() {
		if p.Tries != 1 || p.Error == "" {
			t.Errorf("%s was tried %d times, error %q", p.MessageID, p.Tries, p.Error)
		}
	}
}

func TestConsumer_PanicIsAFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(_ string, nth int) error {
		if nth == 1 {
			panic("a bug")
		}
		return nil
	})
	w.publish(message("m"))
	w.run()
	w.await("a second try", func() bool { return w.all() == "m m" })
	w.empty()
}

// What a person has looked at goes back with a fresh count of tries.
func TestReplay_MessagesAreHandledAgain(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	broken := true
	w := newWorld(t, func(string, int) error {
		mu.Lock()
		defer mu.Unlock()
		if broken {
			return errors.New("no")
		}
		return nil
	})
	w.publish(message("a"), message("b"), message("c"))
	w.run()
	w.await("parked", func() bool { return len(w.parked()) == 3 })
	mu.Lock()
	broken = false
	mu.Unlock()
	for want := 2; want > 0; want-- { // two, then the one that is left
		done, err := reliableretries.Replay(t.Context(), w.conn, queue, reliableretries.Choice{Limit: 2, MaxAge: time.Hour})
		if err != nil || done.Moved != want {
			t.Errorf("moved %d, %v, want %d", done.Moved, err, want)
		}
	}
	w.empty()
	if n := len(strings.Fields(w.all())); n != 3*3+3 || len(w.parked()) > 0 {
		t.Errorf("handled %d times, parked %v", n, w.parked())
	}
}

// The consumer is not fixed: what is put back is parked again before the last one is put
// back. Each goes back once all the same.
func TestReplay_PutsEachBackOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(string, int) error { return reliableretries.Permanent(errors.New("no")) })
	const poison = 21
	for n := range poison {
		w.publish(message(fmt.Sprint("m", n)))
	}
	w.run()
	w.await("parked", func() bool { return w.handled("parked") == poison })
	done, err := reliableretries.Replay(t.Context(), w.conn, queue, reliableretries.Choice{Limit: 1000, MaxAge: time.Hour})
	if err != nil || done.Moved != poison {
		t.Errorf("%+v, %v", done, err)
	}
	w.await("parked again", func() bool { return w.handled("parked") == 2*poison })
}

// What was made before the inbox's memory begins is left: the inbox cannot tell whether it was handled.
func TestReplay_LeavesWhatTheInboxMayHaveForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(string, int) error { return reliableretries.Permanent(errors.New("no")) })
	young := message(uuid.Must(uuid.NewV7()).String())
	w.publish(message("018f0000-0000-7000-8000-000000000000"), young) // of May 2024
	w.run()
	w.await("parked", func() bool { return len(w.parked()) == 2 })
	done, err := reliableretries.Replay(t.Context(), w.conn, queue, reliableretries.Choice{Limit: 10, MaxAge: 720 * time.Hour})
	if err != nil || done != (reliableretries.Replayed{Moved: 1, TooOld: 1}) {
		t.Errorf("%+v, %v", done, err)
	}
	w.await("the young one again", func() bool { return strings.HasSuffix(w.all(), young.ID) && len(strings.Fields(w.all())) == 3 })
	w.await("both parked", func() bool { return len(w.parked()) == 2 })
}

// A person puts back the one whose cause is gone. The others stay, each once.
func TestReplay_LeavesWhatWasNotChosen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(string, int) error { return reliableretries.Permanent(errors.New("no")) })
	w.publish(message("m1"), message("m2"), message("m3"))
	w.run()
	w.await("parked", func() bool { return len(w.parked()) == 3 })
	second := func(p reliableretries.Parked) bool { return p.MessageID == "m2" && p.Error == "no" && p.Tries == 1 }
	done, err := reliableretries.Replay(t.Context(), w.conn, queue, reliableretries.Choice{Limit: 10, MaxAge: time.Hour, Only: second})
	if err != nil || done.Moved != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	w.await("the second again", func() bool { return w.handled("parked") == 4 && len(w.parked()) == 3 })
	if all := strings.Fields(w.all()); len(all) != 4 || all[3] != "m2" {
		t.Errorf("handled: %v", all)
	}
}

// A consumer that dies before its acknowledgement has lost nothing: the next
// gets the message again.
func TestConsumer_UnacknowledgedMessageComesAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(string, int) error { return nil })
	w.publish(message("m"))
	ch, err := w.conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if d, ok, err := ch.Get(queue, false); err != nil || !ok || d.MessageId != "m" {
		t.Fatal(d, ok, err)
	}
	if err := ch.Close(); err != nil { // as its death would
		t.Fatal(err)
	}
	w.run()
	w.await("again", func() bool { return w.all() == "m" })
	w.empty()
}

// A process that reads the parked messages may die with one in hand, as often as it likes.
// RabbitMQ 4 drops it the 21st time unless told otherwise; 3.10 does not, so the
// limit is also looked at.
func TestParked_MessageIsNotLostByBeingRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(string, int) error { return reliableretries.Permanent(errors.New("no")) })
	w.publish(message("m"))
	w.run()
	w.await("parked", func() bool { return len(w.parked()) == 1 })
	for i := range 25 {
		ch, err := w.conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		w.await(fmt.Sprint("look ", i), func() bool {
			_, ok, err := ch.Get(queue+".dead", false)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		})
		if err := ch.Close(); err != nil { // as its death would
			t.Fatal(err)
		}
	}
	w.await("still there", func() bool { return len(w.parked()) == 1 })

	ch, err := w.conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	_, err = ch.QueueDeclare(queue+".dead", true, false, false, false, amqp.Table{
		amqp.QueueTypeArg: amqp.QueueTypeQuorum, "x-delivery-limit": 1_000_000,
	})
	if err != nil {
		t.Errorf("its delivery limit is another one: %v", err)
	}
}

// More tries than there are delays are not the message's fault. It has all of its own left.
func TestConsumer_BusyTryIsNotCounted(t *testing.T) {
	t.Parallel()
	errLocked := &pgconn.PgError{Code: "55P03", Message: "the row is locked"}
	w := newWorld(t, func(_ string, nth int) error {
		switch {
		case nth <= 4:
			return errLocked
		case nth <= 6: // as often as there are delays
			return errors.New("the processor says nonsense")
		}
		return nil
	})
	w.publish(message("m"))
	w.run()
	w.await("the seventh try", func() bool { return w.all() == "m m m m m m m" })
	w.empty()
	if parked := w.parked(); len(parked) > 0 {
		t.Errorf("parked: %+v", parked)
	}
}

// The database is away for more tries than a message has. None is counted, nothing is
// parked, and what comes after it waits as well: it would fail too.
func TestConsumer_OutagePausesAndCostsNoTry(t *testing.T) {
	t.Parallel()
	errAway := &pgconn.PgError{Code: "57P01", Message: "the database is away"}
	w := newWorld(t, func(_ string, nth int) error {
		if nth <= 3 {
			return fmt.Errorf("read: %w", errAway)
		}
		return nil
	})
	w.publish(message("a"), message("b"))
	w.run()
	w.await("all", func() bool { return w.all() == "a a a a b b b b" })
	w.empty()
	if parked := w.parked(); len(parked) > 0 {
		t.Errorf("parked: %+v", parked)
	}
}

// The broker takes nothing while messages fail: none of them is tried meanwhile, and
// none is handed back for the broker to count.
func TestConsumer_MessageThatCannotBePutAsideWaits(t *testing.T) {
	t.Parallel()
	var ch *amqp.Channel
	w := newWorld(t, func(_ string, nth int) error {
		if nth > 1 {
			return nil
		}
		if _, err := ch.QueueDelete(queue+".retry.50ms", false, false, false); err != nil { // where it should go
			t.Error(err)
		}
		return errors.New("the processor says nonsense")
	})
	var err error
	if ch, err = w.conn.Channel(); err != nil {
		t.Fatal(err)
	}
	w.publish(message("m"))
	w.run()
	w.await("three pauses", func() bool { return w.handled("paused") >= 3 })
	if got := w.all(); got != "m" {
		t.Errorf("seen %s", got)
	}
	if err := w.consumer.Declare(ch); err != nil {
		t.Fatal(err)
	}
	w.await("its second try", func() bool { return w.all() == "m m" })
	w.empty()
}

// A message that kills every process that handles it is parked by us, with an error.
func TestConsumer_ParksWhatIsNeverAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(string, int) error { return nil })
	w.publish(message("deadly"))
	for range 101 {
		ch, err := w.conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		w.await("it", func() bool {
			_, ok, err := ch.Get(queue, false)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		})
		if err := ch.Close(); err != nil { // as its death would
			t.Fatal(err)
		}
	}
	w.run()
	w.await("parked", func() bool { return len(w.parked()) == 1 })
	if p := w.parked()[0]; !strings.Contains(p.Error, "101 times without an answer") || w.all() != "" {
		t.Errorf("parked %+v, seen %q", p, w.all())
	}
}

// What a stranger has written into our headers does no harm.
func TestConsumer_ForeignHeadersDoNotStopIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(string, int) error { return errors.New("no") })
	m := message("m")
	m.Headers = amqp.Table{
		reliableretries.HeaderTries: int64(-7), reliableretries.HeaderSince: strings.Repeat("x", 100_000), "traceparent": int32(1),
	}
	w.publish(m)
	w.run()
	w.await("parked", func() bool { return len(w.parked()) == 1 })
	if p := w.parked()[0]; p.Tries != 3 {
		t.Errorf("parked %+v", p)
	}
}

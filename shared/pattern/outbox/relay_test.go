package outbox_test

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/platform/telemetry"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

//go:embed schema.sql
var schema string

var migrations = fstest.MapFS{"migrations/00001_outbox.sql": {Data: []byte("-- +goose Up\n" + schema)}}

const (
	source   = outbox.Source("/tests")
	patience = 30 * time.Second // for what should take milliseconds, on a machine that is busy
)

// world is an outbox and a broker of one test's own.
type world struct {
	t       *testing.T
	db      *pgxpool.Pool
	broker  *rabbit.Conn
	dbURL   string
	amqpURL string
	ch      *amqp.Channel // for what the tests look at themselves
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dbURL: testenv.Postgres(t, migrations), amqpURL: testenv.Rabbit(t)}
	var err error
	if w.db, err = postgres.Open(t.Context(), postgres.Options{URL: w.dbURL, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.db.Close)
	w.broker = connect(t, w.amqpURL)
	if w.ch, err = w.broker.Channel(); err != nil {
		t.Fatal(err)
	}
	if err := rabbit.DeclareExchange(w.ch); err != nil {
		t.Fatal(err)
	}
	return w
}

func connect(t *testing.T, url string) *rabbit.Conn {
	t.Helper()
	broker := rabbit.Dial(rabbit.Options{URL: url, Name: "test", Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(broker.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := broker.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	return broker
}

// listen binds a queue to all messages and returns what arrives.
func (w *world) listen() <-chan amqp.Delivery {
	w.t.Helper()
	q, err := w.ch.QueueDeclare("listener", true, false, false, false, nil)
	if err == nil {
		err = w.ch.QueueBind(q.Name, "#", rabbit.Exchange, false, nil)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	arrived, err := w.ch.Consume(q.Name, "", true, false, false, false, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return arrived
}

func (w *world) config(holder string) outbox.Config {
	return outbox.Config{
		DB: w.db, Broker: w.broker, Logger: slog.New(slog.DiscardHandler),
		Holder: holder, Lease: time.Minute, Poll: 10 * time.Millisecond,
	}
}

// start runs a relay until the test ends or stop is called, which waits for it.
func (w *world) start(cfg outbox.Config) (relay *outbox.Relay, stop func()) {
	relay = outbox.NewRelay(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { relay.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	w.t.Cleanup(stop)
	return relay, stop
}

func seal(t *testing.T, ctx context.Context, subject, says string) outbox.Sealed { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	m, err := source.Seal(ctx, outbox.Message{Type: "tests.said", Subject: subject, Data: says})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// say commits a transaction that appends one message for each text.
func (w *world) say(subject string, texts ...string) {
	w.t.Helper()
	err := postgres.Write(w.t.Context(), w.db, func(b *pgx.Batch) {
		for _, says := range texts {
			seal(w.t, w.t.Context(), subject, says).Append(b)
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

type heard struct{ id, subject, says string }

func hear(t *testing.T, arrived <-chan amqp.Delivery) (heard, amqp.Delivery) {
	t.Helper()
	select {
	case d, ok := <-arrived:
		if !ok {
			t.Fatal("the channel was closed")
		}
		var e event.Event
		if err := e.UnmarshalJSON(d.Body); err != nil {
			t.Fatalf("not a CloudEvent: %v: %s", err, d.Body)
		}
		if e.ID() != d.MessageId || e.Type() != d.RoutingKey || e.Source() != string(source) {
			t.Errorf("the event says id %s type %s source %s, the envelope %s %s", e.ID(), e.Type(), e.Source(), d.MessageId, d.RoutingKey)
		}
		h := heard{id: e.ID(), subject: e.Subject()}
		if err := e.DataAs(&h.says); err != nil {
			t.Fatal(err)
		}
		return h, d
	case <-time.After(patience):
		t.Fatal("nothing arrived")
		panic("unreachable")
	}
}

// silence checks that nothing more was published: all that was sits in the
// queue before a message that the test publishes itself.
func (w *world) silence(arrived <-chan amqp.Delivery) {
	w.t.Helper()
	last := uuid.NewString()
	_, err := w.broker.Publisher().Publish(w.t.Context(), []rabbit.Message{{ID: last, RoutingKey: "last"}})
	if err != nil {
		w.t.Fatal(err)
	}
	for {
		select {
		case d := <-arrived:
			if d.MessageId == last {
				return
			}
			w.t.Errorf("arrived as well: %s", d.Body)
		case <-time.After(patience):
			w.t.Fatal("the last message did not arrive")
		}
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func (w *world) pending() int {
	w.t.Helper()
	count, oldest, err := outbox.Pending(w.t.Context(), w.db)
	if err != nil {
		w.t.Fatal(err)
	}
	if oldest < 0 || (count == 0 && oldest != 0) {
		w.t.Errorf("%d messages wait, the oldest for %s", count, oldest)
	}
	return count
}

func (w *world) emptied() {
	w.t.Helper()
	eventually(w.t, "the outbox is empty", func() bool { return w.pending() == 0 })
}

func TestARolledBackTransactionPublishesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen()
	w.start(w.config("relay"))

	changedOurMind := errors.New("changed our mind")
	err := postgres.InTx(t.Context(), w.db, func(ctx context.Context, tx pgx.Tx) error {
		var b pgx.Batch
		seal(t, ctx, "order-1", "never happened").Append(&b)
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
		return changedOurMind
	})
	if !errors.Is(err, changedOurMind) {
		t.Fatal(err)
	}
	w.say("order-1", "happened")

	if h, _ := hear(t, arrived); h.says != "happened" {
		t.Errorf("published from a transaction that was rolled back: %q", h.says)
	}
	w.emptied()
	w.silence(arrived)
}

func TestCommittedMessagesArriveOnceInOrderUnderTheirIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen()

	// Enough for one subject to need a second pipeline.
	want := map[string][]string{}
	for n := range 600 {
		want["order-0"] = append(want["order-0"], fmt.Sprint(n))
	}
	for subject := 1; subject <= 8; subject++ {
		for n := range 20 {
			name := fmt.Sprintf("order-%d", subject)
			want[name] = append(want[name], fmt.Sprint(n))
		}
	}
	total := 0
	for subject, texts := range want {
		w.say(subject, texts...)
		total += len(texts)
	}
	rows, _ := w.db.Query(t.Context(), `SELECT message_id::text FROM outbox`)
	written, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}

	w.start(w.config("relay"))
	got := map[string][]string{}
	var ids []string
	for range total {
		h, d := hear(t, arrived)
		got[h.subject] = append(got[h.subject], h.says)
		ids = append(ids, h.id)
		if d.DeliveryMode != amqp.Persistent {
			t.Error("the broker may forget it when it restarts")
		}
	}
	for subject := range want {
		if !slices.Equal(got[subject], want[subject]) {
			t.Errorf("%s: arrived %v", subject, got[subject])
		}
	}
	slices.Sort(ids)
	slices.Sort(written)
	if !slices.Equal(ids, written) {
		t.Error("the ids that arrived are not those that were committed")
	}
	w.emptied()
	w.silence(arrived)
}

func TestWhatTheBrokerRefusesStaysAndArrivesLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	cfg := w.config("relay")
	cfg.Metrics = registry
	w.start(cfg)

	w.say("order-1", "nobody listens yet")
	eventually(t, "the broker refused it twice", func() bool { return counter(t, registry, "failwell_outbox_failures_total") >= 2 })
	if n := w.pending(); n != 1 {
		t.Fatalf("%d messages wait, want the one that was refused", n)
	}

	arrived := w.listen()
	hear(t, arrived)
	w.emptied()
	w.silence(arrived)
	if n := counter(t, registry, "failwell_outbox_published_total"); n != 1 {
		t.Errorf("counted as published: %v, want 1", n)
	}
}

func counter(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestARowThatCommitsLateIsNotSkipped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen()
	w.start(w.config("relay"))

	slow, err := w.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Rollback(context.Background()) //nolint:errcheck // only when the test has failed already
	var b pgx.Batch
	seal(t, t.Context(), "order-1", "slow").Append(&b)
	if err := slow.SendBatch(t.Context(), &b).Close(); err != nil {
		t.Fatal(err)
	}

	w.say("order-1", "quick")
	if h, _ := hear(t, arrived); h.says != "quick" {
		t.Fatalf("arrived %q", h.says)
	}
	w.emptied() // the relay is past the higher id
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h, _ := hear(t, arrived); h.says != "slow" {
		t.Errorf("arrived %q", h.says)
	}
	w.emptied()
	w.silence(arrived)
}

func (w *world) holders() map[string]int {
	w.t.Helper()
	rows, _ := w.db.Query(w.t.Context(), `SELECT holder FROM outbox_leases`)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.t.Fatal(err)
	}
	count := map[string]int{}
	for _, name := range names {
		count[name]++
	}
	return count
}

func TestTwoRelaysDoNotPublishTwiceAndOneTakesOverFromTheOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen()
	first, second := w.config("first"), w.config("second")
	first.Lease, second.Lease = 3*time.Second, 3*time.Second
	_, stopFirst := w.start(first)
	eventually(t, "the first holds all leases", func() bool { return w.holders()["first"] == outbox.Shards })
	w.start(second)

	const messages = 400
	for n := range messages {
		w.say(fmt.Sprintf("order-%d", n%16), fmt.Sprint(n))
	}
	seen := map[string]bool{}
	for range messages {
		h, _ := hear(t, arrived)
		if seen[h.id] {
			t.Errorf("message %s was published twice", h.says)
		}
		seen[h.id] = true
	}
	w.emptied()
	w.silence(arrived)
	if holders := w.holders(); holders["first"] != outbox.Shards {
		t.Errorf("holders of the leases are %v, and the first is alive", holders)
	}

	// One that stops gives its leases back; nobody waits until they expire.
	stopFirst()
	w.say("order-1", "after the first")
	hear(t, arrived)
	w.emptied()
	w.silence(arrived)
}

// The holder may be alive and only slow: until its lease ends nobody else publishes.
func TestTheLeaseOfADeadRelayIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen()
	var expires, now time.Time
	err := w.db.QueryRow(t.Context(), `
		INSERT INTO outbox_leases (shard, holder, expires_at)
		SELECT shard, 'dead', now() + interval '2 seconds'
		  FROM generate_series(0, $1 - 1) shard
		RETURNING expires_at`, outbox.Shards).Scan(&expires)
	if err != nil {
		t.Fatal(err)
	}
	w.say("order-1", "after the dead one")
	w.start(w.config("alive"))
	hear(t, arrived)
	if err := w.db.QueryRow(t.Context(), `SELECT now()`).Scan(&now); err != nil {
		t.Fatal(err)
	}
	if now.Before(expires) {
		t.Errorf("taken over %s before the lease had expired", expires.Sub(now))
	}
}

// A relay that restarts under its own name is not kept out by its own lease.
func TestARestartedRelayDoesNotWaitForItsOwnLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen()
	cfg := w.config("relay")
	cfg.Lease = 10 * patience
	_, stop := w.start(cfg)
	eventually(t, "it holds all leases", func() bool { return w.holders()["relay"] == outbox.Shards })
	stop()
	w.say("order-1", "still here")
	w.start(cfg)
	hear(t, arrived)
}

func TestAMessageWhoseRelayDiedBeforeTheDeleteIsPublishedAgainUnderItsID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen()
	w.say("order-1", "once or twice")

	// Another process, for it is killed in the middle of its work.
	relay := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDyingRelay$")
	relay.Env = append(os.Environ(), "OUTBOX_TEST_DB="+w.dbURL, "OUTBOX_TEST_AMQP="+w.amqpURL)
	if out, err := relay.CombinedOutput(); err == nil {
		t.Fatalf("the relay should have died:\n%s", out)
	}
	first, _ := hear(t, arrived)
	w.silence(arrived)
	if n := w.pending(); n != 1 {
		t.Fatalf("%d messages wait, want the one that was not deleted", n)
	}

	w.start(w.config("dying"))
	again, _ := hear(t, arrived)
	if again != first {
		t.Errorf("published as %v, then as %v", first, again)
	}
	w.emptied()
	w.silence(arrived)
}

// TestDyingRelay is the other process of the test above.
func TestDyingRelay(t *testing.T) {
	if os.Getenv("OUTBOX_TEST_DB") == "" {
		t.Skip("only as another process")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	db, err := postgres.Open(ctx, postgres.Options{URL: os.Getenv("OUTBOX_TEST_DB"), Logger: slog.Default()})
	if err != nil {
		t.Skip(err)
	}
	if err := fault.Arm(fault.Order{Point: fault.OutboxRelayAfterPublish, Action: fault.Crash}); err != nil {
		t.Skip(err)
	}
	w := &world{t: t, db: db, broker: connect(t, os.Getenv("OUTBOX_TEST_AMQP"))}
	w.start(w.config("dying"))
	<-ctx.Done()
}

func TestAMessageBelongsToTheTraceOfItsRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen()
	ctx, span := telemetry.Tracer().Start(t.Context(), "request")
	defer span.End()
	want := telemetry.Traceparent(ctx)
	m := seal(t, ctx, "order-1", "traced")
	if err := postgres.Write(t.Context(), w.db, m.Append); err != nil {
		t.Fatal(err)
	}
	w.start(w.config("relay"))
	if _, d := hear(t, arrived); want == "" || d.Headers["traceparent"] != want {
		t.Errorf("traceparent %v, want %q", d.Headers["traceparent"], want)
	}
}

func TestAWokenRelayDoesNotWaitForThePoll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen()
	cfg := w.config("relay")
	cfg.Poll, cfg.Lease = 10*patience, 10*patience
	relay, _ := w.start(cfg)
	for n := range 20 {
		w.say(fmt.Sprintf("order-%d", n), "awake")
		relay.Wake(fmt.Sprintf("order-%d", n))
		hear(t, arrived)
	}
}

// deletes counts the statements that delete what was sent.
type deletes struct{ n atomic.Int64 }

func (d *deletes) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (d *deletes) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	if strings.Contains(data.SQL, "DELETE FROM outbox") {
		d.n.Add(1)
	}
}
func (d *deletes) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}
func (d *deletes) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (d *deletes) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A commit for the delete of each message would cost as much as its writing did.
func TestMessagesThatComeOneByOneAreDeletedTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen()
	cfg, err := pgxpool.ParseConfig(w.dbURL)
	if err != nil {
		t.Fatal(err)
	}
	counted := &deletes{}
	cfg.ConnConfig.Tracer = counted
	db, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	config := w.config("relay")
	config.DB, config.Poll = db, patience
	relay, _ := w.start(config)
	begun := time.Now()
	const messages = 50
	for n := range messages {
		w.say("order-1", fmt.Sprint(n))
		relay.Wake("order-1")
		hear(t, arrived)
	}
	w.emptied()
	// One each time that the lag has passed, one at the end, and one to spare.
	if n, most := counted.n.Load(), int64(time.Since(begun)/(100*time.Millisecond))+2; n > min(most, messages/2) {
		t.Errorf("%d deletes of %d messages in %s, want %d at most", n, messages, time.Since(begun), most)
	}
	w.silence(arrived)
}

// What was handed over is published although nobody looks into the table; what was
// not is found there; and what is both is published once.
func TestWhatIsHandedOverIsPublishedOnceAndWhatIsNotIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen()
	cfg := w.config("relay")
	cfg.Poll, cfg.Lease = 10*patience, 10*patience
	relay, _ := w.start(cfg)
	w.say("order-1", "the first") // the relay looks once when it starts; from here on it must be told
	relay.Wake("order-1")
	hear(t, arrived)
	w.emptied()

	const messages = 200
	for n := range messages {
		m := seal(t, t.Context(), fmt.Sprintf("order-%d", n%16), fmt.Sprint(n))
		if err := postgres.Write(t.Context(), w.db, m.Append); err != nil {
			t.Fatal(err)
		}
		if n%3 != 0 {
			relay.Offer(m)
		}
		if n%5 == 0 {
			relay.WakeAll() // finds what was offered, too
		}
	}
	relay.WakeAll()
	seen := map[string]int{}
	for range messages {
		h, _ := hear(t, arrived)
		seen[h.says]++
	}
	for n := range messages {
		if seen[fmt.Sprint(n)] != 1 {
			t.Errorf("message %d arrived %d times", n, seen[fmt.Sprint(n)])
		}
	}
	w.emptied()
	w.silence(arrived)
}

// More than the queue holds, from a writer who does not wait.
func TestMoreThanCanBeHandedOverIsNotLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived := w.listen()
	cfg := w.config("relay")
	cfg.Poll = 10 * patience
	relay := outbox.NewRelay(cfg) // it is not running: nothing is taken out
	const messages = 700
	sealed := make([]outbox.Sealed, messages)
	err := postgres.Write(t.Context(), w.db, func(b *pgx.Batch) {
		for n := range sealed {
			sealed[n] = seal(t, t.Context(), "order-1", fmt.Sprint(n))
			sealed[n].Append(b)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	relay.Offer(sealed...)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { relay.Run(ctx) })
	defer func() { stop(); running.Wait() }()
	for n := range messages {
		if h, _ := hear(t, arrived); h.says != fmt.Sprint(n) {
			t.Fatalf("message %s arrived in the place of %d", h.says, n)
		}
	}
	w.emptied()
}

// Messages for nobody stay in the table; the others get past them, however many
// they are.
func TestMessagesForNobodyDoNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	q, err := w.ch.QueueDeclare("listener", true, false, false, false, nil)
	if err == nil {
		err = w.ch.QueueBind(q.Name, "tests.wanted", rabbit.Exchange, false, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	const nobody = 600 // more than one batch
	say := func(kind string, n int) {
		t.Helper()
		err := postgres.Write(t.Context(), w.db, func(b *pgx.Batch) {
			for range n {
				m, err := source.Seal(t.Context(), outbox.Message{Type: kind, Subject: "order-1", Data: kind})
				if err != nil {
					t.Fatal(err)
				}
				m.Append(b)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	say("tests.unwanted", nobody)
	say("tests.wanted", 3)
	w.start(w.config("relay"))
	arrived, err := w.ch.Consume(q.Name, "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		select {
		case <-arrived:
		case <-time.After(patience):
			t.Fatal("it waits behind messages for nobody")
		}
	}
	eventually(t, "only those for nobody are left", func() bool { return w.pending() == nobody })
}

// A message that cannot be encoded is an error before the transaction, not inside.
func TestSealRefusesWhatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	if _, err := source.Seal(t.Context(), outbox.Message{Type: "tests.said", Subject: "order-1", Data: make(chan int)}); err == nil {
		t.Error("sealed a channel")
	}
}

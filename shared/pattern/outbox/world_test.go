package outbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/outbox/rabbitpublisher"
	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) {
	otel.SetTracerProvider(sdktrace.NewTracerProvider())
	testenv.Main(m)
}

var migrations = fstest.MapFS{"migrations/00001_outbox.sql": {Data: []byte("-- +goose Up\n" + outbox.Schema)}}

const (
	source  = "/tests"
	timeout = 30 * time.Second // for what should take milliseconds, on a machine that is busy
	never   = time.Hour        // a period that no test outlasts
)

var quiet = slog.New(slog.DiscardHandler)

// world is an outbox and a broker of one test's own.
type world struct {
	t       *testing.T
	db      *pgxpool.Pool // an ordinary one
	broker  *rabbit.Conn
	dbURL   string
	amqpURL string
	ch      *amqp.Channel // for what the tests look at themselves
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dbURL: testenv.Postgres(t, migrations), amqpURL: testenv.Rabbit(t)}
	w.db = openDB(t, w.dbURL)
	w.broker = connect(t, w.amqpURL)
	var err error
	if w.ch, err = w.broker.Channel(); err != nil {
		t.Fatal(err)
	}
	if err := w.broker.DeclareExchange(w.ch); err != nil {
		t.Fatal(err)
	}
	return w
}

func openDB(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 16
	db, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func connect(t *testing.T, url string) *rabbit.Conn {
	t.Helper()
	broker := rabbit.Dial(rabbit.Options{URL: url, Name: "test", Logger: quiet})
	t.Cleanup(broker.Close)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if err := broker.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	return broker
}

// proxied is a way to the broker that can be cut: proxy.Stop breaks every connection.
func (w *world) proxied() (*rabbit.Conn, *toxiproxy.Proxy) {
	w.t.Helper()
	u, err := url.Parse(w.amqpURL)
	if err != nil {
		w.t.Fatal(err)
	}
	proxy := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "broker", "127.0.0.1:0", u.Host)
	if err := proxy.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(proxy.Stop)
	u.Host = proxy.Listen
	return connect(w.t, u.String()), proxy
}

// listen binds a queue to messages of a type ("#": all) and returns what arrives.
func (w *world) listen(kind string) <-chan amqp.Delivery {
	w.t.Helper()
	q, err := w.ch.QueueDeclare("listener", true, false, false, false, nil)
	if err == nil {
		err = w.ch.QueueBind(q.Name, kind, rabbit.Exchange, false, nil)
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

// config is of a relay that polls often and takes nothing over.
func (w *world) config() outbox.Config {
	return outbox.Config{
		DB: w.db, Publisher: rabbitpublisher.New(w.broker), Logger: quiet, Metrics: prometheus.NewRegistry(),
		Poll: 10 * time.Millisecond, Takeover: never,
	}
}

// start runs the relay of a writer until the test ends or stop is called, which waits for it.
func (w *world) start(writer string, cfg outbox.Config) (relay *outbox.Relay, stop func()) {
	relay = outbox.NewRelay(outbox.New(source, writer), cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { relay.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	w.t.Cleanup(stop)
	return relay, stop
}

// write commits one message for each text, as a process with this name.
func (w *world) write(writer string, texts ...string) {
	w.t.Helper()
	b := &pgx.Batch{}
	for _, text := range texts {
		w.envelope(writer, "tests.said", text).Append(b)
	}
	if err := w.db.SendBatch(w.t.Context(), b).Close(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) envelope(writer, kind, text string) outbox.Envelope {
	w.t.Helper()
	e, err := outbox.New(source, writer).Envelope(w.t.Context(), outbox.Message{Type: kind, Subject: "order-1", Data: text})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// age makes all rows look as if they had been written by now + by.
func (w *world) age(by time.Duration) {
	w.t.Helper()
	if _, err := w.db.Exec(w.t.Context(), `UPDATE outbox SET due_at = now() + $1::interval`, by); err != nil {
		w.t.Fatal(err)
	}
}

type heard struct{ id, text string }

func (w *world) hear(arrived <-chan amqp.Delivery) (heard, amqp.Delivery) {
	w.t.Helper()
	return w.hearOf(arrived, "a message")
}

// hearOf says, when nothing arrives, what it was that should have, and what the outbox holds.
func (w *world) hearOf(arrived <-chan amqp.Delivery, what string) (heard, amqp.Delivery) {
	w.t.Helper()
	t := w.t
	select {
	case d, ok := <-arrived:
		if !ok {
			t.Fatal("the channel was closed")
		}
		var e event.Event
		if err := e.UnmarshalJSON(d.Body); err != nil {
			t.Fatalf("not a CloudEvent: %v: %s", err, d.Body)
		}
		if e.ID() != d.MessageId || e.Type() != d.RoutingKey || e.Source() != source || e.Subject() != "order-1" {
			t.Errorf("the event says id %s type %s source %s, the broker %s %s", e.ID(), e.Type(), e.Source(), d.MessageId, d.RoutingKey)
		}
		h := heard{id: e.ID()}
		if err := e.DataAs(&h.text); err != nil {
			t.Fatal(err)
		}
		return h, d
	case <-time.After(timeout):
		t.Fatalf("%s did not arrive within %v; in the outbox: %s", what, timeout, w.left())
		panic("unreachable")
	}
}

// hearOnce hears n different messages and fails when one of them comes twice.
func (w *world) hearOnce(arrived <-chan amqp.Delivery, n int) map[string]string {
	w.t.Helper()
	texts := map[string]string{}
	for i := range n {
		h, _ := w.hearOf(arrived, fmt.Sprintf("message %d of %d", i+1, n))
		if _, again := texts[h.id]; again {
			w.t.Errorf("%q was published twice", h.text)
		}
		texts[h.id] = h.text
	}
	return texts
}

// silence checks that nothing more was published: all that was sits in the
// queue before a message that the test publishes itself.
func (w *world) silence(arrived <-chan amqp.Delivery) {
	w.t.Helper()
	last := uuid.NewString()
	_, err := w.broker.Publisher().Publish(w.t.Context(), []rabbit.Message{{ID: last, RoutingKey: "tests.said"}})
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
		case <-time.After(timeout):
			w.t.Fatal("the last message did not arrive")
		}
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func (w *world) pending() (n int) {
	w.t.Helper()
	if err := w.db.QueryRow(w.t.Context(), `SELECT count(*) FROM outbox`).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) emptied() {
	w.t.Helper()
	for deadline := time.Now().Add(timeout); w.pending() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("the outbox is not empty after %v: %s", timeout, w.left())
		}
	}
}

// left are the first rows of the outbox, for a person.
func (w *world) left() string {
	w.t.Helper()
	rows, _ := w.db.Query(w.t.Context(), `
		SELECT 'id ' || id || ' of writer ' || writer || ': ' || (convert_from(body, 'UTF8')::jsonb ->> 'data')
		  FROM outbox
		 ORDER BY id
		 LIMIT 5`)
	first, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf("%d rows, from %q on", w.pending(), first)
}

func counter(t *testing.T, cfg outbox.Config, name string) int {
	t.Helper()
	families, err := cfg.Metrics.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return int(family.GetMetric()[0].GetCounter().GetValue())
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func numbered(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprint(i)
	}
	return texts
}

package testenv

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	amqp "github.com/rabbitmq/amqp091-go"
)

// example is the testing.TB of an Example, to which none is handed.
type example struct {
	testing.TB
	cleanups []func()
}

func (e *example) Helper()                           {}
func (e *example) Cleanup(f func())                  { e.cleanups = append(e.cleanups, f) }
func (e *example) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (e *example) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (e *example) Error(args ...any)                 { panic(fmt.Sprint(args...)) }
func (e *example) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (e *example) done() {
	for _, f := range slices.Backward(e.cleanups) {
		f()
	}
}

// ExampleDB gives an Example a database of its own, with the tables that these statements
// create. done drops it.
func ExampleDB(statements string) (db *pgxpool.Pool, done func()) {
	e := &example{}
	db, err := pgxpool.New(context.Background(), Postgres(e, nil))
	if err == nil {
		_, err = db.Exec(context.Background(), statements)
	}
	if err != nil {
		panic(err)
	}
	e.Cleanup(db.Close)
	return db, e.done
}

// ExampleRabbit gives an Example a virtual host of its own with these queues, which are durable
// quorum queues. channel opens a channel that has publisher confirms.
func ExampleRabbit(queues ...string) (channel func() *amqp.Channel, done func()) {
	e := &example{}
	conn, err := amqp.Dial(Rabbit(e))
	if err != nil {
		panic(err)
	}
	e.Cleanup(func() { _ = conn.Close() })
	channel = func() *amqp.Channel {
		ch, err := conn.Channel()
		if err == nil {
			err = ch.Confirm(false)
		}
		if err != nil {
			panic(err)
		}
		return ch
	}
	ch := channel()
	for _, name := range queues {
		if _, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
			panic(err)
		}
	}
	return channel, e.done
}

// Read is what a query returns, as text: the columns of a row with a space between them,
// the rows with a comma. An error is its result, too.
func Read(db *pgxpool.Pool, query string, args ...any) string {
	rows, _ := db.Query(context.Background(), query, args...)
	text, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		values, err := row.Values()
		return strings.TrimSuffix(fmt.Sprintln(values...), "\n"), err
	})
	if err != nil {
		return err.Error()
	}
	return strings.Join(text, ", ")
}

// Outside is another system: it does what it is asked for by POST, and keeps a book of it.
type Outside struct {
	URL string

	// Lose is how many answers get lost on their way: the work is done, the connection breaks.
	Lose int

	// Keys lets it remember the Idempotency-Key of a request, and answer a repetition without
	// doing the work again.
	Keys bool

	mu     sync.Mutex
	done   []string
	known  map[string]string
	server *httptest.Server
}

// NewOutside starts one. Set its fields before the first request, and Close it.
func NewOutside() *Outside {
	o := &Outside{known: map[string]string{}}
	o.server = httptest.NewServer(http.HandlerFunc(o.serve))
	o.URL = o.server.URL
	return o
}

// Close stops it.
func (o *Outside) Close() { o.server.Close() }

// Done is what it has done, in order.
func (o *Outside) Done() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.done)
}

func (o *Outside) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	answer, repeated := o.known[key]
	if !repeated || !o.Keys {
		o.done = append(o.done, strings.TrimPrefix(r.URL.Path, "/"))
		answer = fmt.Sprintf("receipt %d", len(o.done))
		o.known[key] = answer
	}
	if o.Lose > 0 {
		o.Lose--
		panic(http.ErrAbortHandler) // the connection breaks
	}
	fmt.Fprint(w, answer)
}

// Ask sends one request: what is to be done, and the key of it, "" for none. An error leaves
// open whether it was done.
func (o *Outside) Ask(ctx context.Context, client *http.Client, what, key string) (answer string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.URL+"/"+what, nil)
	if err != nil {
		return "", err
	}
	r.Close = true // on a connection that was used before, net/http sends a request with a key twice by itself
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	response, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

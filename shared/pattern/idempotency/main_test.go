package idempotency_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/problem"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// The work, in these tests: an order is written and takes one piece from the stock.
var migrations = fstest.MapFS{"migrations/00001_idempotency.sql": {Data: []byte("-- +goose Up\n" + idempotency.Schema + `
CREATE TABLE orders (id uuid PRIMARY KEY, merchant_id text NOT NULL, basket text NOT NULL);
CREATE TABLE stock (remaining int NOT NULL CONSTRAINT in_stock CHECK (remaining >= 0));
INSERT INTO stock VALUES (1000);
`)}}

func open(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	db, err := postgres.Open(context.Background(), postgres.Options{
		URL: testenv.Postgres(tb, migrations), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(db.Close)
	return db
}

const retention = time.Hour

// shop takes orders over HTTP.
type shop struct {
	t   *testing.T
	db  *pgxpool.Pool
	url string

	// meeting is where requests with the header Meet wait for each other between
	// the look for a record and the work: all of them have found none.
	meeting sync.WaitGroup
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{t: t, db: open(t)}
	mux := http.NewServeMux()
	for _, operation := range []string{"POST /orders", "PUT /orders", "POST /gifts", "POST /shops/{shop}/orders"} {
		mux.Handle(operation, problem.HandlerFunc(s.serve))
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *shop) serve(w http.ResponseWriter, r *http.Request) error {
	recorded, err := s.order(r)
	if err != nil {
		return err
	}
	return recorded.Answer(w)
}

func (s *shop) order(r *http.Request) (idempotency.Recorded, error) {
	ctx, merchant := r.Context(), r.Header.Get("Merchant")
	basket, err := io.ReadAll(r.Body)
	if err != nil {
		return idempotency.Recorded{}, err
	}
	request, err := idempotency.FromRequest(r, merchant, r.Pattern, basket, retention)
	if err != nil {
		return idempotency.Recorded{}, err
	}
	meet := sync.OnceFunc(func() { s.meeting.Done(); s.meeting.Wait() })
	var answer idempotency.Recorded
	err = postgres.RetryStale(ctx, func() error {
		err := postgres.Read(ctx, s.db, func(b *pgx.Batch) { request.Lookup(b, &answer) })
		if r.Header.Get("Meet") != "" {
			meet()
		}
		if err != nil || answer.Exists {
			return err
		}
		id := uuid.New() // no second order could have the same answer
		response := idempotency.Response{
			Status: http.StatusCreated,
			Header: map[string]string{"Content-Type": "application/json", "Location": "/orders/" + id.String()},
			Body:   []byte(`{ "id":"` + id.String() + `" }`),
		}
		err = postgres.Write(ctx, s.db, func(b *pgx.Batch) {
			request.Record(b, response)
			b.Queue(`INSERT INTO orders VALUES ($1, $2, $3)`, id, merchant, string(basket))
			b.Queue(`UPDATE stock SET remaining = remaining - 1`)
		})
		if idempotency.IsDuplicate(err) {
			return postgres.ErrStale
		}
		answer = idempotency.Fresh(response)
		return err
	})
	return answer, err
}

// answer is a response that has been read.
type answer struct {
	status   int
	header   http.Header
	body     string
	replayed string
	problem  problem.Problem
}

type request struct{ method, path, merchant, key, basket, meet string }

func (s *shop) send(r request) (answer, error) {
	if r.method == "" {
		r.method = http.MethodPost
	}
	if r.path == "" {
		r.path = "/orders"
	}
	out, err := http.NewRequestWithContext(s.t.Context(), r.method, s.url+r.path, strings.NewReader(r.basket))
	if err != nil {
		return answer{}, err
	}
	out.Header.Set("Merchant", r.merchant)
	out.Header.Set("Meet", r.meet)
	out.Header.Set(idempotency.HeaderKey, r.key)
	response, err := testenv.Client.Do(out)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close() //nolint:errcheck // a test
	text, err := io.ReadAll(response.Body)
	a := answer{status: response.StatusCode, header: response.Header, body: string(text), replayed: response.Header.Get(idempotency.HeaderReplayed)}
	if response.Header.Get("Content-Type") == "application/problem+json" {
		err = errors.Join(err, json.Unmarshal(text, &a.problem))
	}
	return a, err
}

// must is send where a failure is one of the test.
func (s *shop) must(r request) answer {
	s.t.Helper()
	a, err := s.send(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// atOnce sends all requests; none does its work before all have looked for a record.
func (s *shop) atOnce(requests ...request) []answer {
	s.t.Helper()
	s.meeting.Add(len(requests))
	answers, failures := make([]answer, len(requests)), make([]error, len(requests))
	var sent sync.WaitGroup
	for i, r := range requests {
		r.meet = "here"
		sent.Go(func() { answers[i], failures[i] = s.send(r) })
	}
	sent.Wait()
	if err := errors.Join(failures...); err != nil {
		s.t.Fatal(err)
	}
	return answers
}

// wantOrders checks how often the work was done in all, by both of its traces.
func (s *shop) wantOrders(want int) {
	s.t.Helper()
	var orders, taken int
	err := s.db.QueryRow(s.t.Context(), `SELECT (SELECT count(*) FROM orders), 1000 - remaining FROM stock`).Scan(&orders, &taken)
	if err != nil {
		s.t.Fatal(err)
	}
	if orders != want || taken != want {
		s.t.Errorf("%d orders, %d pieces taken, want %d", orders, taken, want)
	}
}

// exec changes the world behind the shop's back.
func (s *shop) exec(statement string) {
	s.t.Helper()
	if _, err := s.db.Exec(s.t.Context(), statement); err != nil {
		s.t.Fatal(err)
	}
}

// wantFirst checks an answer to a request that was worked on.
func wantFirst(t *testing.T, a answer) {
	t.Helper()
	if a.status != http.StatusCreated || len(a.header.Values(idempotency.HeaderReplayed)) > 0 {
		t.Errorf("status %d, replayed %q: %s; want a new order", a.status, a.replayed, a.body)
	}
	if a.header.Get("Content-Type") != "application/json" || !strings.HasPrefix(a.header.Get("Location"), "/orders/") {
		t.Errorf("headers are missing: %v", a.header)
	}
}

// wantReplay checks that an answer is the one that was given before.
func wantReplay(t *testing.T, a, first answer) {
	t.Helper()
	if a.status != first.status || a.body != first.body || a.replayed != "true" {
		t.Errorf("status %d, replayed %q: %s; want a replay of %s", a.status, a.replayed, a.body, first.body)
	}
	for _, name := range []string{"Content-Type", "Location"} {
		if a.header.Get(name) != first.header.Get(name) {
			t.Errorf("%s: %q, the first time it was %q", name, a.header.Get(name), first.header.Get(name))
		}
	}
}

// wantReused checks the refusal of a key that stands for other content.
func wantReused(t *testing.T, a answer) {
	t.Helper()
	if a.status != http.StatusUnprocessableEntity || !strings.HasSuffix(a.problem.Type, "/idempotency-key-reused") ||
		a.problem.Field != idempotency.HeaderKey || a.replayed != "" {
		t.Errorf("status %d, replayed %q: %s; want a refusal", a.status, a.replayed, a.body)
	}
}

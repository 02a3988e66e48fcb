package callback_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/testenv"
)

const (
	acmeSecret  = "whsec_YWNtZSdzIG93biBzZWNyZXQ="
	otherSecret = "whsec_YW5vdGhlciBvbmUncyBzZWNyZXQ="
)

var migrations = fstest.MapFS{"migrations/00001_callback.sql": {Data: []byte("-- +goose Up\n" + callback.Schema + `
CREATE TABLE merchants (merchant_id text PRIMARY KEY, webhook_secret text NOT NULL);
INSERT INTO merchants VALUES ('acme', '` + acmeSecret + `'), ('other', '` + otherSecret + `'), ('bare', ''), ('blank', 'whsec_');
INSERT INTO merchants SELECT 'hangs-' || n, '` + otherSecret + `' FROM generate_series(1, 5) n;
`)}}

// patience is for what should take milliseconds, on a machine that is busy. It
// is shorter than the fifteen seconds of a try: what waits for a slow endpoint
// to be cut off is too late.
const patience = 12 * time.Second

// world is a table of callbacks of one test's own.
type world struct {
	t     *testing.T
	db    *pgxpool.Pool
	dbURL string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dbURL: testenv.Postgres(t, migrations)}
	w.db = open(t, w.dbURL)
	return w
}

func open(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	db, err := postgres.Open(context.Background(), postgres.Options{URL: url, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(db.Close)
	return db
}

// lab lets callbacks go to the endpoints of these tests.
var lab = callback.Filter{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}

// config tries twice again soon after a failure, then no more.
func (w *world) config() callback.Config {
	return callback.Config{
		DB: w.db, Logger: slog.New(slog.DiscardHandler), Filter: lab,
		Delays: []time.Duration{0, time.Millisecond, time.Millisecond}, Poll: 10 * time.Millisecond,
	}
}

// start runs a worker until the test ends or stop is called, which waits for it.
func (w *world) start(cfg callback.Config) (worker *callback.Worker, stop func()) {
	worker = callback.NewWorker(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { worker.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	w.t.Cleanup(stop)
	return worker, stop
}

// enqueue commits a delivery for a merchant and returns its id.
func (w *world) enqueue(merchant, url, payload string) uuid.UUID {
	w.t.Helper()
	b, id := &pgx.Batch{}, uuid.Must(uuid.NewV7())
	callback.Enqueue(b, callback.Delivery{ID: id, MerchantID: merchant, Subject: "ord_7", URL: url, Payload: []byte(payload)})
	if err := w.db.SendBatch(w.t.Context(), b).Close(); err != nil {
		w.t.Fatal(err)
	}
	return id
}

// standing is a delivery as it stands.
type standing struct {
	State     string
	Attempts  int
	Wait      float64 // seconds until the next try
	Delivered bool
	LastError string
}

func (w *world) standing(id uuid.UUID) standing {
	w.t.Helper()
	rows, _ := w.db.Query(w.t.Context(), `
		SELECT state, attempts, extract(epoch FROM next_attempt_at - now())::float8, delivered_at IS NOT NULL, last_error
		  FROM callbacks
		 WHERE id = $1`,
		id)
	s, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[standing])
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// becomes waits until a delivery has that state.
func (w *world) becomes(id uuid.UUID, state string) standing {
	w.t.Helper()
	eventually(w.t, "a callback becomes "+state, func() bool { return w.standing(id).State == state })
	return w.standing(id)
}

func (w *world) exec(statement string) {
	w.t.Helper()
	if _, err := w.db.Exec(w.t.Context(), statement); err != nil {
		w.t.Fatal(err)
	}
}

// try is one request as an endpoint gets it.
type try struct {
	method string
	header http.Header
	body   []byte
}

func (tr try) id() string { return tr.header.Get(standardwebhooks.HeaderWebhookID) }

// endpoint is a merchant's webhook.
type endpoint struct {
	t     *testing.T
	url   string
	tries chan try
}

// endpoint starts one that answers its n-th request, counted from one, with answer.
func (w *world) endpoint(answer func(n int, out http.ResponseWriter)) *endpoint {
	e := &endpoint{t: w.t, tries: make(chan try, 20_000)}
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.t.Errorf("a try broke off: %v", err)
		}
		count := int(n.Add(1))
		e.tries <- try{r.Method, r.Header, body}
		answer(count, out)
	}))
	w.t.Cleanup(server.Close)
	e.url = server.URL
	return e
}

// status answers every request in the same way.
func status(code int) func(int, http.ResponseWriter) {
	return func(_ int, out http.ResponseWriter) { out.WriteHeader(code) }
}

// next waits for the next try.
func (e *endpoint) next() try {
	e.t.Helper()
	select {
	case tr := <-e.tries:
		return tr
	case <-time.After(patience):
		e.t.Fatal("nothing came")
		panic("unreachable")
	}
}

// wantNoMore checks that no call came that has not been looked at.
func (e *endpoint) wantNoMore() {
	e.t.Helper()
	if n := len(e.tries); n > 0 {
		e.t.Errorf("%d more tries came", n)
	}
}

// wantSigned checks a try as its receiver should.
func wantSigned(t *testing.T, tr try, secret string) {
	t.Helper()
	receiver, err := standardwebhooks.NewWebhook(secret)
	if err == nil {
		err = receiver.Verify(tr.body, tr.header)
	}
	if err != nil {
		t.Errorf("the receiver refuses it: %v", err)
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

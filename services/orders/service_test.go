package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// nowhere is the publisher of a relay that does not run.
type nowhere struct{ outbox.Publisher }

// bench is a service whose relay and callbacks are not running, and its API.
type bench struct {
	t   testing.TB
	db  *pgxpool.Pool
	api http.Handler
	s   *service
}

func newBench(t testing.TB, conns int32) bench {
	t.Helper()
	return newReplica(t, testenv.Postgres(t, migrations), conns)
}

// newReplica is one more service on a database.
func newReplica(t testing.TB, url string, conns int32) bench {
	t.Helper()
	ctx := context.Background()
	db, err := postgres.Open(ctx, postgres.Options{URL: url, MaxConns: conns, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	merchants := []config.Merchant{{ID: "mer_acme", Key: "sk_acme", WebhookSecret: "whsec_ZmFpbHdlbGwtbGFiLWFjbWUtd2ViaG9vay1zZWNyZXQ="}}
	if err := web.SyncAPIKeys(ctx, db, merchants); err != nil {
		t.Fatal(err)
	}
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	s := &service{
		cfg: settings{KeyRetention: 1e12, SagaStepTimeout: 1e12}, db: db, log: log, metrics: newMetrics(registry), writer: postgres.Grouped(db, postgres.GroupOptions{}),
		outbox:    outbox.New("/orders", "test"),
		relay:     outbox.NewRelay(outbox.New("/orders", "test"), outbox.Config{DB: db, Publisher: nowhere{}, Logger: log}),
		callbacks: callback.NewWorker(callback.Config{DB: db, Logger: log, Delays: []time.Duration{0}, Poll: time.Second}),
	}
	t.Cleanup(s.writer.Close)
	if err := s.seed(ctx, merchants, "mug=Mug=1250=GBP=100000000"); err != nil {
		t.Fatal(err)
	}
	return bench{t: t, db: db, api: s.routes(context.Background(), registry, nil), s: s}
}

// accept places an order and returns its id.
func (b bench) accept(key string) (id string) {
	recorder := b.place(key)
	var o orderView
	if err := json.Unmarshal(recorder.Body.Bytes(), &o); err != nil || recorder.Code != http.StatusAccepted {
		b.t.Fatalf("%d %s", recorder.Code, recorder.Body)
	}
	return o.ID
}

func (b bench) place(key string) *httptest.ResponseRecorder { return b.order(key, "mug") }

// order orders one of each.
func (b bench) order(key string, skus ...string) *httptest.ResponseRecorder {
	in := newOrder{CustomerID: "cus_1", PaymentToken: "tok_1", CallbackURL: "https://shop.example/hooks"}
	for _, sku := range skus {
		in.Items = append(in.Items, item{SKU: sku, Quantity: 1})
	}
	body, err := json.Marshal(in)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.post("/v1/orders", body, map[string]string{"Content-Type": "application/json", "Idempotency-Key": key})
}

// orders are the ids of all that there are.
func (b bench) orders() []string {
	rows, _ := b.db.Query(context.Background(), `SELECT 'ord_' || id FROM orders`)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.t.Fatal(err)
	}
	return ids
}

func (b bench) cancel(id string) *httptest.ResponseRecorder {
	return b.post("/v1/orders/"+id+"/cancel", nil, nil)
}

func (b bench) post(path string, body []byte, headers map[string]string) *httptest.ResponseRecorder {
	request := httptest.NewRequestWithContext(context.Background(), http.MethodPost, path, bytes.NewReader(body))
	request.Header.Set("Authorization", "Bearer sk_acme")
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	recorder := httptest.NewRecorder()
	b.api.ServeHTTP(recorder, request)
	return recorder
}

// answer delivers a participant's answer.
func (b bench) answer(id, step string) {
	if err := b.s.receive(context.Background(), b.message(id, step)); err != nil {
		b.t.Fatal(err)
	}
}

func (b bench) message(id, step string) event.Event {
	e := event.New()
	e.SetID(uuid.Must(uuid.NewV7()).String())
	e.SetSource("/test")
	e.SetType("orders.saga-reply")
	e.SetSubject(id)
	if err := e.SetData(event.ApplicationJSON, saga.Reply{Step: step, Outcome: saga.Done}); err != nil {
		b.t.Fatal(err)
	}
	return e
}

func BenchmarkAccept(b *testing.B) {
	bench := newBench(b, 16)
	bench.accept("first")
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			bench.accept(uuid.NewString())
		}
	})
}

func BenchmarkReplay(b *testing.B) {
	bench := newBench(b, 16)
	bench.accept("first")
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			bench.accept("first")
		}
	})
}

func BenchmarkSagaAnswer(b *testing.B) {
	bench := newBench(b, 16)
	ids := make([]string, b.N)
	for i := range ids {
		ids[i] = bench.accept(uuid.NewString())
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, id := range ids {
		bench.answer(id, "authorise")
	}
}

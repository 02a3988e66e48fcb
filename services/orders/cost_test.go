package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/testenv"
	"example.com/failwell/shared/platform/web"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// counter counts what goes to the database.
type counter struct{ trips, statements atomic.Int64 }

func (c *counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	c.trips.Add(1)
	c.statements.Add(int64(data.Batch.Len()))
	return ctx
}
func (c *counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.trips.Add(1)
	c.statements.Add(1)
	return ctx
}
func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// spent returns what was counted since the last call.
func (c *counter) spent() (trips, statements int64) { return c.trips.Swap(0), c.statements.Swap(0) }

// Speed is lost one round trip at a time, by changes that each look harmless. This
// counts them, which no noise of the machine can change.
func TestAnOrderCostsTwoRoundTripsToAcceptAndTwoForEachAnswer(t *testing.T) {
	ctx := t.Context()
	cfg, err := pgxpool.ParseConfig(testenv.Postgres(t, migrations))
	if err != nil {
		t.Fatal(err)
	}
	var count counter
	cfg.ConnConfig.Tracer = &count
	cfg.MaxConns = 1 // so that statements are prepared once, in the warm-up
	db, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	merchants := []config.Merchant{{ID: "mer_acme", Key: "sk_acme", WebhookSecret: "whsec_ZmFpbHdlbGwtbGFiLWFjbWUtd2ViaG9vay1zZWNyZXQ="}}
	if err := web.SeedMerchants(ctx, db, merchants); err != nil {
		t.Fatal(err)
	}
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	s := &service{
		cfg: settings{KeyRetention: 1e12, SagaPatience: 1e12}, db: db, log: log, metrics: newMetrics(registry),
		relay:     outbox.NewRelay(outbox.Config{DB: db, Logger: log}),
		callbacks: callback.NewWorker(callback.Config{DB: db, Logger: log}),
	}
	if err := s.seed(ctx, merchants, "mug=Mug=1250=GBP=1000"); err != nil {
		t.Fatal(err)
	}
	api := s.routes(registry, nil)
	accept := func() (id string) {
		request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/orders",
			bytes.NewReader([]byte(`{"customer_id":"cus_1","items":[{"sku":"mug","quantity":1}],"payment_token":"tok_1","callback_url":"https://shop.example/hooks"}`)))
		for name, value := range map[string]string{"Content-Type": "application/json", "Authorization": "Bearer sk_acme", "Idempotency-Key": uuid.NewString()} {
			request.Header.Set(name, value)
		}
		recorder := httptest.NewRecorder()
		api.ServeHTTP(recorder, request)
		var o orderView
		if err := json.Unmarshal(recorder.Body.Bytes(), &o); err != nil || recorder.Code != http.StatusAccepted {
			t.Fatalf("%d %s", recorder.Code, recorder.Body)
		}
		return o.ID
	}
	accept() // the merchant's key is looked up once and remembered
	count.spent()

	id := accept()
	trips, statements := count.spent()
	t.Logf("accepting an order: %d round trips, %d statements", trips, statements)
	if trips != 2 || statements > 8 {
		t.Errorf("accepting an order: %d round trips, %d statements; at most 2 and 8", trips, statements)
	}
	for _, step := range []string{"authorise", "post-sale", "capture"} {
		e := event.New()
		e.SetID(uuid.Must(uuid.NewV7()).String())
		e.SetSource("/test")
		e.SetType("orders.saga-reply")
		if err := e.SetData(event.ApplicationJSON, reply{OrderID: id, Step: step, Outcome: saga.Done}); err != nil {
			t.Fatal(err)
		}
		if err := s.receive(ctx, e); err != nil {
			t.Fatal(err)
		}
		trips, statements := count.spent()
		t.Logf("the answer to %s: %d round trips, %d statements", step, trips, statements)
		if trips != 2 || statements > 8 {
			t.Errorf("the answer to %s: %d round trips, %d statements; at most 2 and 8", step, trips, statements)
		}
	}
	var status string
	if err := db.QueryRow(ctx, `SELECT status FROM orders WHERE 'ord_' || id = $1`, id).Scan(&status); err != nil || status != statusConfirmed {
		t.Errorf("the order is %q, %v", status, err)
	}
}

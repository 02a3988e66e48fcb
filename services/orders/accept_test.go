package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/web"
)

// A request that waited in vain learns for what: for the first request with its key,
// which is at work, or for a product that others are buying. Neither is its fault, or ours.
func TestWhoWaitedInVainIsToldForWhat(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		hold   func(b *pgx.Batch)
		status int
		slug   string
	}{
		"the key": {func(b *pgx.Batch) {
			earlier := idempotency.Request{Merchant: "mer_acme", Operation: "POST /v1/orders", Key: "key", Retention: time.Hour}
			earlier.Record(b, idempotency.Response{Status: http.StatusAccepted})
		}, http.StatusConflict, "idempotency-key-in-use"},
		"the stock": {func(b *pgx.Batch) {
			b.Queue(`SELECT FROM products FOR UPDATE`)
		}, http.StatusServiceUnavailable, "busy"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil, 8)
			b.accept("first") // what comes next goes by memory, as most do
			holder, err := b.db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer holder.Rollback(t.Context()) //nolint:errcheck // a test's
			var held pgx.Batch
			c.hold(&held)
			if err := holder.SendBatch(t.Context(), &held).Close(); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			answer := b.place("key")
			var p web.Problem
			if err := json.Unmarshal(answer.Body.Bytes(), &p); err != nil || answer.Code != c.status || !strings.HasSuffix(p.Type, "/"+c.slug) {
				t.Errorf("%d %s", answer.Code, answer.Body)
			}
			if answer.Header().Get("Retry-After") != "1" {
				t.Errorf("Retry-After %q", answer.Header().Get("Retry-After"))
			}
			if took := time.Since(begun); took > 12*time.Second {
				t.Errorf("after %v", took)
			}
			if err := holder.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.accept("key") // and the same request succeeds then
		})
	}
}

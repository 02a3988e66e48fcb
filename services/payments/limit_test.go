package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/testenv"
)

// Three hundred retries of one merchant wait for one key, whose row is locked: each would
// hold a database connection, and all other merchants would wait for one.
func TestLimitMerchant_WaitersOfOneDoNotHoldUpAnother(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	s.seed(other, otherKey)
	s = s.with(func(cfg *settings) { cfg.DatabaseConns, cfg.KeyWait = s.db.Config().MaxConns, patience })
	lock := s.startedPayout()
	tx, err := s.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // it has changed nothing
	if _, err := tx.Exec(t.Context(), `SELECT FROM idempotency_keys FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.routes(t.Context(), prometheus.NewRegistry(), nil))
	t.Cleanup(server.Close)
	send := func(ctx context.Context, method, path, key, body string) int {
		request, err := http.NewRequestWithContext(ctx, method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0
		}
		for name, value := range map[string]string{"Authorization": "Bearer " + key, "Content-Type": "application/json", "Idempotency-Key": lock.Key} {
			request.Header.Set(name, value)
		}
		response, err := testenv.Client.Do(request)
		if err != nil {
			return 0 // it was given up
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	slowest := func() (longest time.Duration) {
		for range 20 {
			begun := time.Now()
			if status := send(t.Context(), http.MethodGet, "/v1/payouts/pyo_"+lock.OperationID.String(), otherKey, ""); status != http.StatusNotFound {
				t.Errorf("answered %d", status)
			}
			longest = max(longest, time.Since(begun))
		}
		return longest
	}
	measure := func() (before, during time.Duration) {
		before = slowest()
		ctx, giveUp := context.WithCancel(t.Context())
		var refused atomic.Int32
		var asking sync.WaitGroup
		for n := range 300 {
			asking.Go(func() {
				if send(ctx, http.MethodPost, "/v1/payouts", acmeKey, fmt.Sprintf(`{"amount":{"minor":%d,"currency":"GBP"}}`, n+1)) == http.StatusTooManyRequests {
					refused.Add(1)
				}
			})
		}
		eventually(t, "all are on their way", func() bool { return refused.Load() > 0 || s.db.Stat().AcquiredConns() == s.db.Config().MaxConns })
		during = slowest()
		giveUp()
		asking.Wait()
		return before, during
	}
	// Without the limit it is seconds, each time. A pause of the machine is not there three times.
	for try := 1; ; try++ {
		before, during := measure()
		if during <= 2*before+300*time.Millisecond {
			break
		}
		t.Logf("another merchant's slowest request took %s, and %s before", during, before)
		if try == 3 {
			t.Fatal("another merchant waits for them, three times out of three")
		}
	}
}

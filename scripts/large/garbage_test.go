package large

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
)

const expired = 1_000_000

// A million keys that have expired are collected beside traffic. Orders are
// accepted all the while; how long they take is said, before and during.
func TestGarbageCollection_OfAMillionKeysBesideTraffic(t *testing.T) {
	ctx := limit(t)
	// Somebody else is the collector until we say so.
	run(ctx, t, truth.Orders,
		`INSERT INTO leases VALUES ('garbage:idempotency-keys', 'the test', now() + interval '1 hour')
		     ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at`,
		`INSERT INTO idempotency_keys (merchant_id, operation, key, fingerprint, status, headers, body, expires_at)
		 SELECT 'mer_acme', 'POST /v1/orders', 'old-' || n, '\x00', 202, '{}', convert_to(repeat('x', 400), 'UTF8'), now() - interval '1 minute'
		   FROM generate_series(1, `+strconv.Itoa(expired)+`) n`,
		`ANALYZE idempotency_keys`)
	before := accepting(ctx, t, func(since time.Duration, _ int) bool { return since > 6*time.Second })

	run(ctx, t, truth.Orders, `DELETE FROM leases WHERE name = 'garbage:idempotency-keys'`)
	left := func() (some bool) {
		if err := truth.Orders.QueryRow(ctx, `SELECT EXISTS (SELECT FROM idempotency_keys WHERE expires_at < now())`).Scan(&some); err != nil {
			t.Error(err)
		}
		return some
	}
	during := accepting(ctx, t, func(_ time.Duration, orders int) bool { return orders%50 == 0 && !left() })
	t.Logf("%d keys collected in %s", expired, during.took.Round(100*time.Millisecond))
	t.Logf("accepting an order before: %s", before)
	t.Logf("accepting an order during: %s", during)
	// Noise of a shared machine is a factor of two or three; a collector that
	// locks what traffic needs is a factor of a hundred.
	if during.p99 > 10*before.p99+100*time.Millisecond {
		t.Errorf("p99 of accepting an order rose from %s to %s", before.p99, during.p99)
	}
}

type latency struct {
	orders   int
	took     time.Duration
	p50, p99 time.Duration
}

func (l latency) String() string {
	return l.p50.Round(100*time.Microsecond).String() + " p50, " + l.p99.Round(100*time.Microsecond).String() + " p99"
}

// accepting places orders at a steady pace until enough tells that it is.
func accepting(ctx context.Context, t *testing.T, enough func(since time.Duration, orders int) bool) latency {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var clients sync.WaitGroup
	begun := time.Now()
	pace := time.NewTicker(20 * time.Millisecond) // 50 a second
	defer pace.Stop()
	for n := 1; !enough(time.Since(begun), n); n++ {
		select {
		case <-pace.C:
		case <-ctx.Done():
			t.Fatal("not collected in time")
		}
		clients.Go(func() {
			token, err := acme.Token(ctx, shop.CardDeclined) // ends soon, and leaves little behind
			if err != nil {
				t.Error(err)
				return
			}
			sent := time.Now()
			a, err := acme.Place(ctx, uuid.NewString(), acme.Basket(token, shop.Item{SKU: "mug", Quantity: 1}))
			if err != nil || a.Status != http.StatusAccepted {
				t.Errorf("%d %s, %v", a.Status, a.Body, err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(sent))
		})
	}
	all := time.Since(begun)
	clients.Wait()
	slices.Sort(took)
	return latency{orders: len(took), took: all, p50: took[len(took)/2], p99: took[len(took)*99/100]}
}

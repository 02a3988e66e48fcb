package large

import (
	"net/http"
	"testing"
	"time"

	"example.com/failwell/scripts/stack"
)

// A scrape comes every few seconds, for good. What it counts is led to by an index, and the
// counting ends at a limit: half a million rows that have ended cost it nothing.
func TestMetrics_AScrapeIsAsQuickWithLargeTables(t *testing.T) {
	ctx := limit(t)
	// The quickest of many: a busy machine makes all of twenty slow, and not all within ten seconds.
	scrape := func(service string, enough time.Duration) time.Duration {
		least := time.Hour
		for n, first := 0, time.Now(); n < 20 || least > enough && time.Since(first) < 10*time.Second; n++ {
			begun := time.Now()
			if a, err := acme.Get(ctx, system.URL[service]+"/metrics"); err != nil || a.Status != http.StatusOK {
				t.Fatal(a, err)
			}
			least = min(least, time.Since(begun))
		}
		return least
	}
	before := map[string]time.Duration{}
	for _, service := range stack.Services {
		before[service] = scrape(service, time.Hour)
	}
	run(ctx, t, truth.Orders,
		`INSERT INTO orders (id, merchant_id, customer_id, status, payment_id, payment_token, total_minor, currency, created_at)
		 SELECT `+ids("9")+`, 'mer_acme', 'large', 'confirmed', gen_random_uuid(), 'large', 100, 'GBP', now() FROM generate_series(1, 100000) n`,
		`INSERT INTO sagas (id, phase, step) SELECT id, 'completed', '' FROM orders WHERE customer_id = 'large'`,
		`INSERT INTO callbacks (id, merchant_id, subject, url, payload, state, next_attempt_at)
		 SELECT gen_random_uuid(), 'large', 'large', '', '', CASE n % 10000 WHEN 0 THEN 'parked' WHEN 1 THEN 'pending' ELSE 'delivered' END, now() + interval '1 hour' FROM generate_series(1, 500000) n`,
		`ANALYZE orders, sagas, callbacks`)
	run(ctx, t, truth.Payments,
		`INSERT INTO payouts (id, merchant_id, amount_minor, currency, recovery_point, outcome, finished_at)
		 SELECT `+ids("8")+`, 'large', 1, 'GBP', 'finished', CASE WHEN n % 10000 = 0 THEN 'unknown' ELSE 'sent' END, now() FROM generate_series(1, 500000) n`,
		`WITH run AS (INSERT INTO reconciliations (id, status, requested_at, finished_at) VALUES (gen_random_uuid(), 'finished', now() + interval '1 minute', now()) RETURNING id)
		 INSERT INTO reconciliation_differences (run_id, source, kind, reference, subject, merchant_id, finding, verdict, note)
		 SELECT id, 'bank', 'large', n::text, gen_random_uuid(), 'large', '', 'pending', '' FROM run, generate_series(1, 100000) n`,
		`ANALYZE payouts, reconciliations, reconciliation_differences`)
	for _, service := range stack.Services {
		most := before[service] + 25*time.Millisecond
		after := scrape(service, most)
		t.Logf("%s: %s, with empty tables %s", service, after.Round(time.Millisecond), before[service].Round(time.Millisecond))
		if after > most {
			t.Errorf("%s: %s", service, after)
		}
	}
	run(ctx, t, truth.Orders, `DELETE FROM sagas USING orders WHERE orders.id = sagas.id AND customer_id = 'large'`, `DELETE FROM orders WHERE customer_id = 'large'`, `DELETE FROM callbacks WHERE merchant_id = 'large'`)
	run(ctx, t, truth.Payments, `DELETE FROM payouts WHERE merchant_id = 'large'`,
		`DELETE FROM reconciliation_differences WHERE merchant_id = 'large'`, `DELETE FROM reconciliations WHERE requested_at > now()`)
}

package main

import (
	"testing"
	"time"

	"example.com/failwell/shared/pattern/garbagecollection"
)

// What later runs need to know stays: the last that compared everything, and
// those since. So do the guards of payouts that are not finished.
func TestGarbageRules_KeepRunsAndGuardsThatAreStillNeeded(t *testing.T) {
	t.Parallel()
	s := newShop(t).with(func(cfg *settings) { cfg.InboxRetention = 30 * 24 * time.Hour })
	s.exec(`
		WITH run AS (
		    INSERT INTO reconciliations (id, status, requested_at, started_at, finished_at, not_compared)
		    SELECT gen_random_uuid(), 'finished', at, at, at, missing::text[]
		      FROM (VALUES (now() - interval '70 days', '{}'), (now() - interval '60 days', '{}'), (now() - interval '50 days', '{bank}')) AS old (at, missing)
		    RETURNING id)
		INSERT INTO reconciliation_differences (run_id, source, kind, reference, subject, merchant_id, finding, verdict, note)
		SELECT id, 'bank', 'transfer', 'pyo_' || n, gen_random_uuid(), '', 'f', 'unresolvable', '' FROM run, generate_series(1, 3) n`)
	s.exec(`
		WITH p AS (
		    INSERT INTO payouts (id, merchant_id, amount_minor, currency, recovery_point, finished_at)
		    VALUES (gen_random_uuid(), 'mer_acme', 1, 'GBP', 'finished', now() - interval '40 days'),
		           (gen_random_uuid(), 'mer_acme', 1, 'GBP', 'finished', now() - interval '1 day'),
		           (gen_random_uuid(), 'mer_acme', 1, 'GBP', 'booked', NULL)
		    RETURNING id)
		INSERT INTO guards (name, entered_at) SELECT 'bank-transfer:pyo_' || id, now() - interval '50 days' FROM p`)
	s.exec(`INSERT INTO guards (name, entered_at) VALUES ('of another kind', now() - interval '50 days')`)
	for _, rule := range s.garbageRules() {
		if rule.Name != "receipts" {
			s.collect(rule)
		}
	}
	same(t, "runs", s.count(`SELECT count(*) FROM reconciliations`), 2)
	same(t, "differences", s.count(`SELECT count(*) FROM reconciliation_differences`), 6)
	same(t, "guards", s.count(`SELECT count(*) FROM guards`), 3)
}

func (s *shop) collect(rule garbagecollection.Rule) {
	s.t.Helper()
	if _, err := rule.Collect(s.t.Context(), 100); err != nil {
		s.t.Errorf("%s: %v", rule.Name, err)
	}
}

package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/testenv"
)

func TestObserve_ShowsWhatTheQueryReadsAndNothingWhenItFails(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	registry := prometheus.NewRegistry()
	postgres.Observe(registry, postgres.Gauges{
		DB: db, SQL: `SELECT name, n, n + $1::int FROM counters`, Args: []any{1}, Labels: []string{"of"},
		Gauges: []postgres.Gauge{{Name: "n", Help: "n"}, {Name: "more", Help: "n + 1"}},
	})
	postgres.Observe(registry, postgres.Gauges{DB: db, SQL: `SELECT 1 / (n - 1) FROM counters ORDER BY name`, Gauges: []postgres.Gauge{{Name: "half", Help: "fails at the second row"}}})
	if _, err := db.Exec(t.Context(), `UPDATE counters SET n = 1 WHERE name = 'b'`); err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{`n{of="a"}`: 0, `n{of="b"}`: 1, `more{of="a"}`: 1, `more{of="b"}`: 2}
	if diff := cmp.Diff(want, testenv.Metrics(t, registry)); diff != "" {
		t.Error(diff)
	}
}

func TestObserve_ALockedTableDoesNotHoldUpTheScrape(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	tx, err := db.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), `LOCK TABLE counters`)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // a test
	registry := prometheus.NewRegistry()
	postgres.Observe(registry, postgres.Gauges{DB: db, SQL: `SELECT count(*) FROM counters`, Gauges: []postgres.Gauge{{Name: "n", Help: "n"}}})
	begun := time.Now()
	if got := testenv.Metrics(t, registry); len(got) > 0 {
		t.Errorf("a value without an answer: %v", got)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestObserveLeases_ShowsTheHolderAndWhatNoProcessDoes(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	a, b := prometheus.NewRegistry(), prometheus.NewRegistry()
	postgres.ObserveLeases(a, db, "a")
	postgres.ObserveLeases(b, db, "b")
	if ours, err := postgres.TryLease(t.Context(), db, "job", "a", time.Minute); err != nil || !ours {
		t.Fatal(ours, err)
	}
	if _, err := db.Exec(t.Context(), `INSERT INTO leases VALUES ('left', 'a', now() - interval '1 hour')`); err != nil {
		t.Fatal(err)
	}
	at, bt := testenv.Metrics(t, a), testenv.Metrics(t, b)
	const held, expired = "failwell_lease_held", "failwell_lease_expired_seconds"
	if at[held+`{lease="job"}`] != 1 || bt[held+`{lease="job"}`] != 0 || at[expired+`{lease="job"}`] != 0 {
		t.Errorf("the holder sees %v, the other %v", at, bt)
	}
	if at[held+`{lease="left"}`] != 0 || bt[expired+`{lease="left"}`] < 3600 {
		t.Errorf("what no process does is shown as %v and %v", at, bt)
	}
}

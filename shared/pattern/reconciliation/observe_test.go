package reconciliation_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/reconciliation"
	"example.com/failwell/shared/testenv"
)

// A replica that made no run, or that was started after it, shows what the last run found;
// one that made an earlier run does not go on showing that.
func TestMetrics_ShowTheLastRunOfAnyReplica(t *testing.T) {
	t.Parallel()
	db, registry := database(t, payments), prometheus.NewRegistry()
	b := &bank{}
	reconciliation.New(reconciliation.Config{
		DB: db, Logger: slog.New(slog.DiscardHandler), Holder: "looks on", Metrics: registry,
		Sources: []reconciliation.Source{{Name: "bank", Fetch: b.fetch}}, Changed: `-`, Expected: `-`, Owners: `-`, Judge: judge(db), Poll: time.Hour,
	})
	const unresolvable = `failwell_reconciliation_differences{source="bank",verdict="unresolvable"}`
	shown := func() float64 { return testenv.Metrics(t, registry)[unresolvable] }
	if _, is := testenv.Metrics(t, registry)[unresolvable]; !is || shown() != 0 {
		t.Error("nothing is shown before the first run")
	}
	other := reconciler(db, b, "other")
	start(t, other)
	id := uuid.New()
	if _, err := db.Exec(t.Context(), `INSERT INTO payments VALUES ($1, 500, now())`, id); err != nil {
		t.Fatal(err)
	}
	b.says(id, 1, 501)
	run, err := other.Request(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	result(t, db, run)
	if n := shown(); n != 1 {
		t.Errorf("after the run: %v", n)
	}
	if _, err := db.Exec(t.Context(), `UPDATE payments SET minor = 501`); err != nil {
		t.Fatal(err)
	}
	if run, err = other.Request(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	result(t, db, run)
	if n := shown(); n != 0 {
		t.Errorf("after it was fixed: %v", n)
	}
	for _, dead := range []bool{true, false} {
		b.mu.Lock()
		b.dead = dead
		b.mu.Unlock()
		result(t, db, request(t, other))
		if n := testenv.Metrics(t, registry)[`failwell_reconciliation_not_compared{source="bank"}`]; n != 1 == dead {
			t.Errorf("the bank makes no statement: %v; not compared: %v", dead, n)
		}
	}
}

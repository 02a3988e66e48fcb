package garbagecollection_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/garbagecollection"
)

const deleteFinished = `
	DELETE FROM things
	 WHERE id IN (SELECT id FROM things
	               WHERE finished AND at < now() - $1::interval
	               ORDER BY at
	               LIMIT $2)`

func fill(t *testing.T, db *pgxpool.Pool) {
	t.Helper()
	_, err := db.Exec(t.Context(), `
		INSERT INTO things SELECT i, now() - interval '2 hours', true FROM generate_series(1, 1200) i;
		INSERT INTO things SELECT i, now() - interval '2 hours', false FROM generate_series(2001, 2010) i;
		INSERT INTO things SELECT i, now(), true FROM generate_series(3001, 3010) i`)
	if err != nil {
		t.Fatal(err)
	}
}

func collector(db *pgxpool.Pool, holder string, rules ...garbagecollection.Rule) garbagecollection.Config {
	return garbagecollection.Config{DB: db, Logger: slog.New(slog.DiscardHandler), Holder: holder, Rules: rules, Every: 5 * time.Millisecond}
}

// run runs collectors until done says so.
func run(t *testing.T, done func() bool, collectors ...garbagecollection.Config) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, cfg := range collectors {
		running.Go(func() { garbagecollection.New(cfg).Run(ctx) })
	}
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("not done in time")
			break
		}
	}
	cancel()
	running.Wait()
}

func left(t *testing.T, db *pgxpool.Pool) (n int) {
	t.Helper()
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM things`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCollector_DeletesOnlyWhatIsOldAndFinished(t *testing.T) {
	t.Parallel()
	db := database(t)
	fill(t, db)
	metrics := prometheus.NewRegistry()
	c := collector(db, "a", garbagecollection.SQL(db, "things", time.Hour, deleteFinished))
	c.Metrics = metrics
	var counted float64
	run(t, func() bool {
		counted = gathered(t, metrics, "things")
		return counted >= 1200
	}, c)
	if n := left(t, db); n != 20 || counted != 1200 {
		t.Errorf("%d left, want 20; %v counted", n, counted)
	}
}

func gathered(t *testing.T, metrics *prometheus.Registry, rule string) float64 {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if m.GetLabel()[0].GetValue() == rule {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestCollector_OneReplicaCollectsAtATime(t *testing.T) {
	t.Parallel()
	db := database(t)
	var inWork, together, calls atomic.Int32
	rule := garbagecollection.Rule{Name: "slow", Collect: func(ctx context.Context, limit int) (int64, error) {
		if inWork.Add(1) > 1 {
			together.Add(1)
		}
		defer inWork.Add(-1)
		_, err := db.Exec(ctx, `SELECT pg_sleep(0.01)`)
		calls.Add(1)
		return int64(limit), err
	}}
	run(t, func() bool { return calls.Load() >= 10 }, collector(db, "a", rule), collector(db, "b", rule), collector(db, "c", rule))
	if together.Load() > 0 {
		t.Errorf("%d times two at once", together.Load())
	}
}

func TestCollector_FailingRuleDoesNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	db := database(t)
	fill(t, db)
	broken := garbagecollection.Rule{Name: "broken", Collect: func(context.Context, int) (int64, error) { return 0, errors.New("no") }}
	run(t, func() bool { return left(t, db) == 20 }, collector(db, "a", broken, garbagecollection.SQL(db, "things", time.Hour, deleteFinished)))
}

// A collector that has died leaves its lease behind; another goes on when it ends.
func TestCollector_TakesOverALeaseThatEnded(t *testing.T) {
	t.Parallel()
	db := database(t)
	fill(t, db)
	c := collector(db, "b", garbagecollection.SQL(db, "things", time.Hour, deleteFinished))
	if _, err := db.Exec(t.Context(), `INSERT INTO leases VALUES ('garbage:things', 'a', now() + interval '300 ms')`); err != nil {
		t.Fatal(err)
	}
	held := left(t, db)
	run(t, func() bool { return left(t, db) == 20 }, c)
	if held != 1220 {
		t.Errorf("%d while somebody else held the lease", held)
	}
}

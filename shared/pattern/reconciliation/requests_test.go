package reconciliation_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/reconciliation"
)

func one[T any](t *testing.T, db *pgxpool.Pool, query string, args ...any) (value T) {
	t.Helper()
	if err := db.QueryRow(t.Context(), query, args...).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// One side makes no statement: the others are compared all the same, nothing of
// its own is taken for missing, and nothing is forgotten until it is back.
func TestReconciler_DeadSourceDoesNotHideTheOthers(t *testing.T) {
	t.Parallel()
	db, alive, gone := database(t, payments), &bank{}, &bank{}
	r := reconciler(db, alive, "a")
	r.Sources = []reconciliation.Source{{Name: "processor", Fetch: gone.fetch}, {Name: "bank", Fetch: alive.fetch}}
	r.Expected = `SELECT unnest(ARRAY['bank', 'processor']), 'capture'::text, id, 1::bigint, minor, 'EUR'::text, changed_at
	                FROM payments WHERE id = ANY($1)`
	old := pay(t, db, 100, time.Now().Add(-time.Hour))
	alive.says(old, 1, 100)
	start(t, r)
	if _, found := result(t, db, request(t, r)); fmt.Sprint(found) != "map[missing-there pending:1]" {
		t.Errorf("before: %v", found) // at the processor
	}

	gone.mu.Lock()
	gone.dead = true
	gone.mu.Unlock()
	alive.says(pay(t, db, 100, time.Now()), 1, 90)
	for range 2 {
		id := request(t, r)
		if _, found := result(t, db, id); fmt.Sprint(found) != "map[amount-differs unresolvable:1]" {
			t.Errorf("while one is dead: %v", found)
		}
		if not := one[[]string](t, db, `SELECT not_compared FROM reconciliations WHERE id = $1`, id); fmt.Sprint(not) != "[processor]" {
			t.Errorf("not compared: %v", not)
		}
	}
	// As if those runs had been days ago: what happened before them is looked at still.
	if _, err := db.Exec(t.Context(), `UPDATE reconciliations SET requested_at = requested_at + interval '1 day' WHERE not_compared <> '{}'`); err != nil {
		t.Fatal(err)
	}
	gone.mu.Lock()
	gone.dead = false
	gone.mu.Unlock()
	if _, found := result(t, db, request(t, r)); fmt.Sprint(found) != "map[amount-differs unresolvable:1 missing-there pending:2]" {
		t.Errorf("when it is back: %v", found)
	}
}

// A run was made while the clock of the database was a year ahead. The next ones must not
// begin there.
func TestRequest_DoesNotGoOnFromARunInTheFuture(t *testing.T) {
	t.Parallel()
	db, b := database(t, payments), &bank{}
	r := reconciler(db, b, "a")
	start(t, r)
	result(t, db, request(t, r))
	if _, err := db.Exec(t.Context(), `UPDATE reconciliations SET requested_at = requested_at + interval '1 year'`); err != nil {
		t.Fatal(err)
	}
	pay(t, db, 100, time.Now().Add(-time.Hour)) // of which they do not know
	b.says(pay(t, db, 100, time.Now()), 1, 90)
	for range 2 { // the second looks again at what the first has found, although it is old
		if _, found := result(t, db, request(t, r)); fmt.Sprint(found) != "map[amount-differs unresolvable:1 missing-there pending:1]" {
			t.Errorf("found %v", found)
		}
	}
}

func TestReconciler_FailedRepairDoesNotHideTheOthers(t *testing.T) {
	t.Parallel()
	db, b := database(t, payments), &bank{}
	for range 3 {
		b.says(uuid.New(), 1, 100)
	}
	bad := uuid.New()
	b.says(bad, 1, 100)
	r := reconciler(db, b, "a")
	judge := r.Judge
	r.Judge = func(ctx context.Context, p reconciliation.Pair) (reconciliation.Judgement, error) {
		if p.Subject == bad {
			return reconciliation.Judgement{}, errors.New("the books do not answer")
		}
		return judge(ctx, p)
	}
	start(t, r)
	_, found := result(t, db, request(t, r))
	if fmt.Sprint(found) != "map[fix-failed pending:1 missing-here resolved:3]" {
		t.Errorf("found %v", found)
	}
}

// What always fails is not tried a hundred times a second.
func TestReconciler_BacksOffWhileARunKeepsFailing(t *testing.T) {
	t.Parallel()
	db := database(t, payments)
	r := reconciler(db, &bank{}, "a")
	var tries atomic.Int32
	r.Fetched = func(context.Context) error { tries.Add(1); return errors.New("no") }
	request(t, r)
	start(t, r)
	time.Sleep(500 * time.Millisecond)
	if n := tries.Load(); n < 2 || n > 8 { // after 10, 20, 40, … ms
		t.Errorf("%d tries in half a second", n)
	}
}

// More subjects than one statement takes.
func TestReconciler_ComparesALargeWindowInPieces(t *testing.T) {
	t.Parallel()
	db, b := database(t, payments), &bank{}
	if _, err := db.Exec(t.Context(), `INSERT INTO payments SELECT gen_random_uuid(), 100, now() FROM generate_series(1, 10001)`); err != nil {
		t.Fatal(err)
	}
	r := reconciler(db, b, "a")
	r.Judge = func(context.Context, reconciliation.Pair) (reconciliation.Judgement, error) {
		return reconciliation.Judgement{Finding: "missing", Verdict: reconciliation.Pending}, nil
	}
	start(t, r)
	if subjects, found := result(t, db, request(t, r)); subjects != 10001 || found["missing pending"] != 10001 {
		t.Errorf("%d subjects, found %v", subjects, found)
	}
}

// A caller that asks for "since now" must not keep all others' past from being looked at.
func TestRequest_BeginsEarlierThanTheLastRunAndNeverLater(t *testing.T) {
	t.Parallel()
	db := database(t, payments)
	r := reconciler(db, &bank{}, "a")
	start(t, r)
	last := request(t, r)
	result(t, db, last)
	regular := one[time.Time](t, db, `SELECT requested_at - interval '1 minute' FROM reconciliations WHERE id = $1`, last)
	now, earlier := time.Now(), regular.Add(-time.Hour)
	for since, want := range map[*time.Time]time.Time{&now: regular, &earlier: earlier, nil: regular} {
		id, err := r.Request(t.Context(), since)
		if err != nil {
			t.Fatal(err)
		}
		if got := one[time.Time](t, db, `SELECT since FROM reconciliations WHERE id = $1`, id); !got.Equal(want) {
			t.Errorf("since %v: it begins at %v, want %v", since, got, want)
		}
		if _, err := db.Exec(t.Context(), `DELETE FROM reconciliations WHERE id = $1`, id); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRequest_SharesARunThatIsWaiting(t *testing.T) {
	t.Parallel()
	db := database(t, payments)
	r := reconciler(db, &bank{}, "a")
	working, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.Fetched = func(context.Context) error { once.Do(func() { close(working); <-goOn }); return nil }
	begun := request(t, r)
	start(t, r)
	<-working

	ago := func(d time.Duration) *time.Time { at := time.Now().Add(-d).Truncate(time.Millisecond); return &at }
	hour, week, day := ago(time.Hour), ago(7*24*time.Hour), ago(24*time.Hour)
	if _, err := db.Exec(t.Context(), `INSERT INTO reconciliations (id, status, started_at) VALUES (gen_random_uuid(), 'finished', now())`); err != nil {
		t.Fatal(err)
	}
	ids := map[uuid.UUID]bool{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for range 10 {
		for _, since := range []*time.Time{hour, week, day} {
			asking.Go(func() {
				id, err := r.Request(t.Context(), since)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				ids[id] = true
			})
		}
	}
	asking.Wait()
	if len(ids) != 1 || ids[begun] {
		t.Errorf("%d runs wait, want one, and not the one that has begun", len(ids))
	}
	if since := one[*time.Time](t, db, `SELECT since FROM reconciliations WHERE started_at IS NULL`); since == nil || !since.Equal(*week) {
		t.Errorf("since %v, want the earliest, %v", since, week)
	}
	close(goOn)
	for id := range ids {
		result(t, db, id)
	}
}

// The timer is in the table: three replicas that are restarted make one run.
func TestReconciler_RestartedReplicasMakeOneRunInAPeriod(t *testing.T) {
	t.Parallel()
	db := database(t, payments)
	runs := func() int { return one[int](t, db, `SELECT count(*) FROM reconciliations`) }
	for range 3 {
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, holder := range []string{"a", "b", "c"} {
			r := reconciler(db, &bank{}, holder)
			r.Every, r.Logger = time.Hour, slog.New(slog.DiscardHandler)
			running.Go(func() { r.Run(ctx) })
		}
		for deadline := time.Now().Add(30 * time.Second); one[int](t, db, `SELECT count(*) FROM reconciliations WHERE status = 'finished'`) == 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("none is made")
			}
		}
		time.Sleep(50 * time.Millisecond)
		stop()
		running.Wait()
	}
	if n := runs(); n != 1 {
		t.Errorf("%d runs", n)
	}
	if _, err := db.Exec(t.Context(), `UPDATE reconciliations SET requested_at = requested_at - interval '2 hours'`); err != nil {
		t.Fatal(err)
	}
	r := reconciler(db, &bank{}, "d")
	r.Every = time.Hour
	if _, err := db.Exec(t.Context(), `DELETE FROM leases`); err != nil {
		t.Fatal(err)
	}
	start(t, r)
	for deadline := time.Now().Add(30 * time.Second); runs() != 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d runs", runs())
		}
	}
}

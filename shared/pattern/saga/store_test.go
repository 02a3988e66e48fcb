package saga_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/postgres"
)

func begin(t *testing.T, db *pgxpool.Pool, patience time.Duration) saga.Row {
	t.Helper()
	id := uuid.New()
	if err := postgres.Write(t.Context(), db, func(b *pgx.Batch) { saga.Insert(b, id, plan.Begin(), patience) }); err != nil {
		t.Fatal(err)
	}
	return load(t, db, id)
}

func load(t *testing.T, db *pgxpool.Pool, id uuid.UUID) (row saga.Row) {
	t.Helper()
	if err := postgres.Read(t.Context(), db, func(b *pgx.Batch) { saga.Load(b, id, &row) }); err != nil {
		t.Fatal(err)
	}
	return row
}

func advance(t *testing.T, db *pgxpool.Pool, row saga.Row, next saga.State, reason string, patience time.Duration) error {
	t.Helper()
	return postgres.Write(t.Context(), db, func(b *pgx.Batch) { saga.Advance(b, row, next, reason, patience) })
}

func overdue(t *testing.T, db *pgxpool.Pool) string {
	t.Helper()
	ids, err := saga.Overdue(t.Context(), db, uuid.Nil, 10, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(ids)
}

func TestWhatIsAdvancedIsWhatIsRead(t *testing.T) {
	t.Parallel()
	db := database(t)
	row := begin(t, db, time.Hour)
	if want := (saga.Row{ID: row.ID, State: plan.Begin(), Asked: 1, Version: 1}); row != want {
		t.Errorf("begun as %+v, want %+v", row, want)
	}
	next := saga.State{Phase: saga.Backward, Step: 1}
	if err := advance(t, db, row, next, "declined", time.Hour); err != nil {
		t.Fatal(err)
	}
	// Whoever goes on keeps the reason why it turned around.
	if err := advance(t, db, load(t, db, row.ID), next, "another", time.Hour); err != nil {
		t.Fatal(err)
	}
	if got, want := load(t, db, row.ID), (saga.Row{ID: row.ID, State: next, Reason: "declined", Asked: 2, Version: 3}); got != want {
		t.Errorf("read %+v, want %+v", got, want)
	}
	if got := load(t, db, uuid.New()); got != (saga.Row{}) {
		t.Errorf("a saga that is none: %+v", got)
	}
}

// Two replies at once: one acts, the other finds that the saga has moved, and
// nothing that it wanted to write beside it happens.
func TestOfTwentyRepliesAtOnceOneActs(t *testing.T) {
	t.Parallel()
	db := database(t)
	row := begin(t, db, time.Hour)
	var acted atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			err := postgres.Write(t.Context(), db, func(b *pgx.Batch) {
				saga.Insert(b, uuid.New(), plan.Begin(), time.Hour) // what goes with it
				saga.Advance(b, row, saga.State{Phase: saga.Forward, Step: 1}, "", time.Hour)
			})
			switch {
			case err == nil:
				acted.Add(1)
			case !saga.IsStale(err):
				t.Error(err)
			}
		})
	}
	all.Wait()
	var sagas int
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM sagas`).Scan(&sagas); err != nil {
		t.Fatal(err)
	}
	if acted.Load() != 1 || sagas != 2 {
		t.Errorf("%d acted, %d sagas", acted.Load(), sagas)
	}
}

func TestASagaIsOverdueUntilItIsAskedAgainOrEnds(t *testing.T) {
	t.Parallel()
	db := database(t)
	begin(t, db, time.Hour) // patient
	row := begin(t, db, -time.Second)
	if got := overdue(t, db); got != fmt.Sprint([]uuid.UUID{row.ID}) {
		t.Fatalf("overdue: %s", got)
	}
	if err := advance(t, db, row, row.State, "", time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := overdue(t, db); got != "[]" {
		t.Errorf("asked again, and still overdue: %s", got)
	}
	for _, end := range []saga.Phase{saga.Completed, saga.Undone} {
		row := begin(t, db, -time.Second)
		if err := advance(t, db, row, saga.State{Phase: end}, "", -time.Second); err != nil {
			t.Fatal(err)
		}
		if got := overdue(t, db); got != "[]" {
			t.Errorf("%s, and still overdue: %s", end, got)
		}
	}
}

// What is handed to one replica is not handed to another at the same time, and is
// handed out again when that one has died.
func TestAnOverdueSagaIsHandedOutOnce(t *testing.T) {
	t.Parallel()
	db := database(t)
	row := begin(t, db, -time.Second)
	if one, other := overdue(t, db), overdue(t, db); one != fmt.Sprint([]uuid.UUID{row.ID}) || other != "[]" {
		t.Errorf("handed out: %s and %s", one, other)
	}
	var again float64
	if err := db.QueryRow(t.Context(), `SELECT extract(epoch FROM ask_again_at - now())::float8 FROM sagas`).Scan(&again); err != nil || again < 10 || again > 60 {
		t.Errorf("handed out again in %v s, %v", again, err)
	}
}

// A replica that is at one saga does not hold up the others: they go past it.
func TestReplicasGoPastEachOther(t *testing.T) {
	t.Parallel()
	db := database(t)
	taken, left := begin(t, db, -time.Second), begin(t, db, -time.Second)
	another, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer another.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // gives up the lock
	if _, err := another.Exec(t.Context(), `SELECT FROM sagas WHERE id = $1 FOR UPDATE`, taken.ID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ids, err := saga.Overdue(ctx, db, uuid.Nil, 10, time.Minute)
	if err != nil || fmt.Sprint(ids) != fmt.Sprint([]uuid.UUID{left.ID}) {
		t.Errorf("handed out %v, %v", ids, err)
	}
}

func TestPatienceGrowsAndEnds(t *testing.T) {
	t.Parallel()
	for asked, want := range []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour, time.Hour} {
		if got := saga.Patience(15*time.Minute, asked); got != want {
			t.Errorf("asked %d times: %v, want %v", asked, got, want)
		}
	}
	if got := saga.Patience(time.Minute, 1_000_000); got != time.Hour {
		t.Errorf("asked a million times: %v", got)
	}
}

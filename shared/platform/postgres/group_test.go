package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/postgres"
)

// writeAll hands in n writings at once and returns what became of each.
func writeAll(t *testing.T, g *postgres.Group[func(b *pgx.Batch)], n int, fill func(i int, b *pgx.Batch)) []error {
	t.Helper()
	results := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { results[i] = g.Write(t.Context(), func(b *pgx.Batch) { fill(i, b) }) })
	}
	all.Wait()
	return results
}

func TestEachOfAGroupIsAllOrNothing(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	g := postgres.NewWriter(db)
	defer g.Close()
	results := writeAll(t, g, 60, func(i int, b *pgx.Batch) {
		b.Queue(count, "a")
		if i%10 == 0 {
			b.Queue(overflow, "b") // refused by its constraint, and its count with it
		}
	})
	for i, err := range results {
		if refused := postgres.Violates(err, "small"); refused != (i%10 == 0) || err != nil && !refused {
			t.Errorf("%d: %v", i, err)
		}
	}
	if got := n(t, db, "a"); got != 54 {
		t.Errorf("a = %d, want 54", got)
	}
}

func TestALockedRowHoldsUpOnlyThoseWhoWantIt(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	g := postgres.NewWriter(db)
	defer g.Close()
	lock, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), count, "b"); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() { waits <- g.Write(t.Context(), func(b *pgx.Batch) { b.Queue(count, "b") }) }()
	for i, err := range writeAll(t, g, 20, func(_ int, b *pgx.Batch) { b.Queue(count, "a") }) {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	select {
	case err := <-waits:
		t.Errorf("the one that wants the row did not wait: %v", err)
	default:
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; err != nil || n(t, db, "b") != 1 {
		t.Errorf("afterwards: %v, b = %d", err, n(t, db, "b"))
	}
}

// The answer to a common commit is lost: everybody in it hears that it is open
// what happened, and nobody is told that it failed.
func TestALostAnswerIsLostForAll(t *testing.T) {
	t.Parallel()
	db, dbURL := database(t)
	g := postgres.NewWriter(through(t, dbURL, "the last"))
	defer g.Close()
	err := g.Write(t.Context(), func(b *pgx.Batch) {
		b.Queue(count, "a")
		b.Queue(`SELECT $1::text`, "the last")
	})
	if !errors.Is(err, postgres.ErrCommitUnknown) {
		t.Errorf("error %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); n(t, db, "a") != 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it was not committed: the cable was cut too early, this test tests nothing")
		}
	}
}

func TestCloseWritesWhatWasHandedIn(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	g := postgres.NewWriter(db)
	for i, err := range writeAll(t, g, 200, func(_ int, b *pgx.Batch) { b.Queue(count, "a") }) {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	g.Close()
	if got := n(t, db, "a"); got != 200 {
		t.Error(fmt.Sprint("a = ", got))
	}
}

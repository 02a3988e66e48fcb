package postgres_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
)

// A row stays locked, and 160 batches a second want it. Batches that want another row
// take no longer than without that. When each group waits for the row, each of them takes
// lockTimeout and more.
func TestGrouped_LockedRowDoesNotHoldUpOthers(t *testing.T) {
	// A group that waits for the row does so each time. A pause of the machine is not there three times.
	for try := 1; ; try++ {
		alone, beside := othersBesideALockedRow(t, 0), othersBesideALockedRow(t, 160)
		late := false
		for percentile, floor := range map[int]time.Duration{50: 30 * time.Millisecond, 99: time.Second} {
			without, with := alone[len(alone)*percentile/100], beside[len(beside)*percentile/100]
			t.Logf("p%d of the others: %v, beside a locked row %v", percentile, without, with)
			late = late || with > max(2*without, floor)
		}
		if !late {
			break
		}
		if try == 3 {
			t.Fatal("the others waited for the locked row, three times out of three")
		}
	}
}

// othersBesideALockedRow returns how long batches took that want row a, sorted, while a number of
// batches a second want row b, which is locked.
func othersBesideALockedRow(t *testing.T, perSecond int) []time.Duration {
	t.Helper()
	db, dbURL := database(t)
	lock := lockRow(t, open(t, dbURL), "b")
	defer lock.Rollback(context.Background()) //nolint:errcheck // a test's
	g := postgres.Grouped(db, postgres.GroupOptions{})
	ctx, stop := context.WithCancel(t.Context())
	var blocked sync.WaitGroup
	if perSecond > 0 {
		blocked.Go(func() {
			for tick := time.NewTicker(time.Second / time.Duration(perSecond)); ; {
				select {
				case <-ctx.Done():
					tick.Stop()
					return
				case <-tick.C:
					blocked.Go(func() {
						ctx, cancel := context.WithTimeout(ctx, time.Second) // its client gives up
						defer cancel()
						if err := g.Write(ctx, func(b *pgx.Batch) { b.Queue(count, "b") }); err == nil {
							t.Error("a batch passed a locked row")
						}
					})
				}
			}
		})
		awaitLockWaiters(t, db, 2)
	}
	var took []time.Duration
	for begun := time.Now(); time.Since(begun) < 3*time.Second; {
		at := time.Now()
		if err := g.Write(t.Context(), func(b *pgx.Batch) { b.Queue(count, "a") }); err != nil {
			t.Error(err)
		}
		took = append(took, time.Since(at))
	}
	stop()
	blocked.Wait()
	g.Close()
	slices.Sort(took)
	return took
}

func lockRow(t *testing.T, db *pgxpool.Pool, name string) pgx.Tx {
	t.Helper()
	lock, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), count, name); err != nil {
		t.Fatal(err)
	}
	return lock
}

// Those who find no place among the waiters hear so after PlaceWait, and know that
// nothing was written.
func TestGrouped_WaitForAPlaceIsBounded(t *testing.T) {
	t.Parallel()
	db, dbURL := database(t)
	lock := lockRow(t, open(t, dbURL), "b")
	defer lock.Rollback(context.Background()) //nolint:errcheck // a test's
	g := postgres.Grouped(db, postgres.GroupOptions{LockWait: 300 * time.Millisecond, PlaceWait: 300 * time.Millisecond})
	defer g.Close()
	begun := time.Now()
	refused := 0
	for i, err := range writeAll(t, g, 40, func(_ int, b *pgx.Batch) { b.Queue(count, "b") }) {
		if !errors.Is(err, postgres.ErrTooManyWaiters) && !postgres.LockTimedOut(err) || !postgres.IsBusy(err) || postgres.IsIndefinite(err) {
			t.Errorf("%d: %v", i, err)
		}
		if errors.Is(err, postgres.ErrTooManyWaiters) {
			refused++
		}
	}
	if took := time.Since(begun); refused == 0 || took > 5*time.Second {
		t.Errorf("%d of 40 found no place, after %v", refused, took)
	}
	if err := lock.Rollback(t.Context()); err != nil || n(t, db, "b") != 0 {
		t.Errorf("b = %d, %v", n(t, db, "b"), err)
	}
}

// A batch whose caller has gone before it entered a transaction is not carried out:
// its client has retried it, and twice the work in the moment of trouble makes it longer.
func TestGrouped_BatchOfACallerThatIsGoneIsNotCarriedOut(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	g, goOn := held(t, db, 15*time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	gone, stays := make(chan error, 1), make(chan error, 1)
	go func() { gone <- g.Write(ctx, func(b *pgx.Batch) { b.Queue(count, "a") }) }()
	awaitHandedIn(t, g, 1)
	go func() { stays <- g.Write(t.Context(), func(b *pgx.Batch) { b.Queue(count, "b") }) }()
	awaitHandedIn(t, g, 2)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) || postgres.IsIndefinite(err) {
		t.Errorf("the one that is gone: %v, want a definite end", err)
	}
	close(goOn)
	if err := <-stays; err != nil {
		t.Errorf("the one that stays: %v", err)
	}
	g.Close()
	if a, b := n(t, db, "a"), n(t, db, "b"); a != 0 || b != 1 {
		t.Errorf("a = %d, b = %d; want 0 and 1", a, b)
	}
}

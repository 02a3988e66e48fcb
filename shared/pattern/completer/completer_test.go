package completer_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/completer"
	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/postgres"
)

const operation = "POST /v1/refunds"

// abandon begins work whose client and whose process are gone.
func abandon(t *testing.T, db *pgxpool.Pool, key string) {
	t.Helper()
	r := idempotency.Request{Merchant: "acme", Operation: operation, Key: key, Retention: time.Hour}
	_, _, err := r.Acquire(t.Context(), db, idempotency.LockOptions{Lease: time.Microsecond}, func(context.Context, pgx.Tx) (uuid.UUID, error) { return uuid.New(), nil })
	if err != nil {
		t.Fatal(err)
	}
}

// run runs replicas of a completer until no key is unfinished.
func run(t *testing.T, db *pgxpool.Pool, replicas int, lease time.Duration, finish func(context.Context, idempotency.Lock) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range replicas {
		c := completer.New(completer.Config{
			DB: db, Logger: slog.New(slog.DiscardHandler), Every: 5 * time.Millisecond, Lease: lease,
			Finish: map[string]func(context.Context, idempotency.Lock) error{operation: finish},
		})
		running.Go(func() { c.Run(ctx) })
	}
	deadline := time.Now().Add(30 * time.Second)
	for unfinished := 1; unfinished > 0; time.Sleep(5 * time.Millisecond) {
		if err := db.QueryRow(t.Context(), `SELECT count(*) FROM idempotency_keys WHERE status IS NULL`).Scan(&unfinished); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Errorf("%d unfinished", unfinished)
			break
		}
	}
	cancel()
	running.Wait()
}

func done(ctx context.Context, db *pgxpool.Pool, lock idempotency.Lock) error {
	return postgres.InTx(ctx, db, func(ctx context.Context, tx pgx.Tx) error {
		return lock.Finish(ctx, tx, idempotency.Response{Status: 201})
	})
}

// Three replicas, twenty pieces of work: each is worked on once.
func TestCompleter_GivesEachPieceOfWorkToOneReplica(t *testing.T) {
	t.Parallel()
	db := database(t)
	for range 20 {
		abandon(t, db, uuid.NewString())
	}
	var calls atomic.Int32
	run(t, db, 3, time.Minute, func(ctx context.Context, lock idempotency.Lock) error {
		calls.Add(1)
		return done(ctx, db, lock)
	})
	if calls.Load() != 20 {
		t.Errorf("%d calls", calls.Load())
	}
}

// What fails is tried again, at once and not only after its lease.
func TestCompleter_TriesAgainWhatFails(t *testing.T) {
	t.Parallel()
	db := database(t)
	abandon(t, db, "k")
	tries := 0
	run(t, db, 1, time.Hour, func(ctx context.Context, lock idempotency.Lock) error {
		if tries++; tries < 3 {
			return errors.New("the processor does not answer")
		}
		return done(ctx, db, lock)
	})
	if tries != 3 {
		t.Errorf("%d tries", tries)
	}
}

// One piece of work that hangs does not keep the others from being finished.
func TestCompleter_IsNotHeldUpByWorkThatHangs(t *testing.T) {
	t.Parallel()
	db := database(t)
	abandon(t, db, "hangs")
	abandon(t, db, "goes")
	release := make(chan struct{})
	run(t, db, 1, time.Minute, func(ctx context.Context, lock idempotency.Lock) error {
		if lock.Key == "goes" {
			defer close(release)
			return done(ctx, db, lock)
		}
		<-release
		return done(ctx, db, lock)
	})
}

// A completer that dies in its work has a successor when its lease ends.
func TestCompleter_TakesOverFromOneThatDied(t *testing.T) {
	t.Parallel()
	db := database(t)
	abandon(t, db, "k")
	if locks, err := idempotency.ClaimAbandoned(t.Context(), db, operation, 200*time.Millisecond, 0, 10); err != nil || len(locks) != 1 {
		t.Fatal(locks, err)
	}
	calls := 0
	run(t, db, 1, time.Minute, func(ctx context.Context, lock idempotency.Lock) error {
		calls++
		return done(ctx, db, lock)
	})
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

// After an outage hundreds of keys wait. They are finished in one look, and not a
// few at each: here the next one is an hour away.
func TestCompleter_FinishesABacklogInOneLook(t *testing.T) {
	t.Parallel()
	db := database(t)
	for range 30 {
		abandon(t, db, uuid.NewString())
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calls, atWork, most atomic.Int32
	var running sync.WaitGroup
	running.Go(func() {
		completer.New(completer.Config{
			DB: db, Logger: slog.New(slog.DiscardHandler), Every: time.Hour, Lease: time.Minute,
			Finish: map[string]func(context.Context, idempotency.Lock) error{operation: func(ctx context.Context, lock idempotency.Lock) error {
				if n := atWork.Add(1); n > most.Load() {
					most.Store(n) // roughly: two may get here at once
				}
				defer atWork.Add(-1)
				time.Sleep(10 * time.Millisecond)
				calls.Add(1)
				return done(ctx, db, lock)
			}},
		}).Run(ctx)
	})
	for deadline := time.Now().Add(30 * time.Second); calls.Load() < 30 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	running.Wait()
	if calls.Load() != 30 {
		t.Errorf("%d of 30 are finished", calls.Load())
	}
	if most.Load() > 8 {
		t.Errorf("%d side by side", most.Load())
	}
}

// What fails is given back at once and could be taken again at once: where nothing
// gets done, the look ends.
func TestCompleter_PausesWhenNothingGetsDone(t *testing.T) {
	t.Parallel()
	db := database(t)
	for range 20 {
		abandon(t, db, uuid.NewString())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var calls atomic.Int32
	completer.New(completer.Config{
		DB: db, Logger: slog.New(slog.DiscardHandler), Every: time.Hour, Lease: time.Minute,
		Finish: map[string]func(context.Context, idempotency.Lock) error{operation: func(context.Context, idempotency.Lock) error {
			calls.Add(1)
			return errors.New("the processor is down")
		}},
	}).Run(ctx)
	if n := calls.Load(); n == 0 || n > 8 {
		t.Errorf("%d tries", n)
	}
}

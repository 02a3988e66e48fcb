package outoforder_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/outoforder"
)

const applied = `CREATE TABLE applied (stream text, rank int, no int GENERATED ALWAYS AS IDENTITY);`

// inRank applies an event when the one before it was applied, as a settlement
// needs its capture.
func inRank(ctx context.Context, tx pgx.Tx, e outoforder.Event) error {
	var ready bool
	err := tx.QueryRow(ctx, `SELECT $2 = 1 OR EXISTS (SELECT FROM applied WHERE stream = $1 AND rank = $2 - 1)`, e.Stream, int(e.Rank)).Scan(&ready)
	if err != nil {
		return err
	}
	if !ready {
		return outoforder.ErrNotYet
	}
	_, err = tx.Exec(ctx, `INSERT INTO applied (stream, rank) VALUES ($1, $2)`, e.Stream, int(e.Rank))
	return err
}

func start(t *testing.T, db *pgxpool.Pool, apply func(context.Context, pgx.Tx, outoforder.Event) error) *outoforder.Log {
	t.Helper()
	l := outoforder.NewLog(outoforder.Config{DB: db, Logger: slog.New(slog.DiscardHandler), Apply: apply, Poll: 5 * time.Millisecond, Overdue: time.Hour})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return l
}

func event(stream string, rank int) outoforder.Event {
	return outoforder.Event{ID: fmt.Sprintf("%s-%d", stream, rank), Stream: stream, Rank: int16(rank), HappenedAt: time.Unix(int64(rank), 0), Type: "test", Body: []byte("{}")}
}

// await waits until a stream has so many applied events, and returns their ranks.
func await(t *testing.T, db *pgxpool.Pool, stream string, n int) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var ranks []int
		err := db.QueryRow(t.Context(), `SELECT COALESCE(array_agg(rank ORDER BY no), '{}') FROM applied WHERE stream = $1`, stream).Scan(&ranks)
		if err != nil {
			t.Fatal(err)
		}
		if len(ranks) >= n {
			return fmt.Sprint(ranks)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: only %v", stream, ranks)
		}
	}
}

// Twenty streams of five events, in random order, each twice, through two
// replicas: every stream ends the same, and nothing is applied twice.
func TestLog_AnyOrderWithDuplicatesEndsTheSame(t *testing.T) {
	t.Parallel()
	db := database(t, applied)
	replicas := []*outoforder.Log{start(t, db, inRank), start(t, db, inRank)}
	dice := rand.New(rand.NewPCG(1, 1))
	for stream := range 20 {
		ranks := append(dice.Perm(5), dice.Perm(5)...)
		for i, rank := range ranks {
			isNew, err := replicas[i%2].Append(t.Context(), event(fmt.Sprint("stream-", stream), rank+1))
			if err != nil || isNew != (i < 5) {
				t.Fatalf("try %d: new %v, %v", i, isNew, err)
			}
			replicas[i%2].Notify()
		}
	}
	for stream := range 20 {
		if got := await(t, db, fmt.Sprint("stream-", stream), 5); got != "[1 2 3 4 5]" {
			t.Errorf("stream %d: %s", stream, got)
		}
	}
}

// An event that fails does not hold up other streams, and is applied once it can be.
func TestLog_FailingEventDoesNotHoldUpOtherStreams(t *testing.T) {
	t.Parallel()
	db := database(t, applied)
	var mu sync.Mutex
	broken := true
	l := start(t, db, func(ctx context.Context, tx pgx.Tx, e outoforder.Event) error {
		mu.Lock()
		defer mu.Unlock()
		if broken && e.Stream == "bad" {
			return errors.New("no")
		}
		return inRank(ctx, tx, e)
	})
	for _, stream := range []string{"bad", "good"} {
		if _, err := l.Append(t.Context(), event(stream, 1)); err != nil {
			t.Fatal(err)
		}
	}
	await(t, db, "good", 1)
	mu.Lock()
	broken = false
	mu.Unlock()
	await(t, db, "bad", 1)
}

// The code that makes what an event waits for wakes its stream in the same transaction.
func TestRecheckTx_LooksAtAWaitingStreamAtOnce(t *testing.T) {
	t.Parallel()
	db := database(t, applied)
	l := start(t, db, inRank)
	if _, err := l.Append(t.Context(), event("s", 2)); err != nil {
		t.Fatal(err)
	}
	// As if it had waited for days, and was to be looked at in ten minutes.
	for held := false; !held; {
		tag, err := db.Exec(t.Context(), `UPDATE received_events SET look_at = now() + interval '10 minutes' WHERE look_at > now()`)
		if err != nil {
			t.Fatal(err)
		}
		held = tag.RowsAffected() == 1
	}
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(t.Context(), `INSERT INTO applied (stream, rank) VALUES ('s', 1)`)
	if err := errors.Join(err, outoforder.RecheckTx(t.Context(), tx, "s"), tx.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	l.Notify()
	if got := await(t, db, "s", 2); got != "[1 2]" {
		t.Error(got)
	}
}

// What an event waits for commits after we have looked for it, and before we put the
// event off. Putting it off now would lose the wake, for as long as ten minutes.
func TestRecheckTx_DuringAPostponementIsNotLost(t *testing.T) {
	t.Parallel()
	db := database(t, applied)
	var once sync.Once
	var l *outoforder.Log
	ready := make(chan struct{})
	l = start(t, db, func(ctx context.Context, tx pgx.Tx, e outoforder.Event) error {
		<-ready
		err := inRank(ctx, tx, e)
		once.Do(func() {
			other, begin := db.Begin(t.Context())
			if begin != nil {
				t.Error(begin)
				return
			}
			_, insert := other.Exec(t.Context(), `INSERT INTO applied (stream, rank) VALUES ('s', 1)`)
			if err := errors.Join(insert, outoforder.RecheckTx(t.Context(), other, "s")); err != nil {
				t.Error(err)
			}
			go func() {
				for waiting := 0; waiting == 0; time.Sleep(time.Millisecond) { // for us, to put the event off
					if db.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting) != nil {
						break
					}
				}
				if err := other.Commit(t.Context()); err != nil {
					t.Error(err)
				}
			}()
		})
		return err
	})
	if _, err := l.Append(t.Context(), event("s", 2)); err != nil {
		t.Fatal(err)
	}
	// As if it had waited for days already: then it is put off by ten minutes.
	if _, err := db.Exec(t.Context(), `UPDATE received_events SET received_at = now() - interval '3 days'`); err != nil {
		t.Fatal(err)
	}
	close(ready)
	if got := await(t, db, "s", 2); got != "[1 2]" {
		t.Error(got)
	}
}

// The work of an event and the mark that it was done are one transaction.
// The clock of the database was ahead once, or a person has edited the row.
func TestLog_DoesNotBelieveATimeThatIsTooFarAway(t *testing.T) {
	t.Parallel()
	db := database(t, applied)
	l := outoforder.NewLog(outoforder.Config{DB: db, Logger: slog.New(slog.DiscardHandler), Apply: inRank, Poll: time.Hour, Overdue: time.Hour})
	if _, err := l.Append(t.Context(), event("late", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(t.Context(), `UPDATE received_events SET look_at = now() + interval '7 days'`); err != nil {
		t.Fatal(err)
	}
	start(t, db, inRank)
	await(t, db, "late", 1)
}

func TestLog_UndoneWorkIsNotMarkedAsApplied(t *testing.T) {
	t.Parallel()
	db := database(t, applied)
	var tries int
	l := start(t, db, func(ctx context.Context, tx pgx.Tx, e outoforder.Event) error {
		if err := inRank(ctx, tx, e); err != nil {
			return err
		}
		if tries++; tries < 3 {
			return errors.New("after the work")
		}
		return nil
	})
	if _, err := l.Append(t.Context(), event("s", 1)); err != nil {
		t.Fatal(err)
	}
	if got := await(t, db, "s", 1); got != "[1]" {
		t.Error(got)
	}
}

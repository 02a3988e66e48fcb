package atmostonce_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/atmostonce"
	"example.com/failwell/shared/platform/postgres"
)

func enter(ctx context.Context, db *pgxpool.Pool, name string) (first bool, err error) {
	err = postgres.InTx(ctx, db, func(ctx context.Context, tx pgx.Tx) error {
		first, err = atmostonce.Enter(ctx, tx, name)
		return err
	})
	return first, err
}

func TestEnter_LetsOneOfFiftyThrough(t *testing.T) {
	t.Parallel()
	db := database(t, "")
	var firsts atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			first, err := enter(t.Context(), db, "bank-transfer:pyo_1")
			if err != nil {
				t.Error(err)
			}
			if first {
				firsts.Add(1)
			}
		})
	}
	all.Wait()
	if firsts.Load() != 1 {
		t.Errorf("%d were first", firsts.Load())
	}
	if first, err := enter(t.Context(), db, "bank-transfer:pyo_2"); err != nil || !first {
		t.Errorf("another guard: %v, %v", first, err)
	}
}

func TestEnter_CountsOnlyWhenItIsCommitted(t *testing.T) {
	t.Parallel()
	db := database(t, "")
	no := errors.New("no")
	err := postgres.InTx(t.Context(), db, func(ctx context.Context, tx pgx.Tx) error {
		if first, err := atmostonce.Enter(ctx, tx, "x"); err != nil || !first {
			t.Errorf("first %v, %v", first, err)
		}
		return no
	})
	if !errors.Is(err, no) {
		t.Fatal(err)
	}
	if first, err := enter(t.Context(), db, "x"); err != nil || !first {
		t.Errorf("after a rollback: first %v, %v", first, err)
	}
}

func TestEnter_WaitsForTheOneBeforeToCommit(t *testing.T) {
	t.Parallel()
	db := database(t, "")
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := atmostonce.Enter(t.Context(), tx, "x"); err != nil {
		t.Fatal(err)
	}
	second := make(chan string, 1)
	go func() {
		first, err := enter(context.WithoutCancel(t.Context()), db, "x")
		second <- fmt.Sprint(first, err)
	}()
	for waiting := 0; waiting == 0; {
		if err := db.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-second; got != "false <nil>" {
		t.Errorf("the second: %s", got)
	}
}

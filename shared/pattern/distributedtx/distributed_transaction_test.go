package distributedtx_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/distributedtx"
	"example.com/failwell/shared/platform/postgres"
)

const things = `CREATE TABLE things (gid text PRIMARY KEY);`

// world is a coordinator with its own database and one more participant.
type world struct {
	t           *testing.T
	here, there *pgxpool.Pool
	prefix      string // names are unique in the whole server, which other tests share
	coordinator *distributedtx.Coordinator

	mu   sync.Mutex
	deaf bool // the other participant cannot be told anything
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, here: database(t, things), there: database(t, things), prefix: fmt.Sprintf("%d-", time.Now().UnixNano())}
	own := func(do func(context.Context, *pgxpool.Pool, string) error) func(context.Context, string) error {
		return func(ctx context.Context, gid string) error { return do(ctx, w.here, w.prefix+"here:"+gid) }
	}
	other := func(do func(context.Context, *pgxpool.Pool, string) error) func(context.Context, string) error {
		return func(ctx context.Context, gid string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.deaf {
				return errors.New("no answer")
			}
			return do(ctx, w.there, w.prefix+"there:"+gid)
		}
	}
	w.coordinator = distributedtx.NewCoordinator(distributedtx.Config{
		DB: w.here, Logger: slog.New(slog.DiscardHandler), LocalPrefix: w.prefix + "here:", Sweep: time.Hour,
		Timeout: time.Nanosecond, // whatever is undecided is recovered
		Participants: []distributedtx.Participant{
			{Name: "here", Commit: own(distributedtx.Commit), Rollback: own(distributedtx.Rollback)},
			{Name: "there", Commit: other(distributedtx.Commit), Rollback: other(distributedtx.Rollback)},
		},
	})
	return w
}

func (w *world) prepare(db *pgxpool.Pool, name, gid string) func(context.Context) error {
	return func(ctx context.Context) error {
		return distributedtx.Prepare(ctx, db, w.prefix+name+":"+gid, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO things VALUES ($1)`, gid)
			return err
		})
	}
}

func (w *world) prepareHere(gid string) func(context.Context) error {
	return w.prepare(w.here, "here", gid)
}
func (w *world) prepareThere(gid string) func(context.Context) error {
	return w.prepare(w.there, "there", gid)
}

// agree checks that both databases have the thing, or neither, and that nothing is
// left prepared.
func (w *world) agree(gid string, want bool) {
	w.t.Helper()
	for name, db := range map[string]*pgxpool.Pool{"here": w.here, "there": w.there} {
		var has bool
		if err := db.QueryRow(w.t.Context(), `SELECT EXISTS (SELECT FROM things WHERE gid = $1)`, gid).Scan(&has); err != nil || has != want {
			w.t.Errorf("%s has it: %v, want %v (%v)", name, has, want, err)
		}
		left, err := distributedtx.InDoubt(w.t.Context(), db, w.prefix)
		if err != nil || len(left) > 0 {
			w.t.Errorf("%s: left prepared: %v, %v", name, left, err)
		}
	}
}

var errDies = errors.New("the coordinator dies")

func TestCoordinator_CommitsBothOrNeitherWhereverItFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		run  func(ctx context.Context, w *world, gid string)
		want bool
	}{
		"nothing fails": {func(ctx context.Context, w *world, gid string) {
			_, _ = w.coordinator.Run(ctx, gid, w.prepareThere(gid), w.prepareHere(gid))
		}, true},
		"the first refuses": {func(ctx context.Context, w *world, gid string) {
			_, _ = w.coordinator.Run(ctx, gid, func(context.Context) error { return errors.New("no") }, w.prepareHere(gid))
		}, false},
		"the second refuses": {func(ctx context.Context, w *world, gid string) {
			_, _ = w.coordinator.Run(ctx, gid, w.prepareThere(gid), func(context.Context) error { return errors.New("no") })
		}, false},
		"the answer of a prepare is lost": {func(ctx context.Context, w *world, gid string) {
			_, _ = w.coordinator.Run(ctx, gid, func(ctx context.Context) error { return errors.Join(w.prepareThere(gid)(ctx), errors.New("lost")) }, w.prepareHere(gid))
		}, false},
		"dies after the first prepare": {func(ctx context.Context, w *world, gid string) {
			_ = w.prepareThere(gid)(ctx)
		}, false},
		"dies after both prepares": {func(ctx context.Context, w *world, gid string) {
			_ = errors.Join(w.prepareThere(gid)(ctx), w.prepareHere(gid)(ctx))
		}, false},
		"the other cannot be told": {func(ctx context.Context, w *world, gid string) {
			w.deaf = true
			if decision, err := w.coordinator.Run(ctx, gid, w.prepareThere(gid), w.prepareHere(gid)); decision != distributedtx.Committed || err == nil {
				w.t.Errorf("decision %q, %v", decision, err)
			}
			w.deaf = false
		}, true},
		"a late prepare after the abort": {func(ctx context.Context, w *world, gid string) {
			_, _ = w.coordinator.Run(ctx, gid, func(context.Context) error { return errDies })
			_ = w.prepareThere(gid)(ctx)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, gid := newWorld(t), "payout-1"
			c.run(t.Context(), w, gid)
			// Recovery: the coordinator's, and the participant that asks.
			if err := w.coordinator.Recover(t.Context()); err != nil {
				t.Error(err)
			}
			inDoubt, err := distributedtx.InDoubt(t.Context(), w.there, w.prefix+"there:")
			if err != nil {
				t.Error(err)
			}
			for _, p := range inDoubt {
				decision, err := w.coordinator.Decide(t.Context(), gid)
				if err == nil && decision == distributedtx.Committed {
					err = distributedtx.Commit(t.Context(), w.there, p.GID)
				} else if err == nil {
					err = distributedtx.Rollback(t.Context(), w.there, p.GID)
				}
				if err != nil {
					t.Error(err)
				}
			}
			w.agree(gid, c.want)
		})
	}
}

// The clock of the database was ahead when it was decided, or a person has edited the row.
func TestRecover_DoesNotBelieveADecisionFromTheFuture(t *testing.T) {
	t.Parallel()
	w, gid := newWorld(t), "payout-1"
	w.deaf = true
	_, _ = w.coordinator.Run(t.Context(), gid, w.prepareThere(gid), w.prepareHere(gid))
	w.deaf = false
	if _, err := w.here.Exec(t.Context(), `UPDATE twophase_decisions SET decided_at = now() + interval '7 days'`); err != nil {
		t.Fatal(err)
	}
	if err := w.coordinator.Recover(t.Context()); err != nil {
		t.Error(err)
	}
	w.agree(gid, true)
}

// A client hangs up, or a process is asked to stop, while a participant prepares.
// Nothing may stay locked until a recovery: it is decided at once.
func TestRun_LeavesNothingPreparedWhenItsCallerGoesAway(t *testing.T) {
	t.Parallel()
	w, gid := newWorld(t), "payout-1"
	ctx, hangUp := context.WithCancel(t.Context())
	decision, err := w.coordinator.Run(ctx, gid, w.prepareThere(gid), func(ctx context.Context) error {
		hangUp()
		return w.prepareHere(gid)(ctx)
	})
	if decision != distributedtx.Aborted || !errors.Is(err, context.Canceled) {
		t.Errorf("decision %q, %v", decision, err)
	}
	w.agree(gid, false)
	// Gone when both have voted yes: then it is committed.
	gid = "payout-2"
	ctx, hangUp = context.WithCancel(t.Context())
	decision, err = w.coordinator.Run(ctx, gid, w.prepareThere(gid), func(ctx context.Context) error {
		defer hangUp()
		return w.prepareHere(gid)(ctx)
	})
	if decision != distributedtx.Committed || err != nil {
		t.Errorf("decision %q, %v", decision, err)
	}
	w.agree(gid, true)
}

// What is prepared and does not end must be seen: it holds locks.
func TestRunRecovery_ShowsTheAgeOfWhatIsPrepared(t *testing.T) {
	t.Parallel()
	w, gid, registry := newWorld(t), "payout-1", prometheus.NewRegistry()
	cfg := w.coordinator.Config
	cfg.Metrics, cfg.Sweep, cfg.Timeout = registry, 5*time.Millisecond, time.Hour
	w.coordinator = distributedtx.NewCoordinator(cfg)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.coordinator.RunRecovery(ctx) })
	defer func() { stop(); running.Wait() }()
	shows := func(what string, holds func(age float64) bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			families, err := registry.Gather()
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("never %s: %v", what, err)
			}
			if len(families) == 1 && holds(families[0].Metric[0].Gauge.GetValue()) {
				return
			}
		}
	}
	if err := w.prepareHere(gid)(t.Context()); err != nil {
		t.Fatal(err)
	}
	shows("above zero", func(age float64) bool { return age > 0 })
	if _, err := w.coordinator.Resolve(t.Context(), gid); err != nil {
		t.Fatal(err)
	}
	shows("zero again", func(age float64) bool { return age == 0 })
}

// One decides to commit, others to abort, all at once: there is one decision, and
// all of them hear that one.
func TestCoordinator_MakesOneDecision(t *testing.T) {
	t.Parallel()
	for n := range 10 {
		w, gid := newWorld(t), fmt.Sprint("payout-", n)
		var mu sync.Mutex
		heard := map[distributedtx.Decision]int{}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				var decision distributedtx.Decision
				var err error
				if i == 0 {
					decision, err = w.coordinator.Run(t.Context(), gid, w.prepareThere(gid), w.prepareHere(gid))
				} else {
					decision, err = w.coordinator.Decide(t.Context(), gid)
				}
				if err != nil && i != 0 {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				heard[decision]++
			})
		}
		all.Wait()
		if len(heard) != 1 {
			t.Errorf("decisions: %v", heard)
		}
		if err := w.coordinator.Recover(t.Context()); err != nil {
			t.Error(err)
		}
		w.agree(gid, heard[distributedtx.Committed] > 0)
	}
}

func TestPrepareAndCommit_CanBeRepeated(t *testing.T) {
	t.Parallel()
	w, gid := newWorld(t), "payout-1"
	ctx := t.Context()
	if err := errors.Join(w.prepareThere(gid)(ctx), w.prepareThere(gid)(ctx)); err != nil {
		t.Errorf("prepared twice: %v", err)
	}
	name := w.prefix + "there:" + gid
	if err := errors.Join(distributedtx.Commit(ctx, w.there, name), distributedtx.Commit(ctx, w.there, name), distributedtx.Rollback(ctx, w.there, name)); err != nil {
		t.Errorf("ended again: %v", err)
	}
}

func TestPrepare_RefusesANameThatIsNotOurs(t *testing.T) {
	t.Parallel()
	db := database(t, things)
	for _, gid := range []string{"", "x'; DROP TABLE things; --", "a b", string(make([]byte, 200))} {
		for what, err := range map[string]error{
			"prepare":  distributedtx.Prepare(t.Context(), db, gid, func(context.Context, pgx.Tx) error { return nil }),
			"commit":   distributedtx.Commit(t.Context(), db, gid),
			"rollback": distributedtx.Rollback(t.Context(), db, gid),
		} {
			if !errors.Is(err, distributedtx.ErrGID) {
				t.Errorf("%s %q: %v", what, gid, err)
			}
		}
	}
}

func TestPrepare_InsideATransactionIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	err := postgres.InTx(t.Context(), w.here, func(ctx context.Context, _ pgx.Tx) error { return w.prepareThere("x")(ctx) })
	if !errors.Is(err, postgres.ErrNested) {
		t.Error(err)
	}
}

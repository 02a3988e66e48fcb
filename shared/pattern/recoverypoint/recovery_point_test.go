package recoverypoint_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/recoverypoint"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// finished runs the work to its end and checks the answer: it is the same wherever the
// runs before it have stopped.
func (w *world) finished() {
	w.t.Helper()
	answer, err := w.run(w.t.Context())
	if err != nil || answer.Status != 201 || string(answer.Body) != "take give " {
		w.t.Errorf("answered %d %q, %v", answer.Status, answer.Body, err)
	}
	recorded, _, err := request().Acquire(w.t.Context(), w.db, options, nil)
	if err != nil || !recorded.Exists || string(recorded.Body) != "take give " {
		w.t.Errorf("recorded: %+v, %v", recorded, err)
	}
}

// The points are the process's, so nothing else may run beside this test.
func TestRun_AfterACrashRepeatsTheCallOfOnePhaseAndNoWrite(t *testing.T) {
	for crash, calls := range map[string]string{
		fault.PaymentsRefundAfterProcessor: "take take give ",
		fault.PaymentsRefundAfterDecided:   "take give ",
		fault.PaymentsRefundAfterLedger:    "take give give ",
		fault.PaymentsRefundAfterPosted:    "take give ",
	} {
		w := newWorld(t)
		if err := fault.Arm(fault.Order{Point: crash, Action: fault.Error}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.run(t.Context()); !errors.Is(err, fault.ErrInjected) {
			t.Errorf("%s: %v", crash, err)
		}
		w.finished()
		w.stands("finished", "take give ", calls)
	}
	fault.Disarm()
}

func TestRun_OfWorkThatIsFinishedIsAnErrorAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	if err := fault.Arm(fault.Order{Point: fault.PaymentsRefundAfterFinish, Action: fault.Error}); err != nil {
		t.Fatal(err)
	}
	defer fault.Disarm()
	if _, err := w.run(t.Context()); !errors.Is(err, fault.ErrInjected) {
		t.Error(err)
	}
	if _, err := w.run(t.Context()); err == nil || !strings.Contains(err.Error(), `"finished"`) {
		t.Errorf("once more: %v", err)
	}
	w.stands("finished", "take give ", "take give ")
}

func TestRun_UnknownPointIsAnErrorAndCallsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`UPDATE transfers SET recovery_point = 'never-heard-of'`)
	if _, err := w.run(t.Context()); err == nil || !strings.Contains(err.Error(), `"never-heard-of"`) {
		t.Error(err)
	}
	w.stands("never-heard-of", "", "")
}

// The lease is over while a call takes its time, and another run takes the key over.
func TestRun_WhoseKeyWasTakenOverWritesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ slow, point, written, calls string }{
		{"begun", "begun", "", "take "},
		{"taken", "taken", "take ", "take give "},
		{"given", "given", "take give ", "take give "},
	} {
		w := newWorld(t)
		phase := w.phases[c.slow]
		do := phase.Do
		phase.Do = func(ctx context.Context, work *transfer) (recoverypoint.Next[transfer], error) {
			w.exec(`UPDATE idempotency_keys SET locked_until = now()`)
			if _, _, err := request().Acquire(ctx, w.db, options, nil); err != nil {
				t.Error(err)
			}
			return do(ctx, work)
		}
		w.phases[c.slow] = phase
		if _, err := w.run(t.Context()); !errors.Is(err, idempotency.ErrLockLost) {
			t.Errorf("%s: %v", c.slow, err)
		}
		w.stands(c.point, c.written, c.calls)
	}
}

func TestRun_RenewsTheLeaseWithEachPoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var left bool
	w.phases["taken"] = recoverypoint.Phase[transfer]{Do: func(ctx context.Context, _ *transfer) (recoverypoint.Next[transfer], error) {
		return recoverypoint.Next[transfer]{}, w.db.QueryRow(ctx, `SELECT locked_until > now() FROM idempotency_keys`).Scan(&left)
	}}
	w.exec(`UPDATE idempotency_keys SET locked_until = now()`)
	_, _ = w.run(t.Context())
	if !left {
		t.Error("the lease is over in the second phase")
	}
}

func TestRun_ThatFailsLeavesTheWorkAtItsPoint(t *testing.T) {
	t.Parallel()
	no := errors.New("no answer")
	for name, fail := range map[string]func(next recoverypoint.Next[transfer]) (recoverypoint.Next[transfer], error){
		"the call": func(recoverypoint.Next[transfer]) (recoverypoint.Next[transfer], error) {
			return recoverypoint.Next[transfer]{}, no
		},
		"the write": func(next recoverypoint.Next[transfer]) (recoverypoint.Next[transfer], error) {
			write := next.Write
			next.Write = func(ctx context.Context, tx pgx.Tx) error { return errors.Join(write(ctx, tx), no) }
			return next, nil
		},
	} {
		w := newWorld(t)
		whole := w.phases["taken"]
		w.phases["taken"] = recoverypoint.Phase[transfer]{Do: func(ctx context.Context, work *transfer) (recoverypoint.Next[transfer], error) {
			next, err := whole.Do(ctx, work)
			if err != nil {
				return next, err
			}
			return fail(next)
		}}
		if _, err := w.run(t.Context()); !errors.Is(err, no) {
			t.Errorf("%s: %v", name, err)
		}
		w.stands("taken", "take ", "take give ")
		w.phases["taken"] = whole
		w.finished()
	}
}

// A statement that misses the row would let the run go on from a point that no later run
// finds.
func TestRun_WhosePointIsNotWrittenFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lock.OperationID = uuid.New()
	if _, err := w.run(t.Context()); err == nil || !strings.Contains(err.Error(), "0 rows") {
		t.Error(err)
	}
	w.stands("begun", "", "take ")
}

// A client's time is over, or a process is asked to stop, while a call is made: its
// answer is written down all the same, and no other call is made.
func TestRun_WhoseContextEndsWritesWhatTheCallHasAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	begun := w.phases["begun"]
	w.phases["begun"] = recoverypoint.Phase[transfer]{Do: w.calling("take", "taken", stop)}
	if _, err := w.run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.stands("taken", "take ", "take ")
	w.phases["begun"] = begun
	w.finished()
	w.stands("finished", "take give ", "take give ")
}

// then makes the first phase end with one that only the run may go on with that has
// committed it, and puts another one in its place for later runs.
func (w *world) then(write func(context.Context, pgx.Tx) error) {
	only := recoverypoint.Phase[transfer]{Do: w.calling("only", "given", nil)}
	w.phases["begun"] = recoverypoint.Phase[transfer]{
		Do: func(context.Context, *transfer) (recoverypoint.Next[transfer], error) {
			return recoverypoint.Next[transfer]{Point: "taken", Write: write, Then: &only}, nil
		},
		AfterCommit: fault.PaymentsRefundAfterDecided,
	}
	w.phases["taken"] = recoverypoint.Phase[transfer]{Do: w.calling("later", "given", nil)}
}

func TestRun_GoesOnWithThenAlthoughItsContextHasEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	w.then(func(context.Context, pgx.Tx) error { stop(); return nil })
	if _, err := w.run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.stands("given", "only ", "only ")
}

// The points are the process's, so nothing else may run beside this test.
func TestRun_NeverGoesOnWithTheThenOfAnotherRun(t *testing.T) {
	w := newWorld(t)
	w.then(nil)
	if err := fault.Arm(fault.Order{Point: fault.PaymentsRefundAfterDecided, Action: fault.Error}); err != nil {
		t.Fatal(err)
	}
	defer fault.Disarm()
	if _, err := w.run(t.Context()); !errors.Is(err, fault.ErrInjected) {
		t.Error(err)
	}
	w.stands("taken", "", "")
	if _, err := w.run(t.Context()); err != nil {
		t.Error(err)
	}
	w.stands("finished", "later ", "later ")
}

// The connection breaks while the commit is on its way: it may have happened or not.
func TestRun_WhoseCommitIsNotKnownDoesNotGoOnWithThen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`
		CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
		CREATE CONSTRAINT TRIGGER break_off AFTER UPDATE ON transfers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION break_off()`)
	w.then(nil)
	if _, err := w.run(t.Context()); !errors.Is(err, postgres.ErrCommitUnknown) {
		t.Error(err)
	}
	if len(w.calls) > 0 {
		t.Errorf("called: %q", w.calls)
	}
}

package recoverypoint_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// The points are the process's, so nothing else may run beside this test.
func TestCommit_AfterACrashOneCallIsRepeatedAndNoWrite(t *testing.T) {
	for crash, calls := range map[string]string{
		fault.PaymentsRefundAfterProcessor: "take take give",
		fault.PaymentsRefundAfterDecided:   "take give",
		fault.PaymentsRefundAfterLedger:    "take give give",
		fault.PaymentsRefundAfterPosted:    "take give",
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

// The lease is over while a call takes its time, and another run takes the key over.
func TestCommit_OfARunWhoseKeyWasTakenOverWritesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ slow, point, written, calls string }{
		{"take", "begun", "", "take"},
		{"give", "taken", "take ", "take give"},
		{"finish", "given", "take give ", "take give"},
	} {
		w := newWorld(t)
		w.calling = func(name string) error {
			if name != c.slow {
				return nil
			}
			w.exec(`UPDATE idempotency_keys SET locked_until = now()`)
			_, _, err := request().Acquire(t.Context(), w.db, options, nil)
			return err
		}
		if _, err := w.run(t.Context()); !errors.Is(err, idempotency.ErrLockLost) {
			t.Errorf("%s: %v", c.slow, err)
		}
		w.stands(c.point, c.written, c.calls)
	}
}

func TestCommit_RenewsTheLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`UPDATE idempotency_keys SET locked_until = now()`)
	var left bool
	w.calling = func(name string) error {
		if name == "take" {
			return nil
		}
		return errors.Join(errors.New("enough"), w.db.QueryRow(t.Context(), `SELECT locked_until > now() FROM idempotency_keys`).Scan(&left))
	}
	_, _ = w.run(t.Context())
	if !left {
		t.Error("the lease is over in the second phase")
	}
}

func TestCommit_AfterAFailureTheWorkStaysAtItsPoint(t *testing.T) {
	t.Parallel()
	no := errors.New("no answer")
	for what, fail := range map[string]func(w *world){
		"the call": func(w *world) { w.calling = failsAt("give", no) },
		"the write": func(w *world) {
			w.writing = func(_ context.Context, _ pgx.Tx, name string) error { return failsAt("give", no)(name) }
		},
	} {
		w := newWorld(t)
		calling, writing := w.calling, w.writing
		fail(w)
		if _, err := w.run(t.Context()); !errors.Is(err, no) {
			t.Errorf("%s: %v", what, err)
		}
		w.stands("taken", "take ", "take give")
		w.calling, w.writing = calling, writing
		w.finished()
	}
}

func failsAt(where string, err error) func(string) error {
	return func(name string) error {
		if name == where {
			return err
		}
		return nil
	}
}

// A client's time is over, or a process is asked to stop, while a call is made: its
// answer is written down all the same, and no other call is made.
func TestCommit_OfARunWhoseContextEndsWritesWhatTheCallHasAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	w.calling = func(string) error { stop(); return nil }
	if _, err := w.run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.stands("taken", "take ", "take")
	w.finished()
	w.stands("finished", "take give ", "take give")
}

// The connection breaks while the commit is on its way: it may have happened or not. The
// run ends with an error, and reaches no call that relies on the commit.
func TestCommit_WhoseOutcomeIsNotKnownIsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`
		CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
		CREATE CONSTRAINT TRIGGER break_off AFTER UPDATE ON transfers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION break_off()`)
	if _, err := w.run(t.Context()); !errors.Is(err, postgres.ErrCommitUnknown) {
		t.Error(err)
	}
	w.stands("begun", "", "take")
}

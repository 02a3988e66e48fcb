package saga_test

import (
	"context"
	"fmt"
	"strings"
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

func begin(t *testing.T, db *pgxpool.Pool, timeout time.Duration) saga.Row {
	t.Helper()
	id := uuid.New()
	if err := postgres.Write(t.Context(), db, func(b *pgx.Batch) { saga.Insert(t.Context(), b, id, plan.Begin(), timeout) }); err != nil {
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

func advance(t *testing.T, db *pgxpool.Pool, tr saga.Transition, timeout time.Duration) error {
	t.Helper()
	return postgres.Write(t.Context(), db, func(b *pgx.Batch) { saga.Advance(b, tr, timeout) })
}

func overdue(t *testing.T, db *pgxpool.Pool) string {
	t.Helper()
	ids, err := saga.ClaimOverdue(t.Context(), db, 10, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(ids)
}

func TestAdvance_IsWhatLoadReads(t *testing.T) {
	t.Parallel()
	db := database(t)
	row := begin(t, db, time.Hour)
	if want := (saga.Row{ID: row.ID, State: plan.Begin(), Attempts: 1, Version: 1}); row != want {
		t.Errorf("begun as %+v, want %+v", row, want)
	}
	next := saga.State{Phase: saga.Compensating, Step: "reverse"}
	if err := advance(t, db, saga.Transition{From: row, To: next, Reason: "declined"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	// A later step keeps the reason why the saga turned around.
	if err := advance(t, db, saga.Transition{From: load(t, db, row.ID), To: next, Reason: "another"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if got, want := load(t, db, row.ID), (saga.Row{ID: row.ID, State: next, Reason: "declined", Attempts: 2, Version: 3}); got != want {
		t.Errorf("read %+v, want %+v", got, want)
	}
	if got := load(t, db, uuid.New()); got != (saga.Row{}) {
		t.Errorf("a saga that does not exist: %+v", got)
	}
}

// Two replies at once: one acts, the other finds that the saga has moved, and
// nothing that it wanted to write beside it happens.
func TestAdvance_OfTwentyAtOnceOneSucceeds(t *testing.T) {
	t.Parallel()
	db := database(t)
	row := begin(t, db, time.Hour)
	var acted atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			err := postgres.Write(t.Context(), db, func(b *pgx.Batch) {
				saga.Insert(t.Context(), b, uuid.New(), plan.Begin(), time.Hour) // what goes with it
				saga.Advance(b, saga.Transition{From: row, To: saga.State{Phase: saga.Forward, Step: "post"}}, time.Hour)
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

func TestClaimOverdue_NoMoreOnceResentOrEnded(t *testing.T) {
	t.Parallel()
	db := database(t)
	begin(t, db, time.Hour) // not overdue
	row := begin(t, db, -time.Second)
	if got := overdue(t, db); got != fmt.Sprint([]uuid.UUID{row.ID}) {
		t.Fatalf("overdue: %s", got)
	}
	if err := advance(t, db, saga.Transition{From: row, To: row.State}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := overdue(t, db); got != "[]" {
		t.Errorf("sent again, and still overdue: %s", got)
	}
	for _, end := range []saga.Phase{saga.Completed, saga.Compensated} {
		row := begin(t, db, -time.Second)
		if err := advance(t, db, saga.Transition{From: row, To: saga.State{Phase: end}}, -time.Second); err != nil {
			t.Fatal(err)
		}
		if got := overdue(t, db); got != "[]" {
			t.Errorf("%s, and still overdue: %s", end, got)
		}
	}
}

// The clock of the database was ahead once, or a person has edited the row.
func TestClaimOverdue_DoesNotBelieveATimeThatIsTooFarAway(t *testing.T) {
	t.Parallel()
	db := database(t)
	row := begin(t, db, 7*24*time.Hour)
	if got := overdue(t, db); got != fmt.Sprint([]uuid.UUID{row.ID}) {
		t.Errorf("overdue: %s", got)
	}
}

// What one replica has claimed another does not get at the same time. It is claimed
// again when the first one has died.
func TestClaimOverdue_GivesASagaToOneReplica(t *testing.T) {
	t.Parallel()
	db := database(t)
	row := begin(t, db, -time.Second)
	if one, other := overdue(t, db), overdue(t, db); one != fmt.Sprint([]uuid.UUID{row.ID}) || other != "[]" {
		t.Errorf("claimed: %s and %s", one, other)
	}
	var again float64
	if err := db.QueryRow(t.Context(), `SELECT extract(epoch FROM resend_at - now())::float8 FROM sagas`).Scan(&again); err != nil || again < 10 || again > 60 {
		t.Errorf("claimed again in %v s, %v", again, err)
	}
}

// A replica that has locked one saga does not hold up the others: they skip it.
func TestClaimOverdue_SkipsWhatAnotherReplicaHasLocked(t *testing.T) {
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
	ids, err := saga.ClaimOverdue(ctx, db, 10, time.Minute)
	if err != nil || fmt.Sprint(ids) != fmt.Sprint([]uuid.UUID{left.ID}) {
		t.Errorf("claimed %v, %v", ids, err)
	}
}

func TestAdvance_DoublesTheTimeoutAtEachResendUpToAnHour(t *testing.T) {
	t.Parallel()
	db := database(t)
	row := begin(t, db, 15*time.Minute)
	for _, want := range []time.Duration{30 * time.Minute, time.Hour, time.Hour} {
		if err := advance(t, db, saga.Transition{From: row, To: row.State}, 15*time.Minute); err != nil {
			t.Fatal(err)
		}
		row = load(t, db, row.ID)
		resendIn(t, db, want)
	}
	row.Attempts = 1_000_000
	if err := advance(t, db, saga.Transition{From: row, To: row.State}, time.Minute); err != nil {
		t.Fatal(err)
	}
	resendIn(t, db, time.Hour)
	if err := advance(t, db, saga.Transition{From: load(t, db, row.ID), To: saga.State{Phase: saga.Forward, Step: "post"}}, 15*time.Minute); err != nil {
		t.Fatal(err)
	}
	resendIn(t, db, 15*time.Minute) // the next command begins anew
}

// resendIn checks when the only saga will be overdue.
func resendIn(t *testing.T, db *pgxpool.Pool, want time.Duration) {
	t.Helper()
	var seconds float64
	if err := db.QueryRow(t.Context(), `SELECT extract(epoch FROM resend_at - now())::float8 FROM sagas`).Scan(&seconds); err != nil {
		t.Fatal(err)
	}
	if left := time.Duration(seconds * float64(time.Second)); left > want || left < want-5*time.Minute {
		t.Errorf("sent again in %v, want %v", left, want)
	}
}

// Its command would have an empty routing key, and never leave the outbox.
func TestCheck_RefusesAStepWithoutAParticipant(t *testing.T) {
	t.Parallel()
	incomplete := saga.Plan{{Participant: "payments", Action: "authorise"}, {Action: "capture"}}
	if err := incomplete.Check(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "step 2") {
		t.Errorf("got %v", err)
	}
}

// What the plan does not have any more stops the start; what has ended does not matter.
func TestCheck_NamesTheStepsThatThePlanDoesNotHave(t *testing.T) {
	t.Parallel()
	db := database(t)
	begin(t, db, time.Hour)
	if err := plan.Check(t.Context(), db); err != nil {
		t.Error(err)
	}
	ended := begin(t, db, time.Hour)
	if err := advance(t, db, saga.Transition{From: ended, To: saga.State{Phase: saga.Completed}}, time.Hour); err != nil {
		t.Fatal(err)
	}
	renamed := saga.Plan{{Participant: "payments", Action: "authorize", Compensation: "void"}, {Participant: "payments", Action: "capture"}}
	if err := renamed.Check(t.Context(), db); err == nil || !strings.Contains(err.Error(), `1 at "authorise"`) {
		t.Error(err)
	}
}

func TestCountOpen_CountsWhatHasNotEndedUpToALimit(t *testing.T) {
	t.Parallel()
	db := database(t)
	for range 3 {
		begin(t, db, time.Hour)
	}
	ended := begin(t, db, time.Hour)
	if err := advance(t, db, saga.Transition{From: ended, To: saga.State{Phase: saga.Compensated}}, time.Hour); err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int]int{2: 2, 3: 3, 100: 3} {
		if n, err := saga.CountOpen(t.Context(), db, limit); err != nil || n != want {
			t.Errorf("up to %d: %d, %v", limit, n, err)
		}
	}
}

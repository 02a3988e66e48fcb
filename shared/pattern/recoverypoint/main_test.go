package recoverypoint_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/recoverypoint"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const table = `
CREATE TABLE transfers (
    id             uuid PRIMARY KEY,
    recovery_point text NOT NULL DEFAULT 'begun',
    written        text NOT NULL DEFAULT ''
);`

// transfer is the work of these tests: taken from one system, given to another one.
type transfer struct {
	ID             uuid.UUID
	Point, Written string
}

// world is what the work runs in, and what it has called.
type world struct {
	t      *testing.T
	db     *pgxpool.Pool
	lock   idempotency.Lock
	calls  []string
	phases map[string]recoverypoint.Phase[transfer]
}

var options = idempotency.LockOptions{Lease: time.Minute}

func request() idempotency.Request {
	return idempotency.Request{Merchant: "acme", Operation: "POST /transfers", Key: "k", Retention: time.Hour}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	files := fstest.MapFS{"migrations/00001_test.sql": {Data: []byte("-- +goose Up\n" + idempotency.Schema + table)}}
	db, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.Postgres(t, files), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	w := &world{t: t, db: db}
	w.phases = map[string]recoverypoint.Phase[transfer]{
		"begun": {Do: w.calling("take", "taken", nil), AfterCall: fault.PaymentsRefundAfterProcessor, AfterCommit: fault.PaymentsRefundAfterDecided},
		"taken": {Do: w.calling("give", "given", nil), AfterCall: fault.PaymentsRefundAfterLedger, AfterCommit: fault.PaymentsRefundAfterPosted},
		"given": {Do: w.finish, AfterCommit: fault.PaymentsRefundAfterFinish},
	}
	_, w.lock, err = request().Acquire(t.Context(), db, options, func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error) {
		id := uuid.New()
		_, err := tx.Exec(ctx, `INSERT INTO transfers (id) VALUES ($1)`, id)
		return id, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// calling is a phase that makes a call and writes that it has. meanwhile, if there is
// one, happens before the call is answered.
func (w *world) calling(name, point string, meanwhile func()) func(context.Context, *transfer) (recoverypoint.Next[transfer], error) {
	return func(_ context.Context, work *transfer) (recoverypoint.Next[transfer], error) {
		w.calls = append(w.calls, name)
		if meanwhile != nil {
			meanwhile()
		}
		work.Written += name + " "
		return recoverypoint.Next[transfer]{Point: point, Write: func(ctx context.Context, tx pgx.Tx) error { return w.write(ctx, tx, name+" ") }}, nil
	}
}

func (w *world) write(ctx context.Context, tx pgx.Tx, text string) error {
	_, err := tx.Exec(ctx, `UPDATE transfers SET written = written || $1`, text)
	return err
}

func (w *world) finish(_ context.Context, work *transfer) (recoverypoint.Next[transfer], error) {
	return recoverypoint.Next[transfer]{Point: "finished", Answer: &idempotency.Response{Status: 201, Body: []byte(work.Written)}}, nil
}

// stored is the row as it stands.
func (w *world) stored() transfer {
	w.t.Helper()
	var work transfer
	err := w.db.QueryRow(context.WithoutCancel(w.t.Context()), `SELECT id, recovery_point, written FROM transfers`).Scan(&work.ID, &work.Point, &work.Written)
	if err != nil {
		w.t.Fatal(err)
	}
	return work
}

// run loads the work and works on it, as a process does that has just been started.
func (w *world) run(ctx context.Context) (idempotency.Response, error) {
	w.t.Helper()
	work := w.stored()
	return recoverypoint.Run(ctx, recoverypoint.Operation[transfer]{
		DB: w.db, Lock: w.lock, Work: &work, Point: &work.Point,
		SetPoint: `UPDATE transfers SET recovery_point = $2 WHERE id = $1`, Phases: w.phases,
	})
}

// stands checks what is written, and what was called.
func (w *world) stands(point, written, calls string) {
	w.t.Helper()
	if work := w.stored(); work.Point != point || work.Written != written {
		w.t.Errorf("it stands at %q with %q, want %q with %q", work.Point, work.Written, point, written)
	}
	called := ""
	for _, call := range w.calls {
		called += call + " "
	}
	if called != calls {
		w.t.Errorf("called: %q, want %q", called, calls)
	}
}

// exec changes the world behind the run's back.
func (w *world) exec(statement string) {
	w.t.Helper()
	if _, err := w.db.Exec(context.WithoutCancel(w.t.Context()), statement); err != nil {
		w.t.Fatal(err)
	}
}

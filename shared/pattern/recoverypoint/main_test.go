package recoverypoint_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
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

// world is what the work of these tests runs in: taken from one system, given to another.
type world struct {
	t     *testing.T
	db    *pgxpool.Pool
	lock  idempotency.Lock
	calls string

	calling func(name string) error                                 // happens before a call is answered
	writing func(ctx context.Context, tx pgx.Tx, name string) error // joins the transaction after it
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
	w := &world{
		t: t, db: db,
		calling: func(string) error { return nil }, writing: func(context.Context, pgx.Tx, string) error { return nil },
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

// stored is the row as it stands.
func (w *world) stored() (point, written string) {
	w.t.Helper()
	err := w.db.QueryRow(context.WithoutCancel(w.t.Context()), `SELECT recovery_point, written FROM transfers`).Scan(&point, &written)
	if err != nil {
		w.t.Fatal(err)
	}
	return point, written
}

// run works on the work from where its row stands, as a process does that has just been started.
func (w *world) run(ctx context.Context) (answer idempotency.Response, err error) {
	w.t.Helper()
	for err == nil && answer.Status == 0 {
		switch point, written := w.stored(); {
		case ctx.Err() != nil:
			err = ctx.Err()
		case point == "begun":
			err = w.phase(ctx, "take", "taken", fault.PaymentsRefundAfterProcessor, fault.PaymentsRefundAfterDecided)
		case point == "taken":
			err = w.phase(ctx, "give", "given", fault.PaymentsRefundAfterLedger, fault.PaymentsRefundAfterPosted)
		case point == "given":
			answer = idempotency.Response{Status: 201, Body: []byte(written)}
			err = w.calling("finish")
			if err == nil {
				err = recoverypoint.Finish(ctx, w.db, w.lock, answer, fault.PaymentsRefundAfterFinish, w.moveTo("finished", "", "finish"))
			}
		default:
			w.t.Fatalf("at %q", point)
		}
	}
	return answer, err
}

func (w *world) phase(ctx context.Context, name, next, afterCall, afterCommit string) error {
	w.calls += name + " "
	err := w.calling(name)
	if err == nil {
		err = fault.Point(ctx, afterCall)
	}
	if err != nil {
		return err
	}
	return recoverypoint.Commit(ctx, w.db, w.lock, afterCommit, w.moveTo(next, name+" ", name))
}

func (w *world) moveTo(point, text, name string) func(ctx context.Context, tx pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE transfers SET recovery_point = $1, written = written || $2`, point, text)
		return errors.Join(err, w.writing(ctx, tx, name))
	}
}

// stands checks what is written, and what was called.
func (w *world) stands(point, written, calls string) {
	w.t.Helper()
	if atPoint, hasWritten := w.stored(); atPoint != point || hasWritten != written {
		w.t.Errorf("it stands at %q with %q, want %q with %q", atPoint, hasWritten, point, written)
	}
	if strings.TrimSpace(w.calls) != strings.TrimSpace(calls) {
		w.t.Errorf("called: %q, want %q", w.calls, calls)
	}
}

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

// exec changes the world behind the run's back.
func (w *world) exec(statement string) {
	w.t.Helper()
	if _, err := w.db.Exec(context.WithoutCancel(w.t.Context()), statement); err != nil {
		w.t.Fatal(err)
	}
}

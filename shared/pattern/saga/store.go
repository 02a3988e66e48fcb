package saga

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/tracing"
)

// Schema creates the table of this package. Copy it into a migration.
//
//go:embed schema.sql
var Schema string

// Row is a saga as it was read.
type Row struct {
	ID       uuid.UUID
	State    State
	Reason   string // why it turned around; empty while it goes forward
	Attempts int    // how often the current command was sent
	Version  int

	Traceparent string // of the request that began it
}

// Transition moves a saga from the row that was read to the next state. With the
// same state again, its current command is sent once more.
type Transition struct {
	From   Row
	To     State
	Reason string // why the saga turns around
}

// Cause is the reason why a saga turned around: the first one that was given. Later
// ones are its consequences.
func (t Transition) Cause() string {
	return cmp.Or(t.From.Reason, t.Reason)
}

// Insert queues a new saga. timeout is how long to wait for the first reply; ctx is that of
// the request, whose trace stays with the saga.
func Insert(ctx context.Context, b *pgx.Batch, id uuid.UUID, s State, timeout time.Duration) {
	b.Queue(`
		INSERT INTO sagas (id, phase, step, resend_at, traceparent)
		VALUES ($1, $2, $3, now() + $4::interval, $5)`,
		id, s.Phase, s.Step, timeout, tracing.Traceparent(ctx))
}

// Load queues the read of a saga. row stays as it is when there is none.
func Load(b *pgx.Batch, id uuid.UUID, row *Row) {
	b.Queue(`
		SELECT id, phase, step, reason, attempts, version, traceparent
		  FROM sagas
		 WHERE id = $1`,
		id,
	).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&row.ID, &row.State.Phase, &row.State.Step, &row.Reason, &row.Attempts, &row.Version, &row.Traceparent); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// Advance queues t, on condition that no other writer has advanced the saga since its
// row was read; otherwise the whole transaction fails, see IsStale. Two replies that
// are handled at once can therefore not both act upon the same state. timeout is how
// long to wait for the first reply to a command; it doubles at each resend.
//
// Pattern: atomic-read-then-write (optimistic: the version decides)
func Advance(b *pgx.Batch, t Transition, timeout time.Duration) {
	attempts := 1
	if t.To == t.From.State {
		attempts = t.From.Attempts + 1
	}
	b.Queue(`
		UPDATE sagas
		   SET phase     = $3,
		       step      = $4,
		       reason    = $5,
		       attempts  = $6,
		       resend_at = CASE WHEN $3 IN ('completed', 'compensated') THEN NULL ELSE now() + $7::interval END,
		       version   = CASE WHEN version = $2 THEN version + 1 ELSE -1 END
		 WHERE id = $1`,
		t.From.ID, t.From.Version, t.To.Phase, t.To.Step, t.Cause(), attempts, backoff(timeout, attempts))
}

// IsStale tells whether a transaction failed because another writer has advanced the
// saga since it was read.
func IsStale(err error) bool {
	return postgres.Violates(err, "sagas_version_current")
}

// maxTimeout bounds the time between two commands of a saga that is stuck. It must
// exceed the timeout that one begins with.
const maxTimeout = time.Hour

// backoff is how long to wait for the reply to a command that was sent attempts
// times: doubled each time, so that a participant that is down is not buried.
func backoff(timeout time.Duration, attempts int) time.Duration {
	for ; attempts > 1 && timeout < maxTimeout; attempts-- {
		timeout *= 2
	}
	return min(timeout, maxTimeout)
}

// ClaimOverdue returns up to limit sagas whose reply is overdue. Each is given to one
// caller: replicas that all read the same first hundred would do one replica's work
// together. A resend sets a later time; if the caller dies before that, the saga is
// overdue again once lease is over.
//
// Pattern: completer (sagas that no message would move again)
func ClaimOverdue(ctx context.Context, db *pgxpool.Pool, limit int, lease time.Duration) ([]uuid.UUID, error) {
	rows, _ := db.Query(ctx, `
		UPDATE sagas
		   SET resend_at = now() + $2::interval
		 WHERE id = ANY(ARRAY(
		       SELECT id
		         FROM sagas
		        WHERE phase IN ('forward', 'compensating')
		          AND resend_at NOT BETWEEN now() AND now() + interval '1 day' -- an honest one is at most an hour away
		        LIMIT $1
		          FOR UPDATE SKIP LOCKED))
		RETURNING id`,
		limit, lease)
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// CountOpen counts the sagas that have not ended, up to limit.
func CountOpen(ctx context.Context, db *pgxpool.Pool, limit int) (n int, err error) {
	err = db.QueryRow(ctx, `
		SELECT count(*)
		  FROM (SELECT
		          FROM sagas
		         WHERE phase IN ('forward', 'compensating')
		         LIMIT $1) AS open`,
		limit).Scan(&n)
	return n, err
}

// Check returns an error when a step lacks its action or participant, or when sagas are under
// way at a step that the plan does not have. Call it at the start: this process could not move
// them, and a reply to one would come again and again. (While an older process still runs they
// may appear later.)
func (p Plan) Check(ctx context.Context, db *pgxpool.Pool) error {
	for i, s := range p {
		if s.Action == "" || s.Participant == "" {
			return fmt.Errorf("step %d of the saga's plan lacks its action or its participant", i+1)
		}
	}
	rows, _ := db.Query(ctx, `
		SELECT step, count(*)
		  FROM sagas
		 WHERE phase IN ('forward', 'compensating')
		 GROUP BY step`)
	var step string
	var sagas int
	var unknown []string
	_, err := pgx.ForEachRow(rows, []any{&step, &sagas}, func() error {
		if p.position(step) < 0 {
			unknown = append(unknown, fmt.Sprintf("%d at %q", sagas, step))
		}
		return nil
	})
	if err == nil && unknown != nil {
		err = fmt.Errorf("sagas are under way at steps that the plan does not have: %s (docs/changing.md)", strings.Join(unknown, ", "))
	}
	return err
}

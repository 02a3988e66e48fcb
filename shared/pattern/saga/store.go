package saga

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
)

// Row is a saga as it was read.
type Row struct {
	ID      uuid.UUID
	State   State
	Reason  string // why it turned around; empty while it goes forward
	Asked   int    // how often the open question was put
	Version int
}

// NewRow is a saga as Insert writes it.
func NewRow(id uuid.UUID, s State) Row { return Row{ID: id, State: s, Asked: 1, Version: 1} }

// Advanced is the row as Advance leaves it.
func (r Row) Advanced(next State, reason string) Row {
	r.Asked++
	if next != r.State {
		r.Asked = 1
	}
	if r.Reason == "" {
		r.Reason = reason
	}
	r.State, r.Version = next, r.Version+1
	return r
}

// Insert queues a new saga. patience is how long to wait for the first answer.
func Insert(b *pgx.Batch, id uuid.UUID, s State, patience time.Duration) {
	b.Queue(`
		INSERT INTO sagas (id, phase, step, ask_again_at)
		VALUES ($1, $2, $3, now() + $4::interval)`,
		id, s.Phase, s.Step, patience)
}

// Load queues the read of a saga. row stays as it is when there is none.
func Load(b *pgx.Batch, id uuid.UUID, row *Row) {
	b.Queue(`
		SELECT id, phase, step, reason, asked, version
		  FROM sagas
		 WHERE id = $1`,
		id,
	).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&row.ID, &row.State.Phase, &row.State.Step, &row.Reason, &row.Asked, &row.Version); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// Advance queues the step from row to next, on condition that nobody advanced
// the saga since row was read; otherwise the whole batch fails, see IsStale.
// Two replies that are handled at once can therefore not both act upon the
// same state.
//
// Pattern: atomic-read-then-write (optimistic: the version decides)
func Advance(b *pgx.Batch, row Row, next State, reason string, patience time.Duration) {
	after := row.Advanced(next, reason)
	b.Queue(`
		UPDATE sagas
		   SET phase        = $3,
		       step         = $4,
		       reason       = $5,
		       asked        = $6,
		       ask_again_at = CASE WHEN $3 IN ('completed', 'undone') THEN NULL ELSE now() + $7::interval END,
		       version      = CASE WHEN version = $2 THEN version + 1 ELSE -1 END
		 WHERE id = $1`,
		row.ID, row.Version, next.Phase, next.Step, after.Reason, after.Asked, patience)
}

// IsStale tells whether a batch failed because the saga was advanced by
// somebody else since it was read.
func IsStale(err error) bool {
	return postgres.Violates(err, "sagas_version_current")
}

// Overdue hands out up to limit sagas whose question has been open for longer than
// the patience it was asked with. Each is handed to one caller: replicas that all read
// the same first hundred would do one replica's work together. Whoever asks again sets
// a later time; if the caller dies before that, it is handed out again after hold.
// Begin after the zero id, and go on after the last one that was returned: they come
// in the order of their ids.
//
// Pattern: completer (sagas that nobody would touch again)
func Overdue(ctx context.Context, db *pgxpool.Pool, after uuid.UUID, limit int, hold time.Duration) ([]uuid.UUID, error) {
	rows, err := db.Query(ctx, `
		UPDATE sagas
		   SET ask_again_at = now() + $2::interval
		 WHERE id = ANY(ARRAY(
		       SELECT id
		         FROM sagas
		        WHERE phase IN ('forward', 'backward')
		          AND ask_again_at < now()
		          AND id > $3
		        ORDER BY id
		        LIMIT $1
		          FOR UPDATE SKIP LOCKED))
		RETURNING id`,
		limit, hold, after)
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return ids, err
}

// maxPatience bounds the time between two questions of a saga that is stuck. It must
// exceed the patience that one begins with.
const maxPatience = time.Hour

// Patience is how long to wait for an answer that was asked for asked times
// already: doubled each time, so that a participant that is down is not buried.
func Patience(base time.Duration, asked int) time.Duration {
	for ; asked > 0 && base < maxPatience; asked-- {
		base *= 2
	}
	return min(base, maxPatience)
}

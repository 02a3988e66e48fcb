package recoverypoint

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// commitTimeout bounds the statements of one recovery point's transaction; the COMMIT itself
// is never cut off, because its outcome would not be known. Together with the call
// before it, it must fit into the seconds that a process has for stopping.
const commitTimeout = 2 * time.Second

// Commit ends a phase of work: write moves the recovery point and writes what the call of
// this phase has answered, in one transaction. Make the call before Commit, outside of any
// transaction.
//
// The fence is the first statement: a run that was only slow, and whose key was taken
// over, writes nothing at all. Commit does not end with ctx: an answer that has come is
// written down, although the client's time is over.
//
// An error means that the point may not have been moved; the next run goes on from where
// the row stands. after is the fault point after the commit, "" for none.
//
// Pattern: recovery-point
func Commit(ctx context.Context, db *pgxpool.Pool, lock idempotency.Lock, after string, write func(ctx context.Context, tx pgx.Tx) error) error {
	return commit(ctx, db, after, lock.Renew, write)
}

// Finish is Commit for the last point: it also records the answer under the key, and gives
// the key back.
func Finish(ctx context.Context, db *pgxpool.Pool, lock idempotency.Lock, answer idempotency.Response, after string,
	write func(ctx context.Context, tx pgx.Tx) error,
) error {
	fence := func(ctx context.Context, tx pgx.Tx) error { return lock.Finish(ctx, tx, answer) }
	return commit(ctx, db, after, fence, write)
}

func commit(ctx context.Context, db *pgxpool.Pool, after string, fence, write func(ctx context.Context, tx pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	err := postgres.InTx(ctx, db, func(ctx context.Context, tx pgx.Tx) error {
		if err := fence(ctx, tx); err != nil {
			return err
		}
		return write(ctx, tx)
	})
	if err != nil || after == "" {
		return err
	}
	return fault.Point(context.WithoutCancel(ctx), after)
}

package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres/txmark"
)

// InTx runs fn in one transaction: all of its writes happen, or none.
//
// The context given to fn is marked; our HTTP and broker clients refuse to send
// on it. A transaction that is begun in another way, with pgx.BeginFunc for instance,
// has no mark unless its caller sets one (txmark.Mark): nothing refuses there. A
// transaction that lost a race (40001, 40P01), or met a server that has changed, is run
// again from the start, so fn must not change anything outside the database.
//
// Errors means: fn's own, after a rollback; ErrNested; ErrCommitUnknown when the
// COMMIT was sent and its answer lost.
//
// Pattern: acid-transaction
// Pattern: io-inside-transaction (made impossible: the mark)
func InTx(ctx context.Context, db *pgxpool.Pool, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if txmark.InTransaction(ctx) {
		return ErrNested
	}
	var err error
	for range maxTries {
		if err = once(ctx, db, fn); !mayRepeat(err) {
			return err
		}
	}
	return fmt.Errorf("gave up after %d tries: %w", maxTries, err)
}

func once(ctx context.Context, db *pgxpool.Pool, fn func(ctx context.Context, tx pgx.Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotBegun, err)
	}
	// After a commit this does nothing; after an error or a panic it gives the
	// locks back. Its own context: a cancelled request must still roll back.
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // a failed rollback closes the connection, which rolls back

	if err := fn(txmark.Mark(ctx), tx); err != nil {
		return err
	}
	// A COMMIT in flight is not cancelled with the request: it would be
	// lost half-way and its outcome unknown without need.
	return commitError(tx.Commit(context.WithoutCancel(ctx)))
}

// commitError keeps a definite refusal as it is and turns everything else into
// ErrCommitUnknown. A FATAL error is no refusal: the server ended the session, and
// may have done so after the commit, whatever the code says.
func commitError(err error) error {
	if err == nil || errors.Is(err, pgx.ErrTxCommitRollback) || neverSent(err) {
		return err
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); IsIndefinite(err) || ok && pgErr.SeverityUnlocalized == "FATAL" {
		return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
	}
	return err
}

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

// Writer writes a batch of statements as one transaction: all of it, or none.
//
// [Direct] and [Grouped] keep one contract (writer_contract_test.go):
//
//   - fill queues the statements. They are executed in the order in which they
//     were queued. fill may be called again when the transaction has to be
//     repeated, and runs on the caller's goroutine: a panic in it is the caller's.
//   - A callback (QueuedQuery.Exec, QueryRow, Query) sees its statement's result
//     after the commit, on the caller's goroutine. It cannot undo the commit: its
//     error is returned as an [ErrCallback].
//   - A *pgconn.PgError means that nothing was written; see [Violates].
//   - [ErrCommitUnknown] means that the batch was sent and the answer is lost, or
//     that ctx ended while the batch was under way.
//   - When ctx ends before that, nothing is written.
type Writer interface {
	Write(ctx context.Context, fill func(b *pgx.Batch)) error

	// Close waits for what is under way. After it, Write returns ErrClosed.
	Close()
}

// ErrCallback means: the batch is committed, and a callback that looked at its
// results failed.
var ErrCallback = errors.New("postgres: committed, but a callback failed on the result")

// Direct writes each batch in a transaction of its own.
func Direct(db *pgxpool.Pool) Writer { return direct{db} }

type direct struct{ db *pgxpool.Pool }

func (d direct) Write(ctx context.Context, fill func(b *pgx.Batch)) error {
	return Write(ctx, d.db, fill)
}

func (direct) Close() {}

// Write sends everything that fill queues in one round trip and one transaction.
// Its contract is that of [Writer].
//
// The statements travel as one pipeline that ends in a single Sync, which
// PostgreSQL treats as one implicit transaction. Decisions are left to
// constraints: the first statement that violates one undoes them all.
//
// Pattern: acid-transaction
func Write(ctx context.Context, db *pgxpool.Pool, fill func(b *pgx.Batch)) error {
	if txmark.InTransaction(ctx) {
		return ErrNested
	}
	var err error
	for range maxTries {
		batch := &pgx.Batch{}
		fill(batch)
		var results []result
		if results, _, err = execute(ctx, db, batch.QueuedQueries); err == nil {
			return deliver(batch.QueuedQueries, results)
		}
		if !mayRepeat(err) {
			return err
		}
	}
	return fmt.Errorf("gave up after %d tries: %w", maxTries, err)
}

// Read sends everything that fill queues in one round trip, as one snapshot
// per statement. It is for statements that change nothing, runs the callbacks as the
// results come in, and never reports ErrCommitUnknown. Like that of Write, fill may be
// called again.
func Read(ctx context.Context, db *pgxpool.Pool, fill func(b *pgx.Batch)) error {
	var err error
	for range maxTries {
		batch := &pgx.Batch{}
		fill(batch)
		if err = sendBatch(ctx, db, batch); !mayRepeat(err) {
			break
		}
	}
	return err
}

func sendBatch(ctx context.Context, db *pgxpool.Pool, batch *pgx.Batch) error {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotBegun, err)
	}
	defer conn.Release()
	return conn.SendBatch(ctx, batch).Close()
}

// execute runs queries as one transaction and returns what each returned. Callbacks
// are not run here: until the last statement has been answered, the outcome is open.
// failed is the index of the statement that was refused, below zero when it is no single
// one's affair, or not known whose.
func execute(ctx context.Context, db *pgxpool.Pool, queries []*pgx.QueuedQuery) (results []result, failed int, err error) {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return nil, -1, fmt.Errorf("%w: %w", errNotBegun, err)
	}
	defer conn.Release()
	batch := &pgx.Batch{}
	for _, q := range queries {
		batch.Queue(q.SQL, q.Arguments...)
	}
	answers := conn.SendBatch(ctx, batch)
	results, failed = make([]result, len(queries)), -1
	for i, q := range queries {
		if results[i], err = receive(answers, q.Fn != nil); err != nil {
			if _, refused := errors.AsType[*pgconn.PgError](err); refused {
				failed = i
			}
			break
		}
	}
	// Only now it is known: the commit, and deferred constraints, come with the Sync.
	if closeErr := answers.Close(); err == nil {
		err = closeErr
	}
	_, answered := errors.AsType[*pgconn.PgError](err)
	_, encoding := errors.AsType[pgx.ErrPreprocessingBatch](err)
	switch {
	case pgconn.SafeToRetry(err): // the connection was gone before the first byte
		err = fmt.Errorf("%w: %w", errNotBegun, err)
	case encoding, err != nil && !answered && !conn.Conn().IsClosed():
		// An argument has no form in PostgreSQL. Not every mode of pgx says so, but a
		// connection that is still good owes no answer. It must not look like a lost one.
		err = fmt.Errorf("%w: %w", errNotSent, err)
	}
	return results, failed, commitError(err)
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrCommitUnknown means: the transaction was sent, the answer was lost. It is
	// committed or not. Ask again (every operation here can be asked again)
	// or look; never report a failure on the strength of it.
	ErrCommitUnknown = errors.New("postgres: the answer to the commit was lost, the transaction may have happened")

	// ErrNested means: InTx was called inside InTx. The inner one would commit on its
	// own while its caller believes that it can still roll back.
	ErrNested = errors.New("postgres: a transaction inside a transaction")

	// ErrStale means: the row changed between our read and our write. Read again.
	ErrStale = errors.New("postgres: the row changed since it was read")
)

// SQLSTATE codes that mean: this transaction lost a race, run it again.
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
)

// Violates tells whether err is PostgreSQL's refusal by the named constraint.
func Violates(err error, constraint string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.ConstraintName == constraint
}

// IsIndefinite tells whether err leaves open what happened. An error with a
// SQLSTATE is PostgreSQL's own word that the transaction was rolled back, with
// two exceptions: 57P0x (the server was stopped while we waited) and 08xxx
// (the connection broke), where the commit may have come first.
func IsIndefinite(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, ErrCommitUnknown) {
		return true
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code[:2] == "08" || pgErr.Code[:3] == "57P"
	}
	return true
}

// IsUnavailable tells whether err means that the database could not be asked:
// no connection, or a server that is starting or stopping.
func IsUnavailable(err error) bool {
	var connectErr *pgconn.ConnectError
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &connectErr), pgconn.SafeToRetry(err):
		return true
	case errors.As(err, &pgErr):
		return pgErr.Code[:2] == "08" || pgErr.Code[:3] == "57P" || pgErr.Code[:2] == "53"
	}
	var netErr net.Error
	return errors.As(err, &netErr) || errors.Is(err, io.ErrUnexpectedEOF)
}

func lostRace(err error) bool {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return false
	}
	return pgErr.Code == serializationFailure || pgErr.Code == deadlockDetected
}

// maxTries bounds how often a transaction that lost a race is run again. Each
// loss means that somebody else won, so the system as a whole moves on; the
// bound keeps a hot row from holding one request for ever.
const maxTries = 10

// RetryStale runs fn again while it returns ErrStale, at most ten times.
//
// Pattern: atomic-read-then-write (the optimistic form: read, decide, write on
// condition that nothing changed, else start over)
func RetryStale(ctx context.Context, fn func() error) error {
	var err error
	for range maxTries {
		if err = fn(); !errors.Is(err, ErrStale) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("gave up after %d tries: %w", maxTries, err)
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"syscall"

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

	// ErrStale means: what we have read is no longer true, and a constraint or a condition
	// refused our write for that. Read again.
	ErrStale = errors.New("postgres: what was read is no longer true")
)

var (
	// errNotBegun means: there was no connection, or no transaction on it. Nothing was sent.
	errNotBegun = errors.New("postgres: the transaction did not begin")

	// errNotSent means: a statement could not be put into words. That is a bug of its writer.
	errNotSent = errors.New("postgres: not sent")
)

const (
	// SQLSTATE codes that mean: this transaction lost a race, run it again.
	serializationFailure = "40001"
	deadlockDetected     = "40P01"

	// Somebody else holds the row for longer than we are willing to wait.
	lockNotAvailable = "55P03"

	// The statement was ended because it took too long.
	queryCanceled = "57014"

	// A write on a server that takes none.
	readOnly = "25006"

	// Among others: the plan of a prepared statement, after its table was altered.
	notSupported = "0A000"
)

// Violates tells whether err is PostgreSQL's refusal by the named constraint.
func Violates(err error, constraint string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.ConstraintName == constraint
}

// IsIndefinite tells whether err leaves open what happened. An error with a
// SQLSTATE is PostgreSQL's own word that the transaction was rolled back, with
// three exceptions, where the commit may have come first: 57P0x (the server was
// stopped while we waited), 08xxx (the connection broke), and a PANIC (the server
// failed to write its log, and the restart decides).
func IsIndefinite(err error) bool {
	if err == nil || neverSent(err) || errors.Is(err, ErrStale) || errors.Is(err, ErrCallback) {
		return false
	}
	if errors.Is(err, ErrCommitUnknown) {
		return true
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return inClass(pgErr, "08", "57P") || pgErr.SeverityUnlocalized == "PANIC"
	}
	return true
}

// neverSent tells whether err came before the first statement was on its way.
func neverSent(err error) bool {
	return errors.Is(err, errNotSent) || errors.Is(err, errNotBegun) || errors.Is(err, ErrClosed) || errors.Is(err, ErrTooManyWaiters)
}

// IsUnavailable tells whether err means that the database could not be asked:
// no connection, or a server that is starting, stopping, or takes no writes.
func IsUnavailable(err error) bool {
	if errors.Is(err, errNotBegun) || errors.Is(err, ErrClosed) || pgconn.SafeToRetry(err) || serverChanged(err) {
		return true
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return inClass(pgErr, "08", "57P", "53")
	}
	network, ok := errors.AsType[net.Error](err)
	_, file := network.(syscall.Errno) // it has the methods of a net.Error: a file that is not there is no outage
	return ok && !file || errors.Is(err, io.ErrUnexpectedEOF)
}

// IsOutage tells whether the database itself is away, or gives no connection: anything else
// that is asked of it now fails as well. Not so a time-out of ours, nor an error of a call
// to another service: these may be due to the one message or request.
func IsOutage(err error) bool {
	_, http := errors.AsType[*url.Error](err)
	return err != nil && !http && IsUnavailable(err) && (errors.Is(err, errNotBegun) || !errors.Is(err, context.DeadlineExceeded))
}

// IsBusy tells whether others were in the way for longer than we wait: a row stayed
// locked, a statement took too long, every try lost its race or found the row
// changed. Nothing was written, and the same may succeed later.
func IsBusy(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return errors.Is(err, ErrStale) || errors.Is(err, ErrTooManyWaiters) || lostRace(err) || LockTimedOut(err) || ok && pgErr.Code == queryCanceled
}

// LockTimedOut tells whether somebody else held a row for longer than we were
// willing to wait. The transaction was rolled back.
func LockTimedOut(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == lockNotAvailable
}

// mayRepeat tells whether the transaction was undone for a reason that may be gone when it
// is done again.
func mayRepeat(err error) bool { return lostRace(err) || serverChanged(err) }

// serverChanged tells whether the server is not what it was when the connection was made: it
// takes no writes any more (a failover made it a standby, or somebody a read-only one), or a
// table was altered under a prepared statement. Nothing was executed. Open drops the
// connections, so that the next try has a new one.
func serverChanged(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == readOnly || pgErr.Code == notSupported && pgErr.Routine == "RevalidateCachedQuery")
}

func lostRace(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == serializationFailure || pgErr.Code == deadlockDetected)
}

func inClass(err *pgconn.PgError, classes ...string) bool {
	return slices.ContainsFunc(classes, func(class string) bool { return strings.HasPrefix(err.Code, class) })
}

// maxTries bounds how often a transaction that lost a race is run again. Each
// loss means that somebody else won, so the system as a whole moves on; the
// bound keeps a hot row from holding one request forever.
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

package distributedtx

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/postgres/txmark"
)

// SQLSTATE codes of prepared transactions.
const (
	undefinedObject = "42704" // there is no prepared transaction of this name
	duplicateObject = "42710" // there is one already
)

// ValidGID tells whether gid can be the name of a transaction.
func ValidGID(gid string) bool { return validGID.MatchString(gid) }

// ErrGID means: a name that cannot be one of ours. PREPARE TRANSACTION takes no
// parameters, so names are checked before they become part of a statement.
var ErrGID = errors.New("distributedtx: not a valid transaction name")

var validGID = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,150}$`)

// Prepare runs work in a transaction and prepares it under gid. When it returns
// nil, the work is as good as done: it survives a crash of this process and of
// the database, keeps its locks, and waits for Commit or Rollback. Preparing a
// gid that is prepared already does nothing.
//
// gid is unique in the whole server, not only in the database; put the
// participant's name into it.
//
// Pattern: distributed-transaction (the vote)
// Pattern: io-inside-transaction (made impossible: the mark)
func Prepare(ctx context.Context, db *pgxpool.Pool, gid string, work func(ctx context.Context, tx pgx.Tx) error) error {
	if txmark.InTransaction(ctx) {
		return postgres.ErrNested
	}
	if !validGID.MatchString(gid) {
		return fmt.Errorf("%w: %q", ErrGID, gid)
	}
	conn, err := db.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Release() // a connection with an open transaction is closed, which rolls back
	// Asked first: the work would wait for the locks of its own prepared twin.
	var prepared bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_prepared_xacts WHERE gid = $1)`, gid).Scan(&prepared); err != nil || prepared {
		return err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := work(txmark.Mark(ctx), tx); err != nil {
		return errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
	}
	_, err = tx.Exec(context.WithoutCancel(ctx), `PREPARE TRANSACTION '`+gid+`'`)
	if code(err) == duplicateObject {
		return nil
	}
	return err
}

// Commit carries out a prepared transaction. One that is not there any more was
// carried out before: a participant that has voted yes, and was told to commit,
// cannot have lost it in any other way, unless a person has ended it.
func Commit(ctx context.Context, db *pgxpool.Pool, gid string) error {
	return end(ctx, db, `COMMIT PREPARED '`, gid)
}

// Rollback undoes a prepared transaction. One that is not there was undone
// before, or never prepared.
func Rollback(ctx context.Context, db *pgxpool.Pool, gid string) error {
	return end(ctx, db, `ROLLBACK PREPARED '`, gid)
}

func end(ctx context.Context, db *pgxpool.Pool, statement, gid string) error {
	if !validGID.MatchString(gid) {
		return fmt.Errorf("%w: %q", ErrGID, gid)
	}
	_, err := db.Exec(ctx, statement+gid+`'`)
	if code(err) == undefinedObject {
		return nil
	}
	return err
}

// Prepared is a transaction that waits for its decision.
type Prepared struct {
	GID string
	Age time.Duration
}

// InDoubt lists this database's prepared transactions whose names begin with
// prefix, oldest first.
func InDoubt(ctx context.Context, db *pgxpool.Pool, prefix string) ([]Prepared, error) {
	rows, _ := db.Query(ctx, `
		SELECT gid, now() - prepared
		  FROM pg_prepared_xacts
		 WHERE database = current_database()
		   AND starts_with(gid, $1)
		 ORDER BY prepared`,
		prefix)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Prepared])
}

func code(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

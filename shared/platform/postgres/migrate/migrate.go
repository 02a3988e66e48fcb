// Package migrate applies a service's migrations. It is apart from postgres, so that
// a program with migrations of its own need not take this one's library along.
package migrate

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"example.com/failwell/shared/platform/wait"
)

// lockID is any number that no other lock of the database has.
const lockID = 0x6d696772617465

// lockPause is how long a replica waits between two looks whether another one has finished.
const lockPause = 50 * time.Millisecond

// Up applies the migrations in fsys ("migrations/*.sql") that the database
// at url has not seen. Replicas that start together take turns behind a lock of the
// database; without it two of them would create the same table at once. It is a lock of
// the session, so a pooler that gives each transaction another session must not be in
// between.
func Up(ctx context.Context, url string, fsys fs.FS) error {
	dir, err := fs.Sub(fsys, "migrations")
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("migrate: DATABASE_URL: %w", err)
	}
	// Waiting for another replica's migration is not a runaway statement.
	cfg.RuntimeParams["statement_timeout"] = "0"
	cfg.RuntimeParams["lock_timeout"] = "0"
	db := stdlib.OpenDB(*cfg)
	defer db.Close() //nolint:errcheck // closing a pool that is no longer used has no failure worth reporting

	// Not goose's own lock: the others would look for it every five seconds. And not a wait
	// inside the database: CREATE INDEX CONCURRENTLY waits for every statement that is under
	// way, also for one that waits for this lock, and neither would end.
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer conn.Close() //nolint:errcheck // and with db, which gives the lock back
	for ours := false; !ours; {
		if err := conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, lockID).Scan(&ours); err != nil {
			return fmt.Errorf("migrate: lock: %w", err)
		}
		if !ours && !wait.For(ctx, lockPause) {
			return fmt.Errorf("migrate: lock: %w", ctx.Err())
		}
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, dir)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

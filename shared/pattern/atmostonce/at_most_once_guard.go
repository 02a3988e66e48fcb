package atmostonce

import (
	"context"
	_ "embed"

	"github.com/jackc/pgx/v5"
)

// Schema creates the table of this package. Copy it into a migration.
//
//go:embed schema.sql
var Schema string

// Enter tells whether the caller is the first, and therefore the only one, to
// pass. Commit tx before doing what the guard is for. When that commit fails in
// any way, a lost answer included, do not do it.
//
// Pattern: at-most-once-guard
func Enter(ctx context.Context, tx pgx.Tx, name string) (first bool, err error) {
	tag, err := tx.Exec(ctx, `
		INSERT INTO guards (name)
		VALUES ($1)
		    ON CONFLICT (name) DO NOTHING`,
		name)
	return tag.RowsAffected() == 1, err
}

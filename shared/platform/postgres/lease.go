package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// LeasesSchema creates the table of TryLease. Copy it into a migration.
const LeasesSchema = `
CREATE TABLE leases (
    name       text        PRIMARY KEY,
    holder     text        NOT NULL,
    expires_at timestamptz NOT NULL
);
`

// TryLease takes or extends a lease on a named job, and tells whether it is the
// holder's. It keeps replicas from doing the same work side by side. It does not
// keep them from it for certain: a holder that is paused for longer than its
// lease does not notice. So the work itself must be idempotent.
//
// A lease that ends later than any honest one (the database's clock was ahead once, or a
// row was edited) belongs to no process: the job would stand still until then.
func TryLease(ctx context.Context, db *pgxpool.Pool, name, holder string, d time.Duration) (bool, error) {
	tag, err := db.Exec(ctx, `
		INSERT INTO leases (name, holder, expires_at)
		VALUES ($1, $2, now() + $3::interval)
		    ON CONFLICT (name) DO UPDATE
		   SET holder     = EXCLUDED.holder,
		       expires_at = EXCLUDED.expires_at
		 WHERE leases.holder = EXCLUDED.holder
		    OR leases.expires_at NOT BETWEEN now() AND now() + 10 * $3::interval`,
		name, holder, d)
	return tag.RowsAffected() == 1, err
}

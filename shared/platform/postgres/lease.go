package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
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

// ObserveLeases shows who does which job, and for how long no process has done it: one that
// hangs keeps its job from the others only until its lease ends, but a job whose lease
// no process takes stands still without an error.
func ObserveLeases(registry prometheus.Registerer, db *pgxpool.Pool, holder string) {
	Observe(registry, Gauges{
		DB: db, Args: []any{holder}, Labels: []string{"lease"},
		SQL: `
			SELECT name,
			       (holder = $1 AND expires_at > now())::int,
			       GREATEST(0, extract(epoch FROM now() - expires_at))::float8
			  FROM leases
			 LIMIT 100`, // a row for each job, some ten
		Gauges: []Gauge{
			{"failwell_lease_held", "1 while this process holds the lease of a job that one at a time should do."},
			{"failwell_lease_expired_seconds", "How long no process has held the lease of a job; 0 while one does."},
		},
	})
}

package outbox

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/postgres"
)

// countedAtMost bounds what a look at the outbox costs. Beyond it the oldest is the oldest
// of those that were counted: thousands that wait are an alarm anyway.
const countedAtMost = 10_000

// observe shows what is committed and not published yet, by any writer. The
// relay's own counters do not tell: while it hangs, none of them moves.
func observe(registry prometheus.Registerer, db *pgxpool.Pool) {
	postgres.Observe(registry, postgres.Gauges{
		DB: db, Args: []any{countedAtMost},
		SQL: `
			SELECT count(*), COALESCE(extract(epoch FROM now() - min(created_at)), 0)::float8
			  FROM (SELECT created_at FROM outbox LIMIT $1) AS waiting`,
		Gauges: []postgres.Gauge{
			{Name: "failwell_outbox_messages", Help: "Messages that are committed and not published yet, counted up to 10000."},
			{Name: "failwell_outbox_oldest_seconds", Help: "Age of the oldest message that is committed and not published yet."},
		},
	})
}

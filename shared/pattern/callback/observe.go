package callback

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/postgres"
)

// countedAtMost bounds what a look at the table costs.
const countedAtMost = 10_000

// observe shows what waits to be sent, and what was given up on and waits for a person. Both
// have an index of their own: what was delivered, a week of it, is not looked at.
func observe(registry prometheus.Registerer, db *pgxpool.Pool) {
	postgres.Observe(registry, postgres.Gauges{
		DB: db, Args: []any{countedAtMost},
		SQL: `
			SELECT (SELECT count(*) FROM (SELECT FROM callbacks WHERE state = 'pending' LIMIT $1) AS waiting),
			       (SELECT count(*) FROM (SELECT FROM callbacks WHERE state = 'parked'  LIMIT $1) AS parked)`,
		Gauges: []postgres.Gauge{
			{Name: "failwell_callback_backlog", Help: "Callbacks that are not delivered and not parked, counted up to 10000."},
			{Name: "failwell_callbacks_parked", Help: "Callbacks that were given up on and wait for a person, counted up to 10000."},
		},
	})
}

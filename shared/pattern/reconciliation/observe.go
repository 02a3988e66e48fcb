package reconciliation

import "example.com/failwell/shared/platform/postgres"

// countedAtMost bounds what a look at a run's differences costs.
const countedAtMost = 10_000

// observe shows what the last run has found. It is read from the table: the process that
// made the run may be gone, and another replica, which made the one before, would go on
// showing that one's.
func (r *Reconciler) observe() {
	sources := make([]string, len(r.Sources))
	for i, source := range r.Sources {
		sources[i] = source.Name
	}
	postgres.Observe(r.Metrics, postgres.Gauges{
		DB: r.DB, Args: []any{sources, []Verdict{Pending, Resolved, Unresolvable}, countedAtMost}, Labels: []string{"source", "verdict"},
		SQL: `
			SELECT source, verdict, count(d.found)
			  FROM unnest($1::text[]) AS source
			 CROSS JOIN unnest($2::text[]) AS verdict
			  LEFT JOIN (SELECT source, verdict, true AS found
			               FROM reconciliation_differences
			              WHERE run_id = (SELECT id
			                                FROM reconciliations
			                               WHERE status = 'finished'
			                               ORDER BY requested_at DESC
			                               LIMIT 1)
			              LIMIT $3) AS d USING (source, verdict)
			 GROUP BY source, verdict`,
		Gauges: []postgres.Gauge{{Name: "failwell_reconciliation_differences", Help: "Differences of the last reconciliation, by source and verdict, counted up to 10000."}},
	})
	postgres.Observe(r.Metrics, postgres.Gauges{
		DB: r.DB, Args: []any{sources}, Labels: []string{"source"},
		SQL: `
			SELECT source, (source = ANY(last.not_compared))::int::float8
			  FROM unnest($1::text[]) AS source
			 CROSS JOIN (SELECT not_compared
			               FROM reconciliations
			              WHERE status = 'finished'
			              ORDER BY requested_at DESC
			              LIMIT 1) AS last`,
		Gauges: []postgres.Gauge{{Name: "failwell_reconciliation_not_compared", Help: "1 when the source made no statement to the last reconciliation."}},
	})
}

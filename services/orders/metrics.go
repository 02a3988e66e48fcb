package main

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/failwell/shared/platform/postgres"
)

type metrics struct {
	finished            *prometheus.CounterVec
	commandsResent      prometheus.Counter
	compensationRefused prometheus.Counter
	unfinished          prometheus.Gauge
	shed                prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) metrics {
	auto := promauto.With(registry)
	counter := func(name, help string) prometheus.Counter {
		return auto.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	finished := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "failwell_orders_finished_total", Help: "Orders that came to their end, by status.",
	}, []string{"status"})
	finished.WithLabelValues(statusConfirmed) // at zero, or the first one is no increase
	finished.WithLabelValues(statusCancelled)
	return metrics{
		finished:            finished,
		commandsResent:      counter("failwell_saga_commands_resent_total", "Commands that were sent again because no reply came in time."),
		compensationRefused: counter("failwell_saga_compensation_refused_total", "Refusals of a compensation. An order that needs a person is counted again at each resend."),
		unfinished: auto.NewGauge(prometheus.GaugeOpts{
			Name: "failwell_orders_unfinished", Help: "Orders under way, up to MAX_UNFINISHED_ORDERS.",
		}),
		shed: counter("failwell_orders_shed_total", "Orders that were turned away because too many are unfinished."),
	}
}

// observeOrders shows how long the oldest order has been under way: one that stands still
// moves no counter. Ids are in the order of time, and the index has only what is under way.
func observeOrders(registry prometheus.Registerer, db *pgxpool.Pool) {
	postgres.Observe(registry, postgres.Gauges{
		DB: db,
		SQL: `
			SELECT COALESCE(extract(epoch FROM now() - (
			       SELECT orders.created_at
			         FROM sagas
			         JOIN orders USING (id)
			        WHERE sagas.phase IN ('forward', 'compensating')
			        ORDER BY sagas.id
			        LIMIT 1)), 0)::float8`,
		Gauges: []postgres.Gauge{{Name: "failwell_orders_oldest_unfinished_seconds", Help: "Age of the oldest order that is neither confirmed nor cancelled."}},
	})
}

package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
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
	return metrics{
		finished: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "failwell_orders_finished_total", Help: "Orders that came to their end, by status.",
		}, []string{"status"}),
		commandsResent:      counter("failwell_saga_commands_resent_total", "Commands that were sent again because no reply came in time."),
		compensationRefused: counter("failwell_saga_compensation_refused_total", "Compensations that a participant refused. Each one needs a person."),
		unfinished: auto.NewGauge(prometheus.GaugeOpts{
			Name: "failwell_orders_unfinished", Help: "Orders under way, up to MAX_UNFINISHED_ORDERS.",
		}),
		shed: counter("failwell_orders_shed_total", "Orders that were turned away because too many are unfinished."),
	}
}

package main

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	finished            *prometheus.CounterVec
	askedAgain          prometheus.Counter
	compensationRefused prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) metrics {
	m := metrics{
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "failwell_orders_finished_total", Help: "Orders that came to their end, by status.",
		}, []string{"status"}),
		askedAgain: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "failwell_saga_asked_again_total", Help: "Steps that were asked again because no answer came in time.",
		}),
		compensationRefused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "failwell_saga_compensation_refused_total", Help: "Compensations that a participant refused. Each one needs a person.",
		}),
	}
	registry.MustRegister(m.finished, m.askedAgain, m.compensationRefused)
	return m
}

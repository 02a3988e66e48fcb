package main

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	finished            *prometheus.CounterVec
	commandsResent      prometheus.Counter
	compensationRefused prometheus.Counter
	unfinished          prometheus.Gauge
	shed                prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) metrics {
	m := metrics{
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "failwell_orders_finished_total", Help: "Orders that came to their end, by status.",
		}, []string{"status"}),
		commandsResent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "failwell_saga_commands_resent_total", Help: "Commands that were sent again because no reply came in time.",
		}),
		compensationRefused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "failwell_saga_compensation_refused_total", Help: "Compensations that a participant refused. Each one needs a person.",
		}),
		unfinished: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "failwell_orders_unfinished", Help: "Orders under way, up to MAX_UNFINISHED_ORDERS.",
		}),
		shed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "failwell_orders_shed_total", Help: "Orders that were turned away because too many are unfinished.",
		}),
	}
	registry.MustRegister(m.finished, m.commandsResent, m.compensationRefused, m.unfinished, m.shed)
	return m
}

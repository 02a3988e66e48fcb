package postgres

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type groupMetrics struct {
	commits  *prometheus.CounterVec
	refusals *prometheus.CounterVec
	size     prometheus.Histogram
	alone    prometheus.Counter
	waiting  prometheus.Gauge
}

func newGroupMetrics(registry prometheus.Registerer) groupMetrics {
	m := groupMetrics{
		commits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "failwell_group_commits_total", Help: "Common transactions by outcome: committed, unknown (the answer was lost), unavailable (no connection)."}, []string{"outcome"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "failwell_group_refusals_total", Help: "Common transactions that the database refused because of one member, by reason: lock (a row was locked), other."}, []string{"reason"}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "failwell_group_size", Help: "Batches in a common transaction.", Buckets: []float64{1, 2, 4, 8, 16, 32, maxGroup}}),
		alone: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "failwell_group_alone_total", Help: "Transactions that wrote one batch alone, because the common one was refused."}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "failwell_group_waiting", Help: "Batches that wait for a place to be written alone, or among those that wait for a locked row."}),
	}
	if registry != nil {
		registry.MustRegister(m.commits, m.refusals, m.size, m.alone, m.waiting)
	}
	return m
}

func (m groupMetrics) committed(members int, err error) {
	outcome := "committed"
	switch {
	case errors.Is(err, ErrCommitUnknown):
		outcome = "unknown"
	case err != nil:
		outcome = "unavailable"
	}
	m.commits.WithLabelValues(outcome).Inc()
	m.size.Observe(float64(members))
}

func (m groupMetrics) refused(locked bool) {
	reason := "other"
	if locked {
		reason = "lock"
	}
	m.refusals.WithLabelValues(reason).Inc()
}

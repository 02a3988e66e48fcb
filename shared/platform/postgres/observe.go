package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Gauge is the name of a metric, and what it says.
type Gauge struct{ Name, Help string }

// Gauges are metrics that one query reads at each scrape: what a table holds is the same
// for all replicas, and a process that counted by itself would not know it after a restart.
type Gauges struct {
	DB *pgxpool.Pool

	// SQL selects rows of label values, one column for each of Labels, and then numbers, one
	// for each of Gauges. It must cost the same however large its tables are: an index leads
	// it to what it counts, and a LIMIT ends the counting.
	SQL    string
	Args   []any
	Labels []string
	Gauges []Gauge
}

// observeTimeout keeps a database that hangs from taking all of the scrape's time, and with
// it the metrics of the whole process. Without an answer there is no value, and that the
// database does not answer is a metric of its own (web.Health).
const observeTimeout = time.Second

// Observe registers g. With no registry it does nothing.
func Observe(registry prometheus.Registerer, g Gauges) {
	if registry != nil {
		registry.MustRegister(g)
	}
}

// Describe and Collect make Gauges a prometheus.Collector.
func (g Gauges) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range g.descs() {
		to <- desc
	}
}

func (g Gauges) descs() []*prometheus.Desc {
	descs := make([]*prometheus.Desc, len(g.Gauges))
	for i, gauge := range g.Gauges {
		descs[i] = prometheus.NewDesc(gauge.Name, gauge.Help, g.Labels, nil)
	}
	return descs
}

// Collect asks the database.
func (g Gauges) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), observeTimeout)
	defer cancel()
	labels, values := make([]string, len(g.Labels)), make([]float64, len(g.Gauges))
	var columns []any
	for i := range labels {
		columns = append(columns, &labels[i])
	}
	for i := range values {
		columns = append(columns, &values[i])
	}
	var read []prometheus.Metric
	rows, _ := g.DB.Query(ctx, g.SQL, g.Args...)
	_, err := pgx.ForEachRow(rows, columns, func() error {
		for i, desc := range g.descs() {
			read = append(read, prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, values[i], labels...))
		}
		return nil
	})
	if err != nil {
		return // half of the rows would be a wrong number
	}
	for _, metric := range read {
		to <- metric
	}
}

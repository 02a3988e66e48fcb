package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// Check is one thing that a service works with.
type Check struct {
	Name  string
	Probe func(ctx context.Context) error

	// Background is told, and does not make the service unready: orders are accepted while
	// the broker is away, because the outbox keeps the messages. An orchestrator that took
	// the service away for it would make the broker's outage everybody's.
	Background bool
}

// gauge is the check as a metric.
func (c Check) gauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "failwell_dependency_up", Help: "1 while a check of /readyz passes, 0 while it fails.",
		ConstLabels: prometheus.Labels{"dependency": c.Name},
	}, func() float64 {
		ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
		defer cancel()
		if c.Probe(ctx) != nil {
			return 0
		}
		return 1
	})
}

// checkTimeout bounds each check: "not ready" is an answer, a hanging one is
// not. Each has its own, or a slow database would make the broker look broken too.
const checkTimeout = time.Second

type readiness struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks"`
}

// Health mounts /healthz, which says that the process lives and must not be
// restarted for somebody else's outage, and /readyz, which says whether it can do what
// its callers ask for. Once ctx has ended, the process is stopping, and not ready.
// Both are open to anybody: why a check fails is told to the log alone, because errors
// name hosts and users.
//
// Each check is a metric too, made at the scrape: an alarm cannot read /readyz.
func Health(ctx context.Context, e *echo.Echo, log *slog.Logger, metrics prometheus.Registerer, checks ...Check) {
	for _, check := range checks {
		metrics.MustRegister(check.gauge())
	}
	e.GET("/healthz", func(c echo.Context) error {
		return c.JSON(http.StatusOK, map[string]string{"status": "ok"})
	})
	toLog := make([]rate.Sometimes, len(checks)) // once a second each: anybody can ask as often as they like
	for i := range toLog {
		toLog[i].Interval = time.Second
	}
	e.GET("/readyz", func(c echo.Context) error {
		out, status := readiness{Status: "ready", Checks: map[string]string{}}, http.StatusOK
		for i, check := range checks {
			out.Checks[check.Name] = "ok"
			probing, cancel := context.WithTimeout(c.Request().Context(), checkTimeout)
			err := check.Probe(probing)
			cancel()
			if err == nil {
				continue
			}
			out.Checks[check.Name] = "failing"
			toLog[i].Do(func() { log.Warn("a check fails", "check", check.Name, "error", err) })
			if !check.Background {
				out.Status, status = "not ready", http.StatusServiceUnavailable
			}
		}
		if ctx.Err() != nil {
			out.Status, status = "stopping", http.StatusServiceUnavailable
		}
		return c.JSON(status, out)
	})
}

// Database checks that the service can write. A server that only reads (a standby, a
// disk that filled up and an administrator who drew the line) answers a ping, and no request.
func Database(db *pgxpool.Pool) Check {
	return Check{Name: "database", Probe: func(ctx context.Context) error {
		var readOnly bool
		err := db.QueryRow(ctx, `SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean`).Scan(&readOnly)
		if err == nil && readOnly {
			err = errors.New("the database is read-only")
		}
		return err
	}}
}

package web

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// Check is one thing that a service needs in order to be useful.
type Check struct {
	Name  string
	Probe func(ctx context.Context) error
}

// checkTimeout bounds each check: "not ready" is an answer, a hanging one is
// not. Each has its own, or a slow database would make the broker look broken too.
const checkTimeout = time.Second

type readiness struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks"`
}

// Health mounts /healthz, which says that the process lives and must not be
// restarted for somebody else's outage, and /readyz, which says what it misses.
func Health(e *echo.Echo, checks ...Check) {
	e.GET("/healthz", func(c echo.Context) error {
		return c.JSON(http.StatusOK, map[string]string{"status": "ok"})
	})
	e.GET("/readyz", func(c echo.Context) error {
		out, status := readiness{Status: "ready", Checks: map[string]string{}}, http.StatusOK
		for _, check := range checks {
			out.Checks[check.Name] = "ok"
			ctx, cancel := context.WithTimeout(c.Request().Context(), checkTimeout)
			err := check.Probe(ctx)
			cancel()
			if err != nil {
				out.Checks[check.Name] = err.Error()
				out.Status, status = "not ready", http.StatusServiceUnavailable
			}
		}
		return c.JSON(status, out)
	})
}

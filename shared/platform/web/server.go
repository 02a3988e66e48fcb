// Package web is the HTTP edge: an echo server with sane limits, problem+json
// for every error, strict JSON, authentication, health, and a client that
// refuses to be used inside a database transaction.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" // on the default mux, which only the lab serves
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/telemetry"
)

// Limits of the server. A client that is slower than this is cut off: each open
// request holds memory, and an attacker opens many.
const (
	maxBody           = 64 << 10
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute

	// drainTimeout is how long requests in work may take after the stop signal.
	// With what follows it stays below the ten seconds after which an
	// orchestrator loses its patience and kills.
	drainTimeout = 7 * time.Second
)

// Options configures a server.
type Options struct {
	Logger  *slog.Logger
	Metrics *prometheus.Registry

	// LabFaults mounts what belongs into a lab: the control of the fault points
	// under /lab/faults, and Go's profiles under /debug/pprof/.
	LabFaults bool
}

// New makes a server with /metrics and everything that every route needs.
func New(opts Options) *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Server.ReadHeaderTimeout = readHeaderTimeout
	e.Server.ReadTimeout = readTimeout
	e.Server.WriteTimeout = writeTimeout
	e.Server.IdleTimeout = idleTimeout
	e.StdLogger = slog.NewLogLogger(opts.Logger.Handler(), slog.LevelWarn) // what net/http itself has to say
	e.HTTPErrorHandler = handleErrors(opts.Logger)

	e.Use(middleware.RequestID())
	e.Use(traceRequests(telemetry.Tracer()))
	e.Use(observe(opts.Metrics))
	e.Use(middleware.RecoverWithConfig(middleware.RecoverConfig{
		LogErrorFunc: func(c echo.Context, err error, stack []byte) error {
			opts.Logger.ErrorContext(c.Request().Context(), "panic in a handler", "path", c.Path(), "error", err, "stack", string(stack))
			return errors.New("panic")
		},
	}))
	e.Use(limitBody)

	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(opts.Metrics, promhttp.HandlerOpts{})))
	if opts.LabFaults {
		e.Any("/lab/faults", echo.WrapHandler(fault.Handler()))
		e.GET("/debug/pprof/*", echo.WrapHandler(http.DefaultServeMux))
	}
	return e
}

// limitBody refuses a body by its announced length at once, and an unannounced
// one when it grows too long; the rest of it is never read.
func limitBody(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if r.ContentLength > maxBody {
			return readProblem(&http.MaxBytesError{Limit: maxBody})
		}
		// net/http's own writer, not echo's wrapper: only it understands that the
		// connection must be closed, instead of reading the rest to reuse it.
		r.Body = http.MaxBytesReader(c.Response().Writer, r.Body, maxBody)
		return next(c)
	}
}

// traceRequests goes on with the caller's trace, or begins one, so that it
// reaches logs, rows and messages.
func traceRequests(tracer trace.Tracer) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			ctx := telemetry.WithTraceparent(r.Context(), r.Header.Get("traceparent"))
			ctx, span := tracer.Start(ctx, "HTTP "+c.Path(), trace.WithSpanKind(trace.SpanKindServer))
			defer span.End()
			c.SetRequest(r.WithContext(ctx))
			return next(c)
		}
	}
}

// observe counts and times requests by route, not by path: paths carry ids, and
// a metric for each id would grow without end.
func observe(registry *prometheus.Registry) echo.MiddlewareFunc {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "failwell_http_request_seconds",
		Help:    "Time to answer a request.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"method", "route", "status"})
	registry.MustRegister(seconds)
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			start := time.Now()
			err := next(c)
			if err != nil {
				c.Error(err) // writes the answer now, so that its status is known here
			}
			route := c.Path()
			if route == "" {
				route = "none"
			}
			status := strconv.Itoa(c.Response().Status)
			seconds.WithLabelValues(methodLabel(c.Request().Method), route, status).Observe(time.Since(start).Seconds())
			return nil
		}
	}
}

// methodLabel keeps methods that a client made up out of the metrics: any token
// is a valid method, and each would be a series of its own.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// Run serves on addr until ctx ends, then refuses new connections, lets the
// requests in work finish, and returns.
func Run(ctx context.Context, e *echo.Echo, addr string, log *slog.Logger) error {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("HTTP_ADDR: %w", err)
	}
	e.Listener = listener
	e.Server.BaseContext = nil // requests in work outlive ctx on purpose
	failed := make(chan error, 1)
	go func() { failed <- e.Start("") }()
	log.Info("listening", "address", listener.Addr().String())

	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := e.Shutdown(drain); err != nil {
		return fmt.Errorf("requests were cut off: %w", err)
	}
	return nil
}

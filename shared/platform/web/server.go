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
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/net/netutil"

	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/tracing"
	"example.com/failwell/shared/platform/wait"
)

// Limits of the server. A client that sends more, or is slower, is cut off: each open
// request holds memory, and an attacker opens many.
const (
	maxBody           = 64 << 10
	maxHeaders        = 16 << 10
	maxConnections    = 1024
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute

	// drainTimeout is how long requests in progress may take after the stop signal, the
	// stop delay included. With what follows it stays below the ten seconds after
	// which an orchestrator kills.
	drainTimeout = 7 * time.Second
)

// Options configures a server.
type Options struct {
	Logger  *slog.Logger
	Metrics *prometheus.Registry

	// ServiceKey is what our own services show. A request that shows it continues its
	// caller's trace, and no other request does. "": none does.
	ServiceKey string

	// LabFaults mounts what belongs into a lab: the control of the fault points
	// under /lab/faults, and Go's profiles under /debug/pprof/.
	LabFaults bool
}

// New makes a server with /metrics and everything that every route needs.
func New(opts Options) *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Server.Handler = headAsGet(limitBody(traced(e, opts.ServiceKey)))
	e.Server.MaxHeaderBytes = maxHeaders - 4<<10 // net/http adds as much for its buffer
	e.Server.ReadHeaderTimeout = readHeaderTimeout
	e.Server.ReadTimeout = readTimeout
	e.Server.WriteTimeout = writeTimeout
	e.Server.IdleTimeout = idleTimeout
	e.Server.ErrorLog = slog.NewLogLogger(opts.Logger.Handler(), slog.LevelWarn)
	e.HTTPErrorHandler = handleErrors(opts.Logger)

	e.Use(commonHeaders)
	e.Use(middleware.RequestID())
	e.Use(nameSpan)
	e.Use(observe(opts.Metrics))
	e.Use(middleware.RecoverWithConfig(middleware.RecoverConfig{
		LogErrorFunc: func(c echo.Context, err error, stack []byte) error {
			opts.Logger.ErrorContext(c.Request().Context(), "panic in a handler", "path", c.Path(), "error", err, "stack", string(stack))
			return errors.New("panic")
		},
	}))
	e.Use(checkURL)
	e.Use(refuseLargeBody)

	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(opts.Metrics, promhttp.HandlerOpts{})))
	if opts.LabFaults {
		e.Any("/lab/faults", echo.WrapHandler(fault.Handler()))
		e.GET("/debug/pprof/*", echo.WrapHandler(http.DefaultServeMux))
	}
	return e
}

// headAsGet answers HEAD as GET, for which alone there are routes. net/http leaves the
// body of the answer away.
func headAsGet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			asGet := *r // net/http looks at its own request to know that it was HEAD
			asGet.Method = http.MethodGet
			r = &asGet
		}
		next.ServeHTTP(w, r)
	})
}

// requestID is what we take for the id of a request. It stands in each answer and each
// line of the log; a client that sends another one is given one of ours.
var requestID = regexp.MustCompile(`^[!-~]{1,128}$`)

// commonHeaders is for every answer. A handler may let its answer be stored by setting
// Cache-Control anew.
func commonHeaders(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if asked := c.Request().Header; !requestID.MatchString(asked.Get(echo.HeaderXRequestID)) {
			asked.Del(echo.HeaderXRequestID)
		}
		c.Response().Header().Set(echo.HeaderXContentTypeOptions, "nosniff")
		c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
		return next(c)
	}
}

// checkURL refuses a path or query that PostgreSQL could not hold as text, and unescapes
// the parameters of the path: echo hands them over as they were sent where there is
// more than one way to send them, mer%3Aacme for mer:acme.
func checkURL(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		sent := c.Request().URL
		query, err := url.QueryUnescape(sent.RawQuery)
		if text := sent.Path + query; err != nil || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return NewProblem(http.StatusBadRequest, "malformed-url", "Malformed URL", "Path and query must be UTF-8 without a zero byte.")
		}
		if values := c.ParamValues(); sent.RawPath != "" {
			for i, value := range values {
				values[i], _ = url.PathUnescape(value) // it can be: net/http has unescaped the whole path
			}
			c.SetParamValues(values...)
		}
		return next(c)
	}
}

// limitBody cuts off a body that was not announced as too large and is; the rest of it is
// never read. It stands before all that wraps the answer: only net/http's own writer
// understands that the connection must be closed, instead of reading the rest to reuse it.
func limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// refuseLargeBody refuses a body by its announced length at once.
func refuseLargeBody(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Request().ContentLength > maxBody {
			return readProblem(&http.MaxBytesError{Limit: maxBody})
		}
		return next(c)
	}
}

// traced makes a span of each request that somebody waits for. A trace that one of our own
// services is in goes on. Anybody else's is linked and not joined: a stranger shall decide
// neither whose trace a request shows up in, nor whether it is kept.
func traced(next http.Handler, serviceKey string) http.Handler {
	stranger := func(r *http.Request) bool { return !hasKey(r, serviceKey) }
	wanted := func(r *http.Request) bool {
		return !strings.HasPrefix(r.URL.Path, "/lab/") && !slices.Contains(untraced, r.URL.Path)
	}
	return otelhttp.NewHandler(next, "", otelhttp.WithPropagators(tracing.W3C), otelhttp.WithPublicEndpointFn(stranger), otelhttp.WithFilter(wanted))
}

// untraced is what is asked for every few seconds, and not by anybody's client.
var untraced = []string{"/healthz", "/readyz", "/metrics"}

// nameSpan names the span of a request by its route, which was not known when it began.
func nameSpan(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		span := trace.SpanFromContext(c.Request().Context())
		span.SetName(methodLabel(c.Request().Method) + " " + c.Path())
		span.SetAttributes(semconv.HTTPRoute(c.Path()))
		return next(c)
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

// Run serves until ctx ends. Then /readyz says 503 (see Health), and new connections are
// taken for a moment more: a balancer that has not looked yet still sends them. After
// that they are refused, and Run returns when the requests in progress have finished.
func Run(ctx context.Context, e *echo.Echo, cfg config.Common, log *slog.Logger) error {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", cfg.HTTPAddr)
	if err != nil {
		return fmt.Errorf("HTTP_ADDR: %w", err)
	}
	failed := make(chan error, 1)
	go func() { failed <- e.Server.Serve(netutil.LimitListener(listener, maxConnections)) }()
	log.Info("listening", "address", listener.Addr().String())

	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	wait.For(drain, cfg.StopDelay)
	if err := e.Server.Shutdown(drain); err != nil {
		return fmt.Errorf("requests were cut off: %w", err)
	}
	return nil
}

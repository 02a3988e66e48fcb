package web_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/telemetry"
	"example.com/failwell/shared/platform/tracing"
	"example.com/failwell/shared/platform/web"
	"example.com/failwell/shared/testenv"
)

func TestServer_UnknownPathsAndMethodsAreProblems(t *testing.T) {
	t.Parallel()
	s := serve(t, transfers)
	wantProblem(t, s.send(t, http.MethodGet, "/nowhere", ""), http.StatusNotFound, "not-found", "")
	wrong := s.send(t, http.MethodDelete, "/transfers", "")
	wantProblem(t, wrong, http.StatusMethodNotAllowed, "method-not-allowed", "")
	if allow := wrong.header.Get("Allow"); !strings.Contains(allow, http.MethodPost) {
		t.Errorf("Allow: %q", allow)
	}
}

func TestServer_PanicCostsOneRequestAndTellsTheClientNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, func(e *echo.Echo) {
		e.GET("/panic", func(echo.Context) error { panic("secret thought") })
		e.GET("/nil", func(echo.Context) error { var m map[string]int; m["x"] = 1; return nil }) //nolint:staticcheck // a bug on purpose
	})
	for _, path := range []string{"/panic", "/nil", "/panic"} {
		a := s.send(t, http.MethodGet, path, "")
		wantProblem(t, a, http.StatusInternalServerError, "internal", "")
		if strings.Contains(a.body, "secret") || strings.Contains(a.body, ".go") || strings.Contains(a.body, "goroutine") {
			t.Errorf("the client reads our stack: %s", a.body)
		}
	}
	if log := s.log.String(); !strings.Contains(log, "secret thought") || !strings.Contains(log, "server_test.go") {
		t.Errorf("the log does not say where it panicked: %s", log)
	}
}

func TestServer_ErrorsAreTranslatedAndKeptFromTheClient(t *testing.T) {
	t.Parallel()
	shared := web.NewProblem(http.StatusConflict, "taken", "Taken", "Somebody works on it.").WithRetryAfter(1500 * time.Millisecond)
	fails := map[string]error{
		"/secret":  errors.New("password=hush refused"),
		"/unknown": fmt.Errorf("accept: %w", postgres.ErrCommitUnknown),
		"/timeout": fmt.Errorf("read: %w", context.DeadlineExceeded),
		"/taken":   fmt.Errorf("lock: %w", shared),
		"/locked":  fmt.Errorf("place: %w", &pgconn.PgError{Code: "55P03"}),
		"/slow":    fmt.Errorf("place: %w", &pgconn.PgError{Code: "57014"}),
		"/races":   fmt.Errorf("gave up: %w", &pgconn.PgError{Code: "40001"}),
		"/stale":   fmt.Errorf("gave up: %w", postgres.ErrStale),
		"/stopped": fmt.Errorf("place: %w", postgres.ErrClosed),
		"/teapot":  echo.NewHTTPError(http.StatusTeapot, "password=hush"),
		"/away":    echo.ErrServiceUnavailable,
	}
	s := serve(t, func(e *echo.Echo) {
		for path, err := range fails {
			e.GET(path, func(echo.Context) error { return err })
		}
	})
	for path, want := range map[string]struct {
		status      int
		slug, retry string
		state       string
	}{
		"/secret":  {status: 500, slug: "internal"},
		"/unknown": {status: 503, slug: "outcome-unknown", retry: "1", state: "unknown"},
		"/timeout": {status: 503, slug: "unavailable", retry: "1"},
		"/taken":   {status: 409, slug: "taken", retry: "2"},
		"/locked":  {status: 503, slug: "busy", retry: "1"},
		"/slow":    {status: 503, slug: "busy", retry: "1"},
		"/races":   {status: 503, slug: "busy", retry: "1"},
		"/stale":   {status: 503, slug: "busy", retry: "1"},
		"/stopped": {status: 503, slug: "unavailable", retry: "1"},
		"/teapot":  {status: 418, slug: "http-418"},
		"/away":    {status: 503, slug: "unavailable", retry: "1"},
	} {
		a := s.send(t, http.MethodGet, path, "")
		wantProblem(t, a, want.status, want.slug, "")
		if a.header.Get("Retry-After") != want.retry || a.problem.OperationState != want.state {
			t.Errorf("%s: Retry-After %q, operation state %q", path, a.header.Get("Retry-After"), a.problem.OperationState)
		}
		if strings.Contains(a.body, "hush") {
			t.Errorf("%s tells: %s", path, a.body)
		}
	}
	if shared.Instance != "" {
		t.Errorf("one request's id was written into a value that all requests share: %q", shared.Instance)
	}
	if !strings.Contains(s.log.String(), "hush refused") {
		t.Error("the cause of the 500 is in no log")
	}
}

func TestServer_RequestIDCannotBreakTheAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t, transfers)
	a := s.send(t, http.MethodGet, "/nowhere", "", "X-Request-Id", `a"b%c`)
	if a.problem.Instance != "urn:request:a%22b%25c" {
		t.Errorf("instance %q is no URI", a.problem.Instance)
	}
	for _, id := range []string{"a b", "Jos\xe9", strings.Repeat("x", 129), "\u00a0"} {
		a := s.send(t, http.MethodGet, "/nowhere", "", "X-Request-Id", id)
		if got := a.header.Get("X-Request-Id"); got == id || len(got) != 32 || strings.Contains(a.body, id) {
			t.Errorf("%.20q is taken and told: %.100s", id, a.body)
		}
	}
}

func TestServer_HugeHeadersAreRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, transfers)
	if a := s.send(t, http.MethodGet, "/healthz", "", "X-Long", strings.Repeat("x", 15<<10)); a.status != http.StatusOK {
		t.Errorf("15 kB of headers: %d", a.status)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Long", strings.Repeat("x", 21<<10)) // the first 4 kB on a connection that was used before are not counted
	response, err := testenv.Client.Do(request)
	if err != nil {
		return // cut off while it was still sending
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("21 kB of headers: %d", response.StatusCode)
	}
}

// Each open connection holds memory. One more than there may be waits for another to close.
func TestServer_ConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, none)
	address := strings.TrimPrefix(s.url, "http://")
	var open []net.Conn
	for range 1024 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Skipf("this machine does not give us that many: %v", err)
		}
		defer conn.Close() //nolint:errcheck // a test
		open = append(open, conn)
	}
	// A request on the newest of them is answered, so all of them have been accepted.
	ask := func(conn net.Conn) error {
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		if err == nil {
			_, err = conn.Read(make([]byte, 12))
		}
		return err
	}
	if err := ask(open[1023]); err != nil {
		t.Fatal(err)
	}
	more, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer more.Close() //nolint:errcheck // a test
	if err := ask(more); !isTimeout(err) {
		t.Errorf("one more is served: %v", err)
	}
	_ = open[0].Close()
	_ = more.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := more.Read(make([]byte, 12)); err != nil {
		t.Errorf("and not when another one has closed: %v", err)
	}
}

func TestServer_HeadIsGetWithoutTheBody(t *testing.T) {
	t.Parallel()
	s := serve(t, transfers)
	for _, path := range []string{"/healthz", "/nowhere"} {
		get, head := s.send(t, http.MethodGet, path, ""), s.send(t, http.MethodHead, path, "")
		if head.status != get.status || head.header.Get("Content-Type") != get.header.Get("Content-Type") || head.body != "" {
			t.Errorf("%s: GET %d, HEAD %d %q", path, get.status, head.status, head.body)
		}
	}
}

func TestServer_AnswersAreNeitherStoredNorGuessedAt(t *testing.T) {
	t.Parallel()
	s := serve(t, func(e *echo.Echo) {
		e.GET("/receipt", func(c echo.Context) error {
			c.Response().Header().Set("Cache-Control", "immutable")
			return c.String(http.StatusOK, "")
		})
	})
	for path, want := range map[string]string{"/healthz": "no-store", "/nowhere": "no-store", "/receipt": "immutable"} {
		a := s.send(t, http.MethodGet, path, "")
		if a.header.Get("Cache-Control") != want || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, a.header)
		}
	}
}

func TestServer_URLIsTextAndUnescaped(t *testing.T) {
	t.Parallel()
	s := serve(t, func(e *echo.Echo) {
		e.GET("/accounts/:id", func(c echo.Context) error { return c.String(http.StatusOK, c.Param("id")) })
	})
	for path, want := range map[string]string{
		"/accounts/a:b": "a:b", "/accounts/a%3Ab": "a:b", "/accounts/a%2Fb": "a/b", "/accounts/a%252Fb": "a%2Fb", "/accounts/%C3%A9?x=1%202": "é",
	} {
		if a := s.send(t, http.MethodGet, path, ""); a.status != http.StatusOK || a.body != want {
			t.Errorf("%s: %d %q, want %q", path, a.status, a.body, want)
		}
	}
	for _, path := range []string{"/accounts/%00", "/accounts/Jos%e9", "/accounts/a?x=%00", "/accounts/a?x=%e9", "/accounts/a?x=%zz"} {
		wantProblem(t, s.send(t, http.MethodGet, path, ""), http.StatusBadRequest, "malformed-url", "")
	}
}

func TestServer_HugeBodyIsRefusedWithoutBeingRead(t *testing.T) {
	t.Parallel()
	s := serve(t, transfers)
	const huge = 10 << 20
	for name, framing := range map[string]string{
		"announced":   fmt.Sprintf("Content-Length: %d\r\n\r\n", huge),
		"unannounced": "Transfer-Encoding: chunked\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close() //nolint:errcheck // a test
			// A small buffer, so that what we could write is about what was read.
			if err := conn.(*net.TCPConn).SetWriteBuffer(16 << 10); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			answered := make(chan *http.Response, 1)
			go func() {
				response, _ := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // closed below
				answered <- response
			}()
			_, err = io.WriteString(conn, "POST /transfers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+framing)
			if err != nil {
				t.Fatal(err)
			}
			block := bytes.Repeat([]byte("x"), 4<<10)
			if name == "unannounced" {
				block = []byte(fmt.Sprintf("%x\r\n%s\r\n", len(block), block))
			}
			sent := 0
			for sent < huge {
				n, err := conn.Write(block)
				sent += n
				if err != nil {
					break // what we want: no server listens any more
				}
			}
			if sent > huge/2 {
				t.Errorf("%d bytes were taken", sent)
			}
			response := <-answered
			if response == nil {
				t.Fatal("no answer")
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusRequestEntityTooLarge || !response.Close {
				t.Errorf("status %d, connection closed %v", response.StatusCode, response.Close)
			}
		})
	}
}

func TestServer_CutsOffASlowClient(t *testing.T) {
	t.Parallel()
	s := serve(t, transfers)
	if s.Server.ReadTimeout == 0 || s.Server.WriteTimeout == 0 || s.Server.IdleTimeout == 0 {
		t.Errorf("a client can hold a connection forever: %v, %v, %v", s.Server.ReadTimeout, s.Server.WriteTimeout, s.Server.IdleTimeout)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(9 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Error("half a header kept the connection open")
	}
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

func TestRun_StopLetsARunningRequestFinish(t *testing.T) {
	t.Parallel()
	working, finish := make(chan struct{}), make(chan struct{})
	s := serve(t, func(e *echo.Echo) {
		e.POST("/slow", func(c echo.Context) error {
			close(working)
			<-finish
			if err := c.Request().Context().Err(); err != nil {
				return err // stopping must not cancel what is being done
			}
			return c.String(http.StatusOK, "done")
		})
	})
	answered := make(chan answer, 1)
	go func() { answered <- s.send(t, http.MethodPost, "/slow", "") }()
	<-working
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	eventually(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-stopped:
		t.Fatalf("stopped while a request was in progress: %v", err)
	default:
	}
	close(finish)
	if a := <-answered; a.status != http.StatusOK || a.body != "done" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stopped with %v", err)
	}
}

// A balancer that has not looked yet still sends requests.
func TestRun_StopIsAnnouncedBeforeTheListenerCloses(t *testing.T) {
	t.Parallel()
	log := &logbook{address: make(chan string, 1)}
	logger, err := telemetry.Logger(log, "test", "info")
	if err != nil {
		t.Fatal(err)
	}
	e := web.New(web.Options{Logger: logger, Metrics: prometheus.NewRegistry()})
	ctx, cancel := context.WithCancel(t.Context())
	web.Health(ctx, e, logger, prometheus.NewRegistry())
	ended := make(chan error, 1)
	go func() {
		ended <- web.Run(ctx, e, config.Common{HTTPAddr: "127.0.0.1:0", StopDelay: 2 * time.Second}, logger)
	}()
	s := &server{url: "http://" + <-log.address}
	if a := s.send(t, http.MethodGet, "/readyz", ""); a.status != http.StatusOK {
		t.Fatal(a.status)
	}
	cancel()
	if a := s.send(t, http.MethodGet, "/readyz", "", "Connection", "close"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "stopping") {
		t.Errorf("a new connection gets %d %s", a.status, a.body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRun_NamesAnAddressInUse(t *testing.T) {
	t.Parallel()
	s := serve(t, transfers)
	e := web.New(web.Options{Logger: quiet(), Metrics: prometheus.NewRegistry()})
	err := web.Run(t.Context(), e, config.Common{HTTPAddr: strings.TrimPrefix(s.url, "http://")}, quiet())
	if err == nil || !strings.Contains(err.Error(), "HTTP_ADDR") {
		t.Errorf("got %v", err)
	}
}

func TestMetrics_DoNotGrowWithWhatClientsInvent(t *testing.T) {
	t.Parallel()
	s := serve(t, func(e *echo.Echo) {
		transfers(e)
		e.GET("/orders/:id", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
	})
	for i := range 20 {
		s.send(t, http.MethodGet, fmt.Sprintf("/orders/%d", i), "")
		s.send(t, http.MethodGet, fmt.Sprintf("/nowhere/%d", i), "")
		s.send(t, fmt.Sprintf("INVENTED%d", i), "/orders/1", "")
	}
	s.send(t, http.MethodPost, "/transfers", "{", "Content-Type", "application/json")
	metrics := s.send(t, http.MethodGet, "/metrics", "").body
	var series []string
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "failwell_http_request_seconds_count") {
			series = append(series, line)
		}
	}
	for _, want := range []string{
		`{method="GET",route="/orders/:id",status="200"} 20`,
		`{method="POST",route="/transfers",status="400"} 1`,
	} {
		if !strings.Contains(strings.Join(series, ""), want) {
			t.Errorf("missing %s", want)
		}
	}
	if len(series) != 4 {
		t.Errorf("%d series:\n%s", len(series), strings.Join(series, ""))
	}
}

// A trace that one of our services names goes on. What a stranger names is linked: it must
// not put requests into another one's trace.
func TestServer_GoesOnWithTheTraceOfOurServicesOnly(t *testing.T) {
	t.Parallel()
	s := serve(t, func(e *echo.Echo) {
		e.POST("/traced/:id", func(c echo.Context) error {
			return c.String(http.StatusOK, tracing.Traceparent(c.Request().Context()))
		})
	})
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	for key, want := range map[string]bool{"": false, "Bearer sk_merchant": false, "Bearer svc_ke": false, "Bearer svc_key": true} {
		header := []string{"traceparent", "00-" + traceID + "-00f067aa0ba902b7-01"}
		if key != "" {
			header = append(header, "Authorization", key)
		}
		got := s.send(t, http.MethodPost, "/traced/7", "", header...).body
		if strings.Contains(got, traceID) != want || got == "" {
			t.Errorf("%q: the request is in %q", key, got)
		}
		var span sdktrace.ReadOnlySpan
		eventually(t, "the span ends", func() bool {
			for _, span = range spans.Ended() {
				if strings.Contains(got, span.SpanContext().SpanID().String()) {
					return true
				}
			}
			return false
		})
		if span.Name() != "POST /traced/:id" || (len(span.Links()) == 1 && span.Links()[0].SpanContext.TraceID().String() == traceID) == want {
			t.Errorf("%q: span %s, links %v", key, span.Name(), span.Links())
		}
	}
	if one, two := s.send(t, http.MethodPost, "/traced/7", "").body, s.send(t, http.MethodPost, "/traced/7", "").body; one == "" || one == two {
		t.Errorf("without a caller's trace: %q and %q", one, two)
	}
}

func TestServer_HealthAndMetricsAreNotTraced(t *testing.T) {
	t.Parallel()
	s := serve(t, func(*echo.Echo) {})
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		s.send(t, http.MethodGet, path, "")
	}
	s.send(t, http.MethodGet, "/not-there", "") // and it has ended before this one does
	address := strings.TrimPrefix(s.url, "http://")
	of := func(span sdktrace.ReadOnlySpan) (path, host string) {
		for _, a := range span.Attributes() {
			switch a.Key {
			case "url.path":
				path = a.Value.AsString()
			case "server.port":
				host = "127.0.0.1:" + a.Value.String()
			}
		}
		return path, host
	}
	var paths []string
	eventually(t, "a span", func() bool {
		paths = nil
		for _, span := range spans.Ended() {
			if path, host := of(span); host == address {
				paths = append(paths, path)
			}
		}
		return len(paths) > 0
	})
	if len(paths) != 1 || paths[0] != "/not-there" {
		t.Errorf("traced: %v", paths)
	}
}

func TestServer_ClientThatHangsUpIsNoOutage(t *testing.T) {
	t.Parallel()
	working := make(chan struct{})
	s := serve(t, func(e *echo.Echo) {
		e.GET("/slow", func(c echo.Context) error {
			close(working)
			<-c.Request().Context().Done()
			return fmt.Errorf("query: %w", c.Request().Context().Err())
		})
	})
	ctx, hangUp := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/slow", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-working
		hangUp()
	}()
	if response, err := testenv.Client.Do(request); err == nil {
		_ = response.Body.Close()
		t.Fatal("answered")
	}
	eventually(t, "the request is counted as 499", func() bool {
		return strings.Contains(s.send(t, http.MethodGet, "/metrics", "").body, `route="/slow",status="499"`)
	})
	if log := s.log.String(); strings.Contains(log, "ERROR") {
		t.Errorf("somebody is woken for it: %s", log)
	}
}

func TestServer_LogsAnErrorAfterHalfAnAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t, func(e *echo.Echo) {
		e.GET("/half", func(c echo.Context) error {
			if err := c.String(http.StatusOK, "half"); err != nil {
				return err
			}
			return errors.New("the other half is missing")
		})
	})
	if a := s.send(t, http.MethodGet, "/half", ""); a.body != "half" {
		t.Errorf("a second answer was written after the first: %q", a.body)
	}
	eventually(t, "the log tells", func() bool { return strings.Contains(s.log.String(), "the other half is missing") })
}

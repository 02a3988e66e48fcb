package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/telemetry"
	"example.com/failwell/shared/platform/web"
	"example.com/failwell/shared/testenv"
)

var spans = tracetest.NewSpanRecorder()

func TestMain(m *testing.M) {
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	testenv.Main(m)
}

// server is a real one on a free port, with its log.
type server struct {
	*echo.Echo
	url  string
	log  *logbook
	stop func() error // asks it to stop, and returns what Run returned
}

// serve mounts routes and runs the server until the test ends.
func serve(t *testing.T, routes func(e *echo.Echo), checks ...web.Check) *server {
	t.Helper()
	log := &logbook{address: make(chan string, 1)}
	logger, err := telemetry.Logger(log, "test", "debug")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	e := web.New(web.Options{Logger: logger, Metrics: registry, ServiceKey: "svc_key"})
	routes(e)
	ctx, cancel := context.WithCancel(context.Background())
	web.Health(ctx, e, logger, registry, checks...)
	ended := make(chan error, 1)
	go func() { ended <- web.Run(ctx, e, config.Common{HTTPAddr: "127.0.0.1:0"}, logger) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("stopped with: %v", err)
		}
	})
	select {
	case address := <-log.address:
		return &server{Echo: e, url: "http://" + address, log: log, stop: stop}
	case <-time.After(10 * time.Second):
		t.Fatal("the server does not listen")
		return nil
	}
}

// logbook keeps the log and picks the address out of it.
type logbook struct {
	mu      sync.Mutex
	text    bytes.Buffer
	address chan string
}

func (l *logbook) Write(line []byte) (int, error) {
	var entry struct{ Msg, Address string }
	if json.Unmarshal(line, &entry) == nil && entry.Msg == "listening" {
		l.address <- entry.Address
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// answer is a response that has been read.
type answer struct {
	status  int
	header  http.Header
	body    string
	problem web.Problem
}

// send makes one request; headers are name, value, name, value.
func (s *server) send(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := testenv.Client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // a test
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: response.StatusCode, header: response.Header, body: string(text)}
	if a.header.Get("Content-Type") == "application/problem+json" && method != http.MethodHead {
		if err := json.Unmarshal(text, &a.problem); err != nil {
			t.Fatalf("not a problem: %s", text)
		}
	}
	return a
}

// wantProblem checks what every refusal owes its reader.
func wantProblem(t *testing.T, a answer, status int, slug, field string) {
	t.Helper()
	if a.status != status || a.problem.Status != status || !strings.HasSuffix(a.problem.Type, "/problems/"+slug) || a.problem.Field != field {
		t.Errorf("got %d %s, want %d %s, field %q", a.status, a.body, status, slug, field)
	}
	if a.problem.Title == "" || a.problem.Instance != "urn:request:"+a.header.Get("X-Request-Id") {
		t.Errorf("title %q, instance %q, request %q", a.problem.Title, a.problem.Instance, a.header.Get("X-Request-Id"))
	}
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("time-out while waiting: %s", what)
		}
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

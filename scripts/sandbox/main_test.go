package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	testKey    = "sk_processor_test"
	testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// world is a sandbox on a database of its own.
type world struct {
	t      *testing.T
	db     *pgxpool.Pool
	url    string
	faults *faults
	client *http.Client
}

func testSettings() settings {
	return settings{
		Common:       config.Common{Merchants: []config.Merchant{{ID: "mer_acme", Key: "sk_acme", WebhookSecret: testSecret}}},
		ProcessorKey: testKey, WebhookSecret: testSecret, KeyWait: 100 * time.Millisecond,
		WebhookPoll: 10 * time.Millisecond, WebhookRetry: 10 * time.Millisecond, Seed: 1,
	}
}

func start(t *testing.T, change ...func(*settings)) *world {
	t.Helper()
	cfg := testSettings()
	for _, c := range change {
		c(&cfg)
	}
	logger := slog.New(slog.DiscardHandler)
	db, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.Postgres(t, migrations), Logger: logger})
	must(t, err)
	t.Cleanup(db.Close)
	w := &world{t: t, db: db, faults: newFaults(cfg.Seed), client: &http.Client{Timeout: 20 * time.Second, Transport: checked{t}}}
	e := web.New(web.Options{Logger: logger, Metrics: prometheus.NewRegistry()})
	together := postgres.Grouped(db, postgres.GroupOptions{})
	t.Cleanup(together.Close)
	must(t, mount(e, cfg, db, together, w.faults))
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	w.url = server.URL
	if cfg.WebhookTarget != "" {
		send, err := newSender(cfg, db, w.faults, logger)
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { send.run(ctx, cfg.WebhookPoll) })
		t.Cleanup(func() { cancel(); running.Wait() })
	}
	return w
}

// checked holds every answer against openapi.yaml, and every request that is carried out.
type checked struct{ t *testing.T }

var description = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	doc.Servers = nil // the test server's address is another one
	return gorillamux.NewRouter(doc)
})

func (c checked) RoundTrip(r *http.Request) (*http.Response, error) {
	router, err := description()
	if err != nil {
		c.t.Errorf("openapi.yaml: %v", err)
		return nil, err
	}
	route, params, err := router.FindRoute(r)
	if err != nil {
		c.t.Errorf("%s %s is not described: %v", r.Method, r.URL.Path, err)
		return nil, err
	}
	sent := r.Clone(r.Context()) // its body is read by the transport
	if r.GetBody != nil {
		sent.Body, _ = r.GetBody() // of bytes in memory: it cannot fail
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: sent, PathParams: params, Route: route,
			Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
		},
		Status: resp.StatusCode, Header: resp.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if resp.StatusCode < http.StatusBadRequest {
		if err := openapi3filter.ValidateRequest(r.Context(), input.RequestValidationInput); err != nil {
			c.t.Errorf("%s %s was carried out, which openapi.yaml does not allow: %v", r.Method, r.URL.Path, err)
		}
	}
	if err := openapi3filter.ValidateResponse(r.Context(), input.SetBodyBytes(body)); err != nil {
		c.t.Errorf("%s %s answered %s, which openapi.yaml does not describe: %v", r.Method, r.URL.Path, body, err)
	}
	return resp, nil
}

// got is an answer, or the error instead of one.
type got struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func (g got) field(name string) any {
	var fields map[string]any
	_ = json.Unmarshal(g.body, &fields)
	return fields[name]
}

func (g got) text(name string) string {
	s, _ := g.field(name).(string)
	return s
}

func (g got) list(t *testing.T) []map[string]any {
	t.Helper()
	var list struct {
		Data []map[string]any `json:"data"`
	}
	must(t, json.Unmarshal(g.body, &list))
	return list.Data
}

func (w *world) call(method, path, key, body string) got {
	return w.callWith(context.Background(), method, path, key, body)
}

func (w *world) callWith(ctx context.Context, method, path, key, body string) got {
	req, err := http.NewRequestWithContext(ctx, method, w.url+path, strings.NewReader(body))
	if err != nil {
		return got{err: err}
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return got{err: err}
	}
	out, err := io.ReadAll(resp.Body)
	err = errors.Join(err, resp.Body.Close())
	return got{status: resp.StatusCode, header: resp.Header, body: out, err: err}
}

// card tokenises and redeems a card.
func (w *world) card(number string) string {
	w.t.Helper()
	token := w.call("POST", "/v1/tokens", "", `{"card":"`+number+`"}`)
	expect(w.t, token, 201, "")
	method := w.call("POST", "/v1/payment_methods", "", `{"token":"`+token.text("token")+`","reference":"pay_1"}`)
	expect(w.t, method, 201, "")
	return method.text("payment_method")
}

func (w *world) authorise(key, method string) got {
	return w.call("POST", "/v1/charges", key,
		`{"payment_method":"`+method+`","amount":{"minor":1250,"currency":"GBP"},"reference":"pay_1","merchant_id":"mer_acme"}`)
}

// captured is the id of a captured charge of 12.50 GBP.
func (w *world) captured() string {
	w.t.Helper()
	ch := w.authorise("", w.card(cardWorks))
	expect(w.t, ch, 201, "")
	expect(w.t, w.call("POST", "/v1/charges/"+ch.text("id")+"/capture", "", ""), 200, "")
	return ch.text("id")
}

func (w *world) misbehave(rules string) {
	w.t.Helper()
	expect(w.t, w.call("PUT", "/faults", "", `{"rules":[`+rules+`]}`), 200, "")
}

func (w *world) count(query string, args ...any) int {
	w.t.Helper()
	var n int
	must(w.t, w.db.QueryRow(context.Background(), query, args...).Scan(&n))
	return n
}

func (w *world) operations(kind string) int {
	w.t.Helper()
	return w.count(`SELECT count(*) FROM processor_operations WHERE kind = $1`, kind)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expect checks status and code; an empty code means that there is none.
func expect(t *testing.T, g got, status int, code string) {
	t.Helper()
	if g.err != nil || g.status != status || g.text("code") != code {
		t.Fatalf("got %d %s (error: %v), want %d %s", g.status, g.body, g.err, status, code)
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// await polls until the condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("time-out while waiting for: %s", what)
		}
	}
}

func TestRun_ServesUntilToldToStop(t *testing.T) {
	t.Parallel()
	held, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	cfg := testSettings()
	cfg.HTTPAddr = held.Addr().String()
	cfg.DatabaseURL = testenv.Postgres(t, migrations)
	cfg.WebhookTarget = "http://127.0.0.1:1/nobody"
	must(t, held.Close())

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, cfg, slog.New(slog.DiscardHandler)) }()
	await(t, "readiness", func() bool {
		resp, err := http.Get("http://" + cfg.HTTPAddr + "/readyz")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	stop()
	select {
	case err := <-ended:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("run did not end")
	}
}

func TestSettings_RefuseWebhooksWithoutASecret(t *testing.T) {
	for name, value := range map[string]string{
		"DATABASE_URL": "postgres://127.0.0.1/sandbox", "PROCESSOR_KEY": testKey, "WEBHOOK_TARGET": "http://127.0.0.1:1/",
	} {
		t.Setenv(name, value)
	}
	for secret, ok := range map[string]bool{testSecret: true, "": false, "whsec_": false, "whsec_QQ==": false, "whsec_%%%": false} {
		t.Setenv("PROCESSOR_WEBHOOK_SECRET", secret)
		_, err := config.Load[settings]()
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "PROCESSOR_WEBHOOK_SECRET") {
			t.Errorf("secret %q: got %v", secret, err)
		}
	}
}

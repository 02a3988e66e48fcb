package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"gocloud.dev/blob/memblob"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/testenv"
	"example.com/failwell/shared/platform/web"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	patience     = 30 * time.Second // for what should take milliseconds, on a machine that is busy
	processorKey = "sk_processor_test"
	acme         = "mer_acme"
)

// buildSandbox puts the program beside the test binary, in the directory that
// go test removes when it is done.
var buildSandbox = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(filepath.Dir(os.Args[0]), "sandbox")
	out, err := exec.Command("go", "build", "-o", binary, "../../scripts/sandbox").CombinedOutput() //nolint:noctx // bounded by the test's own time-out
	if err != nil {
		return "", fmt.Errorf("build the sandbox: %w\n%s", err, out)
	}
	return binary, nil
})

// startSandbox runs the outside world as a process of its own on a fresh
// database, and returns its address when it answers.
func startSandbox(t *testing.T) string {
	t.Helper()
	binary, err := buildSandbox()
	if err != nil {
		t.Fatal(err)
	}
	port, release, err := testenv.HoldPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	var log bytes.Buffer
	cmd := exec.Command(binary) //nolint:noctx // killed below
	cmd.Stderr = &log
	cmd.Env = []string{
		"HTTP_ADDR=" + address, "DATABASE_URL=" + testenv.Postgres(t, os.DirFS("../../scripts/sandbox")), "PROCESSOR_KEY=" + processorKey,
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not outlive us, however we die
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread() // Pdeathsig is tied to the thread
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	eventually(t, "the sandbox is ready", func() bool {
		select {
		case <-ended:
			t.Fatalf("the sandbox has ended:\n%s", log.String())
		default:
		}
		response, err := http.Get("http://" + address + "/readyz") //nolint:noctx // bounded by the wait
		if err != nil {
			return false
		}
		return response.Body.Close() == nil && response.StatusCode == http.StatusOK
	})
	return "http://" + address
}

// shop is the service with a database and a card processor of one test's own. Its
// relay does not run, so every reply stays in the outbox, where it can be counted.
type shop struct {
	*service
	t *testing.T
}

func newShop(t *testing.T) *shop {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.Postgres(t, migrations), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return &shop{t: t, service: newTestService(t, &service{db: db}, settings{
		Common:       config.Common{ServiceKey: "sk_service_test"},
		ProcessorURL: startSandbox(t), ProcessorKey: processorKey, CallTimeout: patience,
		ProcessorWebhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
	})}
}

// newTestService is the one place where these tests make a service: on the
// database of another one, with settings of its own.
func newTestService(t *testing.T, like *service, cfg settings) *service {
	t.Helper()
	receipts := memblob.OpenBucket(nil)
	t.Cleanup(func() { _ = receipts.Close() })
	s, err := newService(cfg, like.db, receipts, quiet(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	s.relay = outbox.NewRelay(outbox.Config{DB: like.db, Logger: quiet()})
	return s
}

// with is the same shop in another process, so to say, with other settings.
func (s *shop) with(change func(*settings)) *shop {
	s.t.Helper()
	cfg := s.cfg
	change(&cfg)
	return &shop{t: s.t, service: newTestService(s.t, s.service, cfg)}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// The cards of the sandbox.
const (
	cardWorks     = "4242424242424242"
	cardDeclined  = "4000000000000002"
	cardNoCapture = "4000000000000341"
	cardNoFunds   = "4000000000009995"
)

// order is a payment that can be authorised, with the token of a card.
func (s *shop) order(card string) command {
	s.t.Helper()
	var made struct{ Token string }
	s.ask(http.MethodPost, "/v1/tokens", map[string]string{"card": card}, &made)
	return command{
		OrderID: "ord_" + uuid.NewString(), PaymentID: "pay_" + uuid.NewString(), MerchantID: acme,
		Amount: money.Money{Minor: 12_50, Currency: "GBP"}, PaymentToken: made.Token,
	}
}

// ask makes a call to the sandbox that is not the service's.
func (s *shop) ask(method, path string, in, out any) {
	s.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.cfg.ProcessorURL+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+processorKey)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode < 300 {
		err = json.Unmarshal(answer, out)
	}
	if err != nil || response.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %d %s %v", method, path, response.StatusCode, answer, err)
	}
}

// rule is a way in which the sandbox misbehaves; see scripts/sandbox/faults.go.
type rule struct {
	Contract string `json:"contract"`
	Fault    string `json:"fault"`
	Times    int    `json:"times"`
	DelayMS  int    `json:"delay_ms,omitempty"`
	At       string `json:"at,omitempty"`
}

// arm replaces the rules. None: the sandbox behaves.
func (s *shop) arm(rules ...rule) {
	s.t.Helper()
	s.ask(http.MethodPut, "/faults", map[string][]rule{"rules": append([]rule{}, rules...)}, &struct{}{})
}

// struck is how many calls were hit by the rules in force.
func (s *shop) struck() (n int) {
	s.t.Helper()
	var list struct{ Rules []struct{ Struck int } }
	s.ask(http.MethodGet, "/faults", nil, &list)
	for _, r := range list.Rules {
		n += r.Struck
	}
	return n
}

// charges is what the processor has under a payment's reference, by status.
func (s *shop) charges(cmd command) []string {
	s.t.Helper()
	return s.listed("/v1/charges?reference=", cmd, "status")
}

// methods are the payment methods that were redeemed for a payment.
func (s *shop) methods(cmd command) []string {
	s.t.Helper()
	return s.listed("/v1/payment_methods?reference=", cmd, "payment_method")
}

func (s *shop) listed(path string, cmd command, field string) []string {
	s.t.Helper()
	var list struct{ Data []map[string]any }
	s.ask(http.MethodGet, path+url.QueryEscape(cmd.PaymentID), nil, &list)
	found := []string{}
	for _, item := range list.Data {
		found = append(found, fmt.Sprint(item[field]))
	}
	return found
}

// The commands of the saga.
const (
	toAuthorise = "payments.authorise"
	toCapture   = "payments.capture"
	toVoid      = "payments.void"
)

// message is a new message; to deliver one twice, pass it twice.
func message(t *testing.T, kind string, cmd command) event.Event {
	t.Helper()
	e := event.New()
	e.SetID(uuid.Must(uuid.NewV7()).String())
	e.SetSource("/orders")
	e.SetType(kind)
	if err := e.SetData(event.ApplicationJSON, cmd); err != nil {
		t.Fatal(err)
	}
	return e
}

// deliver handles messages one after the other; each must be done with.
func (s *shop) deliver(messages ...event.Event) {
	s.t.Helper()
	for _, m := range messages {
		if err := s.receive(s.t.Context(), m); err != nil {
			s.t.Fatalf("%s: %v", m.Type(), err)
		}
	}
}

// insist delivers a message until it is done with, as the broker does.
func (s *shop) insist(m event.Event) {
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = s.receive(s.t.Context(), m); err == nil {
			return
		}
	}
	s.t.Errorf("%s is never done with: %v", m.Type(), err)
}

// payment is what we have recorded.
func (s *shop) payment(cmd command) payment {
	s.t.Helper()
	var p payment
	err := postgres.Read(s.t.Context(), s.db, func(b *pgx.Batch) { load(b, uuid.MustParse(strings.TrimPrefix(cmd.PaymentID, "pay_")), &p) })
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// replies are the answers about an order, sorted: "authorise done".
func (s *shop) replies(cmd command) []string {
	s.t.Helper()
	rows, _ := s.db.Query(s.t.Context(), `SELECT body FROM outbox WHERE type = 'orders.saga-reply'`)
	bodies, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		s.t.Fatal(err)
	}
	texts := []string{}
	for _, body := range bodies {
		var e event.Event
		var r reply
		if err := e.UnmarshalJSON(body); err != nil {
			s.t.Fatal(err)
		}
		if err := e.DataAs(&r); err != nil {
			s.t.Fatal(err)
		}
		if r.OrderID == cmd.OrderID {
			texts = append(texts, strings.TrimSpace(r.Step+" "+r.Outcome+" "+r.Reason))
		}
	}
	slices.Sort(texts)
	return texts
}

// stands checks how a payment stands: here, at the processor, and in the answers.
func (s *shop) stands(cmd command, status string, charges, replies []string) {
	s.t.Helper()
	same(s.t, "our record", s.payment(cmd).Status, status)
	same(s.t, "charges at the processor", s.charges(cmd), charges)
	same(s.t, "replies", s.replies(cmd), replies)
}

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// atOnce runs all of the work at the same moment and waits for it.
func atOnce(work ...func()) {
	var running sync.WaitGroup
	start := make(chan struct{})
	for _, w := range work {
		running.Go(func() { <-start; w() })
	}
	close(start)
	running.Wait()
}

// ownAPI asks the service's own API.
func (s *shop) ownAPI(path, key string) *httptest.ResponseRecorder {
	s.t.Helper()
	request := httptest.NewRequestWithContext(s.t.Context(), http.MethodGet, path, nil)
	request.Header.Set("Authorization", "Bearer "+key)
	recorder := httptest.NewRecorder()
	s.routes(prometheus.NewRegistry(), nil).ServeHTTP(recorder, request) // the broker is only asked how it is
	return recorder
}

func contains(r *httptest.ResponseRecorder, texts ...string) bool {
	for _, text := range texts {
		if !strings.Contains(r.Body.String(), text) {
			return false
		}
	}
	return true
}

// seed makes a merchant with a key.
func (s *shop) seed(id, key string) {
	s.t.Helper()
	if err := web.SeedMerchants(s.t.Context(), s.db, []config.Merchant{{ID: id, Key: key, WebhookSecret: "whsec_"}}); err != nil {
		s.t.Fatal(err)
	}
}

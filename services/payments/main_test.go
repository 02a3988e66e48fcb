package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	patience     = 30 * time.Second // for what should take milliseconds, on a machine that is busy
	processorKey = "sk_processor_test"
	acme         = "mer_acme"
)

// shop is the service with a database and a card processor of one test's own. Its
// relay does not run, so every reply stays in the outbox, where it can be counted.
type shop struct {
	*service
	t         *testing.T
	merchants []config.Merchant // that have a key
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
		ProcessorURL: startSandbox(t), ProcessorKey: processorKey, CallTimeout: patience, ProcessorKeyRetention: time.Hour,
		ProcessorWebhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		TwoPhaseTimeout:        time.Minute, TwoPhaseSweep: time.Hour, EventsPoll: time.Hour, EventsOverdue: time.Hour, ReceiptGrace: time.Hour,
	})}
}

// newTestService is the one place where these tests make a service: on the
// database of another one, with settings of its own.
func newTestService(t *testing.T, like *service, cfg settings) *service {
	t.Helper()
	s, err := newService(cfg, like.db, quiet(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	openTestReceipts(t, s)
	t.Cleanup(s.writer.Close)
	s.relay = outbox.NewRelay(s.outbox, outbox.Config{DB: like.db, Publisher: nowhere{}, Logger: quiet()})
	return s
}

// with is the same shop in another process, so to say, with other settings.
func (s *shop) with(change func(*settings)) *shop {
	s.t.Helper()
	cfg := s.cfg
	change(&cfg)
	return &shop{t: s.t, service: newTestService(s.t, s.service, cfg), merchants: s.merchants}
}

// nowhere is the publisher of a relay that does not run.
type nowhere struct{ outbox.Publisher }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

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
	e.SetSubject(cmd.OrderID)
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
		if err := e.UnmarshalJSON(body); err != nil {
			s.t.Fatal(err)
		}
		r, err := saga.DecodeReply(e)
		if err != nil {
			s.t.Fatal(err)
		}
		if r.SagaID == cmd.OrderID {
			texts = append(texts, strings.TrimSpace(r.Step+" "+string(r.Outcome)+" "+r.Reason))
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
	s.routes(s.t.Context(), prometheus.NewRegistry(), nil).ServeHTTP(recorder, request) // the broker is only asked how it is
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
	s.merchants = append(s.merchants, config.Merchant{ID: id, Key: key, WebhookSecret: "whsec_"})
	if err := web.SyncAPIKeys(s.t.Context(), s.db, s.merchants); err != nil {
		s.t.Fatal(err)
	}
}

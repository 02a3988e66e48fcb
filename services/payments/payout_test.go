package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/testenv"
)

const acmeKey = "sk_acme"

// fakeLedger votes yes to everything, unless it is short of money, and remembers what it
// was told.
type fakeLedger struct {
	mu    sync.Mutex
	told  []string // "prepare", "commit", "rollback", in order
	thing func()   // called amid a prepare
	short bool
	never bool // it refuses every entry for good
}

func (l *fakeLedger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	verb := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	l.mu.Lock()
	l.told = append(l.told, verb)
	thing, short := l.thing, l.short
	l.mu.Unlock()
	if verb == "prepare" && thing != nil {
		thing()
	}
	if verb == "prepare" && short {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = w.Write([]byte(`{"type":"https://failwell.example/problems/insufficient-balance"}`))
		return
	}
	if verb == "entries" && l.never {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	if verb == "entries" {
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (l *fakeLedger) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.told...)
}

// newBanking is a shop that can pay out: the sandbox's bank and a ledger that agrees.
func newBanking(t *testing.T) (*shop, *fakeLedger) {
	t.Helper()
	books := &fakeLedger{}
	server := httptest.NewServer(books)
	t.Cleanup(server.Close)
	s := newShop(t)
	s.seed(acme, acmeKey)
	return s.with(func(cfg *settings) {
		cfg.BankURL, cfg.LedgerURL = cfg.ProcessorURL, server.URL
		cfg.KeyRetention, cfg.KeyLease, cfg.RequestTimeout = time.Hour, 2*patience, patience
	}), books
}

// payOut asks for a payout as a client does that hangs up when ctx ends.
func (s *shop) payOut(ctx context.Context) (status int, view payoutView) {
	s.t.Helper()
	server := httptest.NewServer(s.routes(ctx, prometheus.NewRegistry(), nil))
	s.t.Cleanup(server.Close) // waits for the handler
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/v1/payouts", strings.NewReader(`{"amount":{"minor":100,"currency":"GBP"}}`))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+acmeKey)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", uuid.NewString())
	response, err := testenv.Client.Do(request)
	if err != nil {
		return 0, view // it hung up
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	if err := json.NewDecoder(response.Body).Decode(&view); err != nil {
		s.t.Error(err)
	}
	return response.StatusCode, view
}

// thePayout waits until the only payout of a test is at its end, and returns it.
func (s *shop) thePayout() (p payout) {
	s.t.Helper()
	eventually(s.t, "the payout is finished", func() bool {
		var id uuid.UUID
		if err := s.db.QueryRow(s.t.Context(), `SELECT id FROM payouts`).Scan(&id); err != nil {
			return false
		}
		var err error
		if p, err = s.loadPayout(s.t.Context(), id); err != nil {
			s.t.Fatal(err)
		}
		return p.Point == payoutFinished
	})
	return p
}

// transfers is how often the bank has sent a payout.
func (s *shop) transfers(p payout) (n int) {
	s.t.Helper()
	var page struct{ Data []struct{ Reference string } }
	s.ask(http.MethodGet, "/bank/statement", nil, &page)
	for _, line := range page.Data {
		if line.Reference == p.wireID() {
			n++
		}
	}
	return n
}

func (s *shop) preparedHere() (n int) {
	s.t.Helper()
	if err := s.db.QueryRow(s.t.Context(), `SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()`).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// The points are the process's, so nothing else may run beside this test.
func TestCreatePayout_IsSentAlthoughTheClientHangsUpAfterTheGuard(t *testing.T) {
	s, books := newBanking(t)
	if err := fault.Arm(fault.Order{Point: fault.PaymentsPayoutAfterGuard, Action: fault.Delay, DelayMS: 500}); err != nil {
		t.Fatal(err)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	go func() {
		eventually(t, "the guard is entered", func() bool {
			var n int
			return s.db.QueryRow(t.Context(), `SELECT count(*) FROM guards`).Scan(&n) == nil && n == 1
		})
		hangUp()
	}()
	s.payOut(ctx)
	p := s.thePayout()
	same(t, "outcome", p.Outcome, payoutSent)
	same(t, "transfers", s.transfers(p), 1)
	same(t, "the ledger was told", books.heard(), []string{"prepare", "commit"})
}

func TestCreatePayout_IsRecordedAlthoughTheClientHangsUpWhileTheBankThinks(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	s.arm(rule{Contract: "bank.transfers", Fault: "delay", Times: 1, DelayMS: 500})
	ctx, hangUp := context.WithCancel(t.Context())
	go func() {
		eventually(t, "the bank thinks", func() bool { return s.struck() > 0 })
		hangUp()
	}()
	s.payOut(ctx)
	p := s.thePayout()
	same(t, "outcome", p.Outcome, payoutSent)
	same(t, "transfers", s.transfers(p), 1)
}

// With the ledger prepared, somebody must decide: the merchant's accounts are locked.
func TestCreatePayout_LeavesNothingPreparedWhenTheClientHangsUp(t *testing.T) {
	t.Parallel()
	s, books := newBanking(t)
	ctx, hangUp := context.WithCancel(t.Context())
	books.thing = func() { hangUp(); time.Sleep(200 * time.Millisecond) }
	s.payOut(ctx)
	same(t, "outcome", s.thePayout().Outcome, payoutSent)
	same(t, "the ledger was told", books.heard(), []string{"prepare", "commit"})
	same(t, "prepared here", s.preparedHere(), 0)
}

// A client's patience that ends, and a process that is asked to stop in the middle of
// what its completer does, look the same from inside: the context ends.
func TestResumePayout_WritesTheBanksAnswerAlthoughTheProcessIsStopped(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	s.arm(rule{Contract: "bank.transfers", Fault: "delay", Times: 1, DelayMS: 500, At: "before"})
	lock := s.startedPayout()
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		eventually(t, "the bank thinks", func() bool { return s.struck() > 0 })
		stop()
	}()
	_, _ = s.resumePayout(ctx, lock) // what is left is the next process's
	p, err := s.loadPayout(t.Context(), lock.OperationID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "point and outcome", p.Point+" "+p.Outcome, "decided sent")
	if _, err := s.resumePayout(t.Context(), lock); err != nil {
		t.Error(err)
	}
	same(t, "transfers", s.transfers(p), 1)
}

// No server listens at the bank's address: nothing was sent, and that is certain.
func TestTransfer_ToABankThatCannotBeReachedIsNotSent(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + listener.Addr().String()
	_ = listener.Close()
	for name, url := range map[string]string{"no server listens": closed, "no such name": "http://bank.invalid"} {
		status, view := s.with(func(cfg *settings) { cfg.BankURL = url }).payOut(t.Context())
		same(t, name, []any{status, view.Status, view.Failure}, []any{http.StatusCreated, payoutFailed, "bank_unreachable"})
	}
	var returned int
	if err := s.db.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE type = 'ledger.payout-returned'`).Scan(&returned); err != nil {
		t.Fatal(err)
	}
	same(t, "returned to the merchant", returned, 2)
}

// A connection that was made and then broke may have carried the request.
func TestTransfer_ToABankThatHangsUpIsUnknown(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	var calls atomic.Int32
	rude := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}))
	t.Cleanup(rude.Close)
	status, view := s.with(func(cfg *settings) { cfg.BankURL = rude.URL }).payOut(t.Context())
	same(t, "answer", []any{status, view.Status}, []any{http.StatusAccepted, payoutUnknown})
	same(t, "calls", calls.Load(), 1)
}

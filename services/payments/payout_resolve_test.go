package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// unknownPayout is a payout whose bank did not answer.
func (s *shop) unknownPayout(outcome string) payout {
	s.t.Helper()
	id := uuid.Must(uuid.NewV7())
	_, err := s.db.Exec(s.t.Context(), `
		INSERT INTO payouts (id, merchant_id, amount_minor, currency, recovery_point, outcome, finished_at)
		VALUES ($1, $2, 100, 'GBP', 'finished', $3, now())`,
		id, acme, outcome)
	if err != nil {
		s.t.Fatal(err)
	}
	return payout{ID: id}
}

// resolve asks as an operator does.
func (s *shop) resolve(id, body, key string) *httptest.ResponseRecorder {
	s.t.Helper()
	request := httptest.NewRequestWithContext(s.t.Context(), http.MethodPost, "/v1/payouts/"+id+"/resolve", strings.NewReader(body))
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	s.routes(s.t.Context(), prometheus.NewRegistry(), nil).ServeHTTP(recorder, request)
	return recorder
}

// told counts what the ledger is told about payouts.
func (s *shop) told(kind string) (n int) {
	s.t.Helper()
	if err := s.db.QueryRow(s.t.Context(), `SELECT count(*) FROM outbox WHERE type = $1`, kind).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// A person says what the bank has said. Said twice, the ledger hears it once; the
// contrary of what is known is refused.
func TestResolvePayout_EndsAnUnknownPayoutOnce(t *testing.T) {
	t.Parallel()
	for outcome, kind := range map[string]string{payoutSent: "ledger.payout-sent", payoutFailed: "ledger.payout-returned"} {
		s := newShop(t)
		p, other := s.unknownPayout(payoutUnknown), map[string]string{payoutSent: payoutFailed, payoutFailed: payoutSent}[outcome]
		for range 2 {
			if r := s.resolve(p.wireID(), `{"outcome":"`+outcome+`"}`, s.cfg.ServiceKey); r.Code != http.StatusOK || !contains(r, `"status":"`+outcome+`"`) {
				t.Errorf("%s: %d %s", outcome, r.Code, r.Body)
			}
		}
		if r := s.resolve(p.wireID(), `{"outcome":"`+other+`"}`, s.cfg.ServiceKey); r.Code != http.StatusConflict || !contains(r, "payout-not-unknown") {
			t.Errorf("%s, then %s: %d %s", outcome, other, r.Code, r.Body)
		}
		if n := s.told(kind); n != 1 {
			t.Errorf("%s: the ledger is told %d times", kind, n)
		}
		if n := s.told("ledger.payout-sent") + s.told("ledger.payout-returned"); n != 1 {
			t.Errorf("the ledger is told %d things about one payout", n)
		}
	}
}

// What the bank's statement shows was sent, whatever a person believes.
func TestResolvePayout_RefusesFailedForWhatIsOnTheStatement(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	p := s.unknownPayout(payoutUnknown)
	_, err := s.db.Exec(t.Context(), `
		INSERT INTO statement_lines (source, line_id, kind, reference, subject, merchant_id, sign, minor, currency, at)
		VALUES ('bank', 'trf_1', 'transfer', $1, $2, $3, 1, 100, 'GBP', $4)`,
		p.wireID(), p.ID, acme, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if r := s.resolve(p.wireID(), `{"outcome":"failed"}`, s.cfg.ServiceKey); r.Code != http.StatusConflict || !contains(r, "payout-on-statement") {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	if r := s.resolve(p.wireID(), `{"outcome":"sent"}`, s.cfg.ServiceKey); r.Code != http.StatusOK {
		t.Errorf("%d %s", r.Code, r.Body)
	}
}

// The line of the statement is written and not committed yet when a person says "not sent".
func TestResolvePayout_WaitsForAStatementThatIsBeingStored(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	p := s.unknownPayout(payoutUnknown)
	tx, err := s.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // it is committed below
	_, err = tx.Exec(t.Context(), `
		INSERT INTO statement_lines (source, line_id, kind, reference, subject, merchant_id, sign, minor, currency, at)
		VALUES ('bank', 'trf_1', 'transfer', $1, $2, $3, 1, 100, 'GBP', now())`,
		p.wireID(), p.ID, acme)
	if err != nil {
		t.Fatal(err)
	}
	resolved := make(chan *httptest.ResponseRecorder, 1)
	go func() { resolved <- s.resolve(p.wireID(), `{"outcome":"failed"}`, s.cfg.ServiceKey) }()
	eventually(t, "it waits, or has its answer", func() bool {
		var waits bool
		err := s.db.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'statement_lines'::regclass)`).Scan(&waits)
		return err == nil && (waits || len(resolved) == 1)
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := <-resolved; r.Code != http.StatusConflict || !contains(r, "payout-on-statement") {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	same(t, "the ledger is told", s.told("ledger.payout-returned"), 0)
}

func TestResolvePayout_RefusesWhatCannotBeResolved(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.seed(acme, "sk_acme")
	unknown, pending := s.unknownPayout(payoutUnknown), s.unknownPayout(payoutPending)
	for name, c := range map[string]struct {
		id, body, key string
		status        int
	}{
		"a merchant's key": {unknown.wireID(), `{"outcome":"sent"}`, "sk_acme", http.StatusUnauthorized},
		"no key":           {unknown.wireID(), `{"outcome":"sent"}`, "", http.StatusUnauthorized},
		"another outcome":  {unknown.wireID(), `{"outcome":"unknown"}`, s.cfg.ServiceKey, http.StatusUnprocessableEntity},
		"no such payout":   {"pyo_" + uuid.NewString(), `{"outcome":"sent"}`, s.cfg.ServiceKey, http.StatusNotFound},
		"no id":            {"1", `{"outcome":"sent"}`, s.cfg.ServiceKey, http.StatusNotFound},
		"still at work":    {pending.wireID(), `{"outcome":"sent"}`, s.cfg.ServiceKey, http.StatusConflict},
	} {
		if r := s.resolve(c.id, c.body, c.key); r.Code != c.status {
			t.Errorf("%s: %d %s, want %d", name, r.Code, r.Body, c.status)
		}
	}
	var untouched int
	if err := s.db.QueryRow(t.Context(), `SELECT count(*) FROM payouts WHERE outcome IN ('unknown', 'pending')`).Scan(&untouched); err != nil || untouched != 2 {
		t.Errorf("%d payouts are as they were, %v", untouched, err)
	}
	if n := s.told("ledger.payout-sent") + s.told("ledger.payout-returned"); n != 0 {
		t.Errorf("the ledger is told %d things", n)
	}
}

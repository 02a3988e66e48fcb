package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/reconciliation"
)

const (
	other    = "mer_other"
	otherKey = "sk_other"
)

func (s *shop) exec(query string, args ...any) {
	s.t.Helper()
	if _, err := s.db.Exec(s.t.Context(), query, args...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) count(query string, args ...any) (n int) {
	s.t.Helper()
	if err := s.db.QueryRow(s.t.Context(), query, args...).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// Weeks of webhooks that were never sent, and more of them than one look takes:
// all of them are made up for, each once, and nothing that is young.
func TestFindMissedNews_MakesUpForEachMissedWebhookOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t).with(func(cfg *settings) { cfg.SettlementOverdue, cfg.ReconcileOverlap = 72*time.Hour, 24*time.Hour })
	plant := func(n int, age string, minor int) {
		s.exec(`
			WITH planted AS (
			    INSERT INTO payments (id, order_id, merchant_id, status, amount_minor, currency, charge_id, updated_at)
			    SELECT gen_random_uuid(), gen_random_uuid(), 'mer_acme', 'captured', $3, 'GBP', 'ch', now() - $2::interval
			      FROM generate_series(1, $1)
			    RETURNING id)
			INSERT INTO statement_lines (source, line_id, kind, reference, subject, merchant_id, sign, minor, currency, at)
			SELECT 'processor', gen_random_uuid(), 'capture', 'pay_' || id, id, 'mer_acme', 1, $3, 'GBP', now() - $2::interval
			  FROM planted`, n, age, minor)
	}
	plant(2*missedAtOnce+1, "30 days", 100)
	plant(5, "1 hour", 200)
	// Two refunds of one payment, of which one has settled.
	s.exec(`
		WITH p AS (SELECT id FROM payments WHERE amount_minor = 100 ORDER BY id LIMIT 1),
		told AS (SELECT gen_random_uuid() AS op),
		r AS (
		    INSERT INTO refunds (id, payment_id, merchant_id, amount_minor, currency, recovery_point, decision, created_at, settled_at, settled_operation)
		    SELECT gen_random_uuid(), id, 'mer_acme', 10, 'GBP', 'finished', 'succeeded', now() - interval '20 days', now(), op FROM p, told
		    UNION ALL
		    SELECT gen_random_uuid(), id, 'mer_acme', 10, 'GBP', 'finished', 'succeeded', now() - interval '20 days', NULL, NULL FROM p)
		INSERT INTO statement_lines (source, line_id, kind, reference, subject, merchant_id, sign, minor, currency, at)
		SELECT 'processor', op, 'refund', 'pay_' || id, id, 'mer_acme', 1, 10, 'GBP', now() - interval '20 days' FROM p, (SELECT op FROM told UNION ALL SELECT gen_random_uuid()) ops`)
	for range 2 {
		if err := s.findMissedNews(t.Context()); err != nil {
			t.Fatal(err)
		}
		same(t, "captures", s.count(`SELECT count(*) FROM received_events WHERE type = 'charge.settled'`), 2*missedAtOnce+1)
		same(t, "refunds", s.count(`SELECT count(*) FROM received_events WHERE type = 'refund.settled'`), 1)
	}
}

// reconciled runs a reconciliation and returns what a merchant is shown of it.
func (s *shop) reconciled(key string) (v reconciliationView) {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.reconciler.Run(ctx) })
	defer func() { stop(); running.Wait() }()
	id, err := s.reconciler.Request(s.t.Context(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, "the run is finished", func() bool {
		path := "/v1/reconciliations/rec_"
		if key == s.cfg.ServiceKey {
			path = "/v1/platform/reconciliations/rec_"
		}
		answer := s.ownAPI(path+id.String(), key)
		if err := json.Unmarshal(answer.Body.Bytes(), &v); err != nil {
			s.t.Fatal(err)
		}
		return v.Status == "finished"
	})
	return v
}

// A bank knows no merchants. Its line is still for the merchant only whose payout it is,
// and what belongs to none is for the platform only.
func TestReconciliation_ShowsAMerchantItsOwnDifferencesOnly(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	s.seed(other, otherKey)
	s = s.with(func(cfg *settings) { cfg.EventsPoll = 5 * time.Millisecond })
	failed, stranger := uuid.Must(uuid.NewV7()), "pyo_"+uuid.Must(uuid.NewV7()).String()
	s.exec(`
		INSERT INTO payouts (id, merchant_id, amount_minor, currency, recovery_point, outcome, failure, finished_at)
		VALUES ($1, $2, 100, 'GBP', 'finished', 'failed', 'transfer_refused', now())`, failed, acme)
	for _, reference := range []string{"pyo_" + failed.String(), stranger} {
		s.ask(http.MethodPost, "/bank/transfers", map[string]any{
			"reference": reference, "account": "acct", "amount": map[string]any{"minor": 100, "currency": "GBP"},
		}, &struct{}{})
	}
	time.Sleep(10 * time.Millisecond) // the bank's lag
	of := func(v reconciliationView) map[string]string {
		found := map[string]string{}
		for _, d := range v.Differences {
			found[d.Reference] = d.Finding
		}
		return found
	}
	theirs := s.reconciled(otherKey)
	same(t, "shown to the other", of(theirs), map[string]string{})
	same(t, "counted for the other", theirs.Unresolved, 0)
	same(t, "without a statement", theirs.NotCompared, []string{fromLedger}) // this one has no journal
	same(t, "shown to its own", of(s.reconciled(acmeKey)), map[string]string{"pyo_" + failed.String(): "sent-though-failed"})
	all := map[string]string{stranger: "unknown-transfer", "pyo_" + failed.String(): "sent-though-failed"}
	same(t, "shown to the platform", of(s.reconciled(s.cfg.ServiceKey)), all)
}

// Any merchant could make the platform fetch and compare everything that ever was.
func TestCreateReconciliation_BoundsSinceForMerchants(t *testing.T) {
	t.Parallel()
	s := newShop(t).with(func(cfg *settings) { cfg.ReconcileOverlap, cfg.RequestTimeout = 24*time.Hour, time.Second })
	s.seed(acme, acmeKey)
	ask := func(path, key string, since time.Time) int {
		body := `{"since":"` + since.Format(time.RFC3339) + `"}`
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
		request.Header.Set("Authorization", "Bearer "+key)
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		s.routes(t.Context(), prometheus.NewRegistry(), nil).ServeHTTP(recorder, request)
		return recorder.Code
	}
	const merchants, platform = "/v1/reconciliations", "/v1/platform/reconciliations"
	same(t, "a merchant: from the beginning", ask(merchants, acmeKey, time.Time{}), http.StatusUnprocessableEntity)
	same(t, "a merchant: two days ago", ask(merchants, acmeKey, time.Now().Add(-48*time.Hour)), http.StatusUnprocessableEntity)
	same(t, "a merchant: an hour ago", ask(merchants, acmeKey, time.Now().Add(-time.Hour)), http.StatusAccepted)
	same(t, "a merchant, as the platform", ask(platform, acmeKey, time.Now()), http.StatusUnauthorized)
	same(t, "the platform: from the beginning", ask(platform, s.cfg.ServiceKey, time.Time{}), http.StatusAccepted)
	same(t, "runs that wait", s.count(`SELECT count(*) FROM reconciliations`), 1)
}

// A hundred yen are not a hundred pounds.
func TestJudgeTransfer_AnotherCurrencyIsNotOurPayout(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	id := uuid.Must(uuid.NewV7())
	s.exec(`
		INSERT INTO payouts (id, merchant_id, amount_minor, currency, recovery_point, outcome, finished_at)
		VALUES ($1, $2, 100, 'GBP', 'finished', 'unknown', now())`, id, acme)
	pair := reconciliation.Pair{Source: fromBank, Kind: "transfer", Subject: id, Theirs: &reconciliation.Side{Count: 1, Minor: 100, Currency: "JPY"}}
	judgement, err := s.judgeTransfer(t.Context(), pair)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "judgement", judgement.Finding+" "+string(judgement.Verdict), "amount-differs unresolvable")
	pair.Theirs.Currency = "GBP"
	if judgement, err = s.judgeTransfer(t.Context(), pair); err != nil {
		t.Fatal(err)
	}
	same(t, "judgement", judgement.Finding+" "+string(judgement.Verdict), "outcome-unknown resolved")
}

// The processor's statement has no line of a settlement. That the books never heard of one is
// seen because a run goes back further than a settlement is waited for, and only then.
func TestReconciliation_GoesBackToAPaymentThatSettlesLate(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	const waited = 72 * time.Hour
	begun := uuid.Must(uuid.NewV7())
	binary.BigEndian.PutUint64(begun[:8], uint64(time.Now().Add(-waited).UnixMilli())<<16|0x7000) //nolint:gosec // after 1970
	s.exec(`
		INSERT INTO payments (id, order_id, merchant_id, status, amount_minor, currency, charge_id, settled_at)
		VALUES ($1, gen_random_uuid(), $2, 'captured', 100, 'GBP', 'ch', now())`, begun, acme)
	for overlap, looks := range map[time.Duration]int{24 * time.Hour: 0, waited + time.Hour: 1} {
		n := s.count(`SELECT count(*) FROM (`+changedSQL+`) AS changed (id) WHERE id = $2`, time.Now().Add(-overlap), begun)
		same(t, "with an overlap of "+overlap.String(), n, looks)
	}
}

// A line that makes no sense is a difference of its own, and the rest is compared.
func TestReconcile_UnreadableLineIsADifference(t *testing.T) {
	t.Parallel()
	good := uuid.Must(uuid.NewV7())
	line := func(id, reference, minor string) string {
		return `{"id":"` + id + `","kind":"capture","reference":"` + reference + `","merchant_id":"mer_acme","amount":{"minor":` + minor + `,"currency":"GBP"},"at":"2026-01-01T00:00:00Z"}`
	}
	report := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"next_cursor":null,"data":[` + strings.Join([]string{
			line(uuid.NewString(), `pay_\u0000x`, "100"),
			line(uuid.NewString(), "pay_x", `"a lot"`),
			line(uuid.NewString(), "pay_x", "9223372036854775807"),
			line(strings.Repeat("x", 100_000), "pay_x", "100"),
			line("txn_1", "pay_"+good.String(), "100"), // names no operation, so its settlement could not be told
			line(uuid.NewString(), "pay_"+good.String(), "100"),
		}, ",") + `]}`))
	}))
	t.Cleanup(report.Close)
	s := newShop(t)
	s.seed(acme, acmeKey)
	s = s.with(func(cfg *settings) {
		cfg.ProcessorURL, cfg.EventsPoll, cfg.SettlementOverdue = report.URL, 5*time.Millisecond, 72*time.Hour
	})
	s.exec(`
		INSERT INTO payments (id, order_id, merchant_id, status, amount_minor, currency, charge_id, updated_at)
		VALUES ($1, $1, $2, 'captured', 100, 'GBP', 'ch', now() - interval '5 days')`, good, acme)
	found := map[string]int{}
	for _, d := range s.reconciled(s.cfg.ServiceKey).Differences {
		found[d.Finding+" "+d.Verdict]++
	}
	same(t, "differences", found, map[string]int{"unreadable-line unresolvable": 5})
	same(t, "settlements taken from the report", s.count(`SELECT count(*) FROM received_events`), 1)
}

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// listener takes webhooks, and checks the signature of each.
type listener struct {
	mu    sync.Mutex
	heard []webhook
	next  []int // statuses to answer; afterwards 204
	url   string
}

func listen(t *testing.T, statuses ...int) *listener {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(testSecret)
	must(t, err)
	l := &listener{next: statuses}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || verifier.Verify(body, r.Header) != nil {
			t.Errorf("a webhook that does not verify: %s", body)
		}
		var hook webhook
		if err := json.Unmarshal(body, &hook); err != nil || hook.ID != r.Header.Get("webhook-id") {
			t.Errorf("id %q in header of %s", r.Header.Get("webhook-id"), body)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.heard = append(l.heard, hook)
		status := http.StatusNoContent
		if len(l.next) > 0 {
			status, l.next = l.next[0], l.next[1:]
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

func (l *listener) all() []webhook {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]webhook(nil), l.heard...)
}

func (l *listener) target(s *settings) { s.WebhookTarget = l.url }

func (w *world) quiet() bool {
	return w.count(`SELECT count(*) FROM processor_events WHERE delivered_at IS NULL`) == 0
}

func TestWebhook_IsSentForCapturesAndRefundsOnly(t *testing.T) {
	t.Parallel()
	l := listen(t)
	w := start(t, l.target)
	id := w.captured()
	await(t, "the first settlement", func() bool { return len(l.all()) == 1 })
	expect(t, w.call("POST", "/v1/charges/"+id+"/refund", "r", `{"amount":{"minor":50,"currency":"GBP"}}`), 200, "")
	expect(t, w.call("POST", "/v1/charges/"+id+"/refund", "r", `{"amount":{"minor":50,"currency":"GBP"}}`), 200, "")
	await(t, "the second settlement", func() bool { return len(l.all()) == 2 && w.quiet() })
	for i, want := range []struct {
		kind  string
		minor int64
	}{{"charge.settled", 1250}, {"refund.settled", 50}} {
		hook := l.all()[i]
		equal(t, "type", hook.Type, want.kind)
		equal(t, "amount", hook.Data.Amount.Minor, want.minor)
		equal(t, "charge", hook.Data.ChargeID, id)
		equal(t, "reference", hook.Data.Reference, "pay_1")
		equal(t, "in the report", w.count(`SELECT count(*) FROM processor_operations WHERE id = $1`, hook.Data.OperationID), 1)
	}
}

func TestWebhook_NotTakenIsSentAgainUnderTheSameID(t *testing.T) {
	t.Parallel()
	l := listen(t, 500, 302, 429)
	w := start(t, l.target)
	w.captured()
	await(t, "delivery", w.quiet)
	equal(t, "tries", len(l.all()), 4)
	for _, hook := range l.all() {
		equal(t, "id", hook.ID, l.all()[0].ID)
	}
}

func TestWebhook_WaitsForTheSettlementDelay(t *testing.T) {
	t.Parallel()
	l := listen(t)
	w := start(t, l.target, func(s *settings) { s.SettleAfter = 300 * time.Millisecond })
	begun := time.Now()
	w.captured()
	await(t, "delivery", w.quiet)
	if took := time.Since(begun); took < 300*time.Millisecond {
		t.Errorf("came after %v", took)
	}
}

func TestWebhook_MisbehavesAsTold(t *testing.T) {
	t.Parallel()
	for fault, tries := range map[string]int{"duplicate": 2, "lose_answer": 2, "refuse": 1, "fail_before": 1, "delay": 1} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			l := listen(t)
			w := start(t, l.target)
			w.misbehave(`{"contract":"webhooks","fault":"` + fault + `","times":1,"delay_ms":20}`)
			w.captured()
			await(t, "delivery", w.quiet)
			equal(t, "heard", len(l.all()), tries)
		})
	}
}

func TestWebhook_ReorderedIsOvertakenAndNotLost(t *testing.T) {
	t.Parallel()
	l := listen(t)
	w := start(t, l.target)
	w.misbehave(`{"contract":"webhooks","fault":"reorder","times":1,"delay_ms":300}`)
	id := w.captured()
	await(t, "the hold", func() bool {
		return w.count(`SELECT count(*) FROM processor_events WHERE attempts = 1 AND due_at < now() + interval '10 seconds'`) == 1
	})
	expect(t, w.call("POST", "/v1/charges/"+id+"/refund", "r", ""), 200, "")
	await(t, "delivery", w.quiet)
	equal(t, "heard", len(l.all()), 2)
	equal(t, "first", l.all()[0].Type, "refund.settled")
	equal(t, "second", l.all()[1].Type, "charge.settled")
}

// A rule that always strikes holds each webhook once, not forever.
func TestWebhook_ReorderingAllStillDeliversAll(t *testing.T) {
	t.Parallel()
	l := listen(t)
	w := start(t, l.target)
	w.misbehave(`{"contract":"webhooks","fault":"reorder","delay_ms":20}`)
	w.captured()
	await(t, "delivery", w.quiet)
	equal(t, "heard", len(l.all()), 1)
}

func TestWebhook_ClaimedByADeadSenderIsSentByTheNext(t *testing.T) {
	t.Parallel()
	l := listen(t)
	w := start(t, l.target, func(s *settings) { s.SettleAfter = time.Hour })
	w.captured()
	// Claimed once, its time of grace is over, no process concluded it.
	_, err := w.db.Exec(t.Context(), `UPDATE processor_events SET attempts = 1, due_at = now()`)
	must(t, err)
	await(t, "delivery", w.quiet)
	equal(t, "heard", len(l.all()), 1)
}

func TestWebhook_WithoutATargetIsNotRecorded(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.captured()
	equal(t, "events", w.count(`SELECT count(*) FROM processor_events`), 0)
}

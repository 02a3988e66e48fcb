package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestAuthorise_FiftyConcurrentUnderOneKeyChargeOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	method := w.card(cardWorks)
	var mu sync.Mutex
	ids := map[string]bool{}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			g := w.authorise("key-1", method)
			switch {
			case g.status == 201:
				mu.Lock()
				ids[g.text("id")] = true
				mu.Unlock()
			case g.status == 409 && g.text("code") == "idempotency_key_in_use":
			default:
				t.Errorf("got %d %s %v", g.status, g.body, g.err)
			}
		})
	}
	all.Wait()
	equal(t, "operations", w.operations("authorise"), 1)
	equal(t, "charges", w.count(`SELECT count(*) FROM processor_charges`), 1)
	equal(t, "different answers", len(ids), 1)
}

func TestAuthorise_WithoutAKeyEachCallExecutes(t *testing.T) {
	t.Parallel()
	w := start(t)
	method := w.card(cardWorks)
	expect(t, w.authorise("", method), 201, "")
	expect(t, w.authorise("", method), 201, "")
	equal(t, "operations", w.operations("authorise"), 2)
	equal(t, "under the reference", len(w.call("GET", "/v1/charges?reference=pay_1", "", "").list(t)), 2)
}

func TestIdempotencyKey_RetryGetsTheSameBytes(t *testing.T) {
	t.Parallel()
	w := start(t)
	method := w.card(cardWorks)
	first, again := w.authorise(`"key-1"`, method), w.authorise("key-1", method)
	expect(t, first, 201, "")
	if !bytes.Equal(first.body, again.body) || again.status != 201 || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("first %s, then %d %s %v", first.body, again.status, again.body, again.header)
	}
	shown := w.call("GET", "/v1/charges/"+first.text("id"), "", "")
	if !bytes.Equal(first.body, shown.body) {
		t.Errorf("answered %s, shown %s", first.body, shown.body)
	}
}

func TestIdempotencyKey_OfACallThatDiesIsFreeAgain(t *testing.T) {
	t.Parallel()
	w := start(t)
	method := w.card(cardWorks)
	// A call in the middle of its transaction, as far as PostgreSQL can tell.
	other, err := w.db.Begin(t.Context())
	must(t, err)
	defer other.Rollback(context.Background()) //nolint:errcheck // gives the connection back when the test fails half-way
	_, err = other.Exec(t.Context(), `
		INSERT INTO processor_idempotency (key, fingerprint, status, body, created_at)
		VALUES ('key-1', '', 201, '', now())`)
	must(t, err)

	g := w.authorise("key-1", method)
	expect(t, g, 409, "idempotency_key_in_use")
	equal(t, "Retry-After", g.header.Get("Retry-After"), "1")
	must(t, other.Rollback(t.Context()))
	expect(t, w.authorise("key-1", method), 201, "")
	equal(t, "operations", w.operations("authorise"), 1)
}

func TestIdempotencyKey_ForOtherContentIsRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	method := w.card(cardWorks)
	body := `{"payment_method":"` + method + `","amount":{"minor":%d,"currency":"GBP"},"reference":"pay_1","merchant_id":"mer_acme"}`
	ch := w.call("POST", "/v1/charges", "key-1", fmt.Sprintf(body, 100))
	expect(t, ch, 201, "")
	expect(t, w.call("POST", "/v1/charges", "key-1", fmt.Sprintf(body, 101)), 422, "idempotency_key_reused")
	expect(t, w.call("POST", "/v1/charges/"+ch.text("id")+"/capture", "key-1", ""), 422, "idempotency_key_reused")

	// Another order of members and other white space are no other content.
	same := `{ "merchant_id":"mer_acme", "reference":"pay_1", "amount":{"currency":"GBP","minor":100}, "payment_method":"` + method + `" }`
	expect(t, w.call("POST", "/v1/charges", "key-1", same), 201, "")
	equal(t, "operations", w.operations("authorise"), 1)
	expect(t, w.authorise(strings.Repeat("k", 256), method), 400, "idempotency_key_invalid")
}

func TestAuthorise_DeclinesAreDefiniteAndRecorded(t *testing.T) {
	t.Parallel()
	w := start(t)
	for card, code := range map[string]string{cardDeclined: "card_declined", cardNoFunds: "insufficient_funds"} {
		method := w.card(card)
		first, again := w.authorise(code, method), w.authorise(code, method)
		expect(t, first, 402, code)
		if !bytes.Equal(first.body, again.body) || again.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("first %s, then %s", first.body, again.body)
		}
	}
	equal(t, "charges", w.count(`SELECT count(*) FROM processor_charges`), 0)
}

func TestCardFailsOnce_DoesNoWorkTheFirstTime(t *testing.T) {
	t.Parallel()
	w := start(t)
	method := w.card(cardFailsOnce)
	expect(t, w.authorise("key-1", method), 500, "internal_error")
	equal(t, "operations after the failure", w.operations("authorise"), 0)
	expect(t, w.authorise("key-1", method), 201, "")
	expect(t, w.authorise("key-1", method), 201, "")
	equal(t, "operations", w.operations("authorise"), 1)
}

func TestCardLosesTheFirst_HasDoneTheWork(t *testing.T) {
	t.Parallel()
	w := start(t)
	method := w.card(cardLosesTheFirst)
	if g := w.authorise("key-1", method); g.err == nil {
		t.Fatalf("the answer came: %d %s", g.status, g.body)
	}
	equal(t, "operations after the loss", w.operations("authorise"), 1)
	again := w.authorise("key-1", method)
	expect(t, again, 201, "")
	equal(t, "replayed", again.header.Get("Idempotent-Replayed"), "true")
	equal(t, "operations", w.operations("authorise"), 1)

	// Without a key the same retry charges twice: what the key is for.
	method = w.card(cardLosesTheFirst)
	if g := w.authorise("", method); g.err == nil {
		t.Fatalf("the answer came: %d %s", g.status, g.body)
	}
	expect(t, w.authorise("", method), 201, "")
	equal(t, "operations", w.operations("authorise"), 3)
}

func TestCard_MisbehavesOnceUnderConcurrentCalls(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, card := range []string{cardFailsOnce, cardLosesTheFirst} {
		method := w.card(card)
		var bad atomic.Int32
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if w.authorise("", method).status != 201 {
					bad.Add(1)
				}
			})
		}
		all.Wait()
		equal(t, card, bad.Load(), 1)
	}
}

func TestCapture_ThatFailsLeavesTheHoldToBeReleased(t *testing.T) {
	t.Parallel()
	w := start(t)
	id := w.authorise("", w.card(cardNoCapture)).text("id")
	expect(t, w.call("POST", "/v1/charges/"+id+"/capture", "key-c", "{}"), 402, "capture_failed")
	expect(t, w.call("POST", "/v1/charges/"+id+"/capture", "key-c", "{}"), 402, "capture_failed")
	equal(t, "status", w.call("GET", "/v1/charges/"+id, "", "").text("status"), "authorised")
	expect(t, w.call("POST", "/v1/charges/"+id+"/void", "key-v", ""), 200, "")
	equal(t, "captures", w.operations("capture"), 0)
	equal(t, "voids", w.operations("void"), 1)
}

func TestHold_IsCapturedOrVoidedOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	method := w.card(cardWorks)

	taken := "/v1/charges/" + w.authorise("", method).text("id")
	expect(t, w.call("POST", taken+"/refund", "", ""), 409, "not_captured")
	expect(t, w.call("POST", taken+"/capture", "c1", ""), 200, "")
	expect(t, w.call("POST", taken+"/capture", "c1", ""), 200, "")
	expect(t, w.call("POST", taken+"/capture", "c2", ""), 409, "already_captured")
	expect(t, w.call("POST", taken+"/void", "v1", ""), 409, "already_captured")

	released := "/v1/charges/" + w.authorise("", method).text("id")
	expect(t, w.call("POST", released+"/void", "v2", ""), 200, "")
	expect(t, w.call("POST", released+"/void", "v2", ""), 200, "")
	expect(t, w.call("POST", released+"/void", "v3", ""), 409, "already_voided")
	expect(t, w.call("POST", released+"/capture", "c3", ""), 409, "already_voided")

	equal(t, "captures", w.operations("capture"), 1)
	equal(t, "voids", w.operations("void"), 1)
	expect(t, w.call("POST", "/v1/charges/ch_none/void", "v4", ""), 404, "unknown_charge")
}

func TestHold_CaptureAndVoidAtOnceDoNotBothHappen(t *testing.T) {
	t.Parallel()
	w := start(t)
	method := w.card(cardWorks)
	for i := range 10 {
		ch := "/v1/charges/" + w.authorise("", method).text("id")
		var done atomic.Int32
		var all sync.WaitGroup
		for _, what := range []string{"capture", "void", "capture", "void"} {
			all.Go(func() {
				if w.call("POST", ch+"/"+what, "", "").status == 200 {
					done.Add(1)
				}
			})
		}
		all.Wait()
		equal(t, "done", done.Load(), 1)
		equal(t, "operations", w.operations("capture")+w.operations("void"), i+1)
	}
}

func TestRefund_ConcurrentOnesNeverExceedTheCapture(t *testing.T) {
	t.Parallel()
	w := start(t)
	ch := "/v1/charges/" + w.captured()
	var given atomic.Int32
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			for {
				g := w.call("POST", ch+"/refund", fmt.Sprintf("r%d", i), `{"amount":{"minor":100,"currency":"GBP"}}`)
				switch {
				case g.status == 200:
					given.Add(1)
				case g.status == 429 || g.text("code") == "idempotency_key_in_use":
					continue // busy: nothing was done
				case g.text("code") != "refund_exceeds_capture":
					t.Errorf("got %d %s %v", g.status, g.body, g.err)
				}
				return
			}
		})
	}
	all.Wait()
	equal(t, "given", given.Load(), 12) // 12.50 in portions of 1.00
	equal(t, "operations", w.operations("refund"), 12)
	equal(t, "refunded_minor", w.call("GET", ch, "", "").field("refunded_minor").(float64), 1200)

	// The rest, without an amount; and then there is no more.
	expect(t, w.call("POST", ch+"/refund", "rest", ""), 200, "")
	expect(t, w.call("POST", ch+"/refund", "more", ""), 422, "refund_exceeds_capture")
	expect(t, w.call("POST", ch+"/refund", "yen", `{"amount":{"minor":1,"currency":"JPY"}}`), 422, "currency_mismatch")
	equal(t, "sum", w.count(`SELECT sum(amount_minor) FROM processor_operations WHERE kind = 'refund'`), 1250)
}

func TestCapture_GoesOnWhenTheCallerHangsUp(t *testing.T) {
	t.Parallel()
	w := start(t)
	ch := "/v1/charges/" + w.authorise("", w.card(cardWorks)).text("id")
	w.misbehave(`{"contract":"charges.capture","fault":"delay","delay_ms":300,"at":"before"}`)
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if g := w.callWith(impatient, "POST", ch+"/capture", "c1", ""); g.err == nil {
		t.Fatalf("the answer came: %s", g.body)
	}
	equal(t, "captures when the caller gave up", w.operations("capture"), 0)
	await(t, "the capture", func() bool { return w.operations("capture") == 1 })
}

func TestAPIKey_IsRequiredExceptForTokens(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, path := range []string{"/v1/charges?reference=x", "/v1/charges/ch_1", "/v1/report", "/v1/payment_methods?reference=x"} {
		resp, err := http.Get(w.url + path)
		must(t, err)
		must(t, resp.Body.Close())
		equal(t, path, resp.StatusCode, 401)
	}
	resp, err := http.Post(w.url+"/v1/tokens", "application/json", strings.NewReader(`{"card":"4242424242424242"}`))
	must(t, err)
	must(t, resp.Body.Close())
	equal(t, "tokens", resp.StatusCode, 201)
}

func TestAuthorise_NamesTheMalformedField(t *testing.T) {
	t.Parallel()
	w := start(t)
	for field, body := range map[string]string{
		"payment_method":  `{"amount":{"minor":1,"currency":"GBP"},"reference":"r","merchant_id":"m"}`,
		"amount.minor":    `{"payment_method":"pm","amount":{"minor":0,"currency":"GBP"},"reference":"r","merchant_id":"m"}`,
		"amount.currency": `{"payment_method":"pm","amount":{"minor":1,"currency":"XXX"},"reference":"r","merchant_id":"m"}`,
		"reference":       `{"payment_method":"pm","amount":{"minor":1,"currency":"GBP"},"merchant_id":"m"}`,
		"merchant_id":     `{"payment_method":"pm","amount":{"minor":1,"currency":"GBP"},"reference":"r"}`,
	} {
		g := w.call("POST", "/v1/charges", "key", body)
		if g.status != 422 || g.text("field") != field {
			t.Errorf("%s: got %d %s", field, g.status, g.body)
		}
	}
	expect(t, w.authorise("key", "pm_none"), 404, "unknown_payment_method")
	equal(t, "recorded", w.count(`SELECT count(*) FROM processor_idempotency`), 0)
	equal(t, "zero byte", w.call("GET", "/v1/charges/%00", "", "").status, 400)
}

// A key that is forgotten is a new question: the money moves again. The reference still
// tells what was done.
func TestForgetKeys_AForgottenKeyIsANewQuestion(t *testing.T) {
	t.Parallel()
	w := start(t)
	refund := "/v1/charges/" + w.captured() + "/refund"
	body := `{"amount":{"minor":100,"currency":"GBP"},"reference":"rfd_1"}`
	for i, sum := range []int{100, 200} {
		expect(t, w.call("POST", refund, "k", body), 200, "")
		expect(t, w.call("POST", refund, "k", body), 200, "")
		equal(t, "given back", w.count(`SELECT sum(amount_minor) FROM processor_operations WHERE kind = 'refund'`), sum)
		equal(t, "under the reference", len(w.call("GET", "/v1/refunds?reference=rfd_1", "", "").list(t)), i+1)
		forgotten := w.call("DELETE", "/faults/keys", "", "")
		expect(t, forgotten, 200, "")
		equal(t, "forgotten", forgotten.field("forgotten"), any(1.0))
	}
	equal(t, "under another", len(w.call("GET", "/v1/refunds?reference=rfd_2", "", "").list(t)), 0)
}

package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestFaults_OneTimeRulesStrikeInTheirOrder(t *testing.T) {
	t.Parallel()
	w := start(t)
	method := w.card(cardWorks)
	w.misbehave(`{"contract":"charges.create","fault":"fail_before","times":1},{"contract":"charges.create","fault":"lose_answer","times":1}`)
	expect(t, w.authorise("key-1", method), 500, "internal_error")
	equal(t, "after fail_before", w.operations("authorise"), 0)
	if g := w.authorise("key-1", method); g.err == nil {
		t.Fatalf("the answer came: %s", g.body)
	}
	equal(t, "after lose_answer", w.operations("authorise"), 1)
	expect(t, w.authorise("key-1", method), 201, "")
	equal(t, "in the end", w.operations("authorise"), 1)

	rules := w.call("GET", "/faults", "", "").field("rules").([]any)
	equal(t, "struck", rules[1].(map[string]any)["struck"].(float64), 1)
	equal(t, "cleared", w.call("DELETE", "/faults", "", "").status, 204)
	equal(t, "rules", len(w.call("GET", "/faults", "", "").field("rules").([]any)), 0)
}

// Go's client repeats a keyed request by itself when a connection that it used
// before closes without a byte. A caller under test must see the loss.
func TestFaults_LostAnswerIsSeenOnAReusedConnection(t *testing.T) {
	t.Parallel()
	w := start(t)
	method := w.card(cardWorks)
	transport := &http.Transport{MaxConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	w.client = &http.Client{Transport: transport}
	expect(t, w.authorise("warm", method), 201, "")
	w.misbehave(`{"contract":"charges.create","fault":"lose_answer","times":1}`)
	if g := w.authorise("key-1", method); g.err == nil {
		t.Errorf("the loss was papered over: %d %s", g.status, g.body)
	}
	equal(t, "operations", w.operations("authorise"), 2)
}

// A "no" to the retry of a call that did its work would be believed, and the
// held money forgotten.
func TestFaults_RefusalNeverContradictsWhatTheKeyDid(t *testing.T) {
	t.Parallel()
	w := start(t)
	ch := w.authorise("key-1", w.card(cardWorks))
	expect(t, ch, 201, "")
	w.misbehave(`{"contract":"charges.create","fault":"refuse"},{"contract":"charges.capture","fault":"refuse","times":1}`)
	expect(t, w.authorise("key-1", ch.text("payment_method")), 201, "")
	expect(t, w.authorise("key-2", ch.text("payment_method")), 402, "card_declined")

	// And a refusal stays one, also when the rule is used up.
	path := "/v1/charges/" + ch.text("id") + "/capture"
	expect(t, w.call("POST", path, "key-c", ""), 402, "capture_failed")
	expect(t, w.call("POST", path, "key-c", ""), 402, "capture_failed")
	equal(t, "captures", w.operations("capture"), 0)
}

func TestFaults_EveryContractCanRefuse(t *testing.T) {
	t.Parallel()
	w := start(t)
	token := w.call("POST", "/v1/tokens", "", `{"card":"4242424242424242"}`).text("token")
	held, taken := w.authorise("", w.card(cardWorks)).text("id"), w.captured()
	var rules []string
	for _, contract := range contracts {
		if !slices.Contains(statements, contract) {
			rules = append(rules, `{"contract":"`+contract+`","fault":"refuse"}`)
		}
	}
	w.misbehave(strings.Join(rules, ","))
	before := w.count(`SELECT count(*) FROM processor_operations`)
	expect(t, w.call("POST", "/v1/tokens", "", `{"card":"4242424242424242"}`), 402, "card_declined")
	expect(t, w.call("POST", "/v1/payment_methods", "", `{"token":"`+token+`","reference":"r"}`), 402, "card_declined")
	expect(t, w.call("POST", "/v1/charges/"+held+"/capture", "", ""), 402, "capture_failed")
	expect(t, w.call("POST", "/v1/charges/"+held+"/void", "", ""), 402, "void_failed")
	expect(t, w.call("POST", "/v1/charges/"+taken+"/refund", "", ""), 402, "refund_failed")
	expect(t, w.call("POST", "/bank/transfers", "", `{"reference":"r","amount":{"minor":1,"currency":"GBP"},"account":"a"}`), 422, "transfer_refused")
	equal(t, "operations", w.count(`SELECT count(*) FROM processor_operations`), before)
}

func TestFaults_DelayedAnswerComesAfterTheWork(t *testing.T) {
	t.Parallel()
	w := start(t)
	method := w.card(cardWorks)
	w.misbehave(`{"contract":"charges.create","fault":"delay","delay_ms":1500,"times":1}`)
	answered := make(chan got, 1)
	go func() { answered <- w.authorise("key-1", method) }()
	await(t, "the work", func() bool { return w.operations("authorise") == 1 })
	done := time.Now()
	expect(t, <-answered, 201, "")
	if late := time.Since(done); late < 500*time.Millisecond {
		t.Errorf("the answer came %v after the work", late)
	}
}

func TestFaults_RateIsTheSameInEveryRun(t *testing.T) {
	t.Parallel()
	half := 0.5
	draw := func(seed uint64, noise bool) string {
		f := newFaults(seed)
		f.replace([]rule{{Contract: "tokens", Fault: "refuse", Rate: &half}, {Contract: "merchant", Fault: "refuse", Rate: &half}})
		var out strings.Builder
		for range 64 {
			if noise {
				f.next("merchant")
			}
			fmt.Fprint(&out, f.next("tokens").fault == "refuse", " ")
		}
		return out.String()
	}
	equal(t, "same seed", draw(7, false), draw(7, false))
	equal(t, "calls of another contract between", draw(7, true), draw(7, false))
	if draw(7, false) == draw(8, false) {
		t.Error("another seed drew the same")
	}
	if struck := strings.Count(draw(7, false), "true"); struck < 16 || struck > 48 {
		t.Errorf("half of 64 came out as %d", struck)
	}
}

func TestFaults_ConcurrentCallsAreStruckOnlyAsOftenAsTold(t *testing.T) {
	t.Parallel()
	f := newFaults(1)
	f.replace([]rule{{Contract: "tokens", Fault: "refuse", Times: 10}})
	var mu sync.Mutex
	struck := 0
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if f.next("tokens").fault != "" {
				mu.Lock()
				struck++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	equal(t, "struck", struck, 10)
}

func TestFaults_InvalidRulesAreRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.misbehave(`{"contract":"tokens","fault":"refuse"}`)
	for field, rule := range map[string]string{
		"rules[0].contract": `{"contract":"charges","fault":"refuse"}`,
		"rules[0].fault":    `{"contract":"charges.create","fault":"duplicate"}`,
		"rules[0].times":    `{"contract":"tokens","fault":"refuse","times":-1}`,
		"rules[0].rate":     `{"contract":"tokens","fault":"refuse","rate":1.5}`,
		"rules[0].delay_ms": `{"contract":"tokens","fault":"delay","delay_ms":30000}`,
		"rules[0].at":       `{"contract":"tokens","fault":"delay","at":"never"}`,
	} {
		g := w.call("PUT", "/faults", "", `{"rules":[`+rule+`]}`)
		if g.status != 422 || g.text("field") != field {
			t.Errorf("%s: got %d %s", rule, g.status, g.body)
		}
	}
	equal(t, "rules still in force", len(w.call("GET", "/faults", "", "").field("rules").([]any)), 1)
}

// Deterministic faults are worth little when the sandbox itself hangs.
func TestFaults_LostAnswerEndsTheCallAtOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.misbehave(`{"contract":"bank.transfers","fault":"lose_answer"}`)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	g := w.callWith(ctx, "POST", "/bank/transfers", "", `{"reference":"pyo_1","amount":{"minor":5,"currency":"GBP"},"account":"a"}`)
	if g.err == nil || ctx.Err() != nil {
		t.Errorf("got %d %s, error %v", g.status, g.body, g.err)
	}
	equal(t, "transfers", w.count(`SELECT count(*) FROM bank_transfers`), 1)
}

package main

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestToken_IsRedeemedOnceUnderConcurrentCalls(t *testing.T) {
	t.Parallel()
	w := start(t)
	token := w.call("POST", "/v1/tokens", "", `{"card":"4242 4242 4242 4242","exp_month":12,"exp_year":2030}`)
	expect(t, token, 201, "")
	equal(t, "card_last4", token.text("card_last4"), "4242")

	var redeemed, used atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			switch g := w.call("POST", "/v1/payment_methods", "", `{"token":"`+token.text("token")+`","reference":"pay_7"}`); {
			case g.status == 201:
				redeemed.Add(1)
			case g.status == 409 && g.text("code") == "token_already_used":
				used.Add(1)
			default:
				t.Errorf("got %d %s %v", g.status, g.body, g.err)
			}
		})
	}
	all.Wait()
	equal(t, "redeemed", redeemed.Load(), 1)
	equal(t, "refused", used.Load(), 19)

	// A client that lost the answer catches up by reference.
	found := w.call("GET", "/v1/payment_methods?reference=pay_7", "", "").list(t)
	if len(found) != 1 || found[0]["token"] != token.text("token") {
		t.Errorf("by reference: %v", found)
	}
}

func TestToken_WhoseAnswerWasLostIsFoundByReference(t *testing.T) {
	t.Parallel()
	w := start(t)
	token := w.call("POST", "/v1/tokens", "", `{"card":"4242424242424242"}`).text("token")
	w.misbehave(`{"contract":"payment_methods","fault":"lose_answer","times":1}`)
	if g := w.call("POST", "/v1/payment_methods", "", `{"token":"`+token+`","reference":"pay_8"}`); g.err == nil {
		t.Fatalf("the answer came: %s", g.body)
	}
	expect(t, w.call("POST", "/v1/payment_methods", "", `{"token":"`+token+`","reference":"pay_8"}`), 409, "token_already_used")
	equal(t, "found", len(w.call("GET", "/v1/payment_methods?reference=pay_8", "", "").list(t)), 1)
}

func TestToken_WrongTokensAndCardsAreRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	expect(t, w.call("POST", "/v1/payment_methods", "", `{"token":"tok_none","reference":"pay_1"}`), 404, "unknown_token")
	for _, body := range []string{`{"card":"4111111111111111"}`, `{}`, `{"card":"4242424242424242","exp_month":13}`, `{"card":"4242424242424242","cvc":1}`} {
		if g := w.call("POST", "/v1/tokens", "", body); g.status != 422 || g.text("field") == "" {
			t.Errorf("%s: got %d %s", body, g.status, g.body)
		}
	}
	for _, body := range []string{`{"token":"","reference":"r"}`, `{"token":"tok_x","reference":""}`} {
		if g := w.call("POST", "/v1/payment_methods", "", body); g.status != 422 || g.text("field") == "" {
			t.Errorf("%s: got %d %s", body, g.status, g.body)
		}
	}
	equal(t, "zero byte", w.call("POST", "/v1/payment_methods", "", `{"token":"tok_x","reference":"a\u0000b"}`).status, 400)
	equal(t, "without reference", w.call("GET", "/v1/payment_methods", "", "").status, 422)
}

package shop

import (
	"net/http"
	"testing"
)

func answer(status int, body string, header ...string) Answer {
	a := Answer{Status: status, Header: http.Header{}, Body: []byte(body)}
	for i := 0; i < len(header); i += 2 {
		a.Header.Set(header[i], header[i+1])
	}
	return a
}

const (
	ordersURL  = "http://127.0.0.1:1/v1/orders"
	refundsURL = "http://127.0.0.1:1/v1/refunds"
)

func TestDefinite_OnlyForAFinalAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		url  string
		a    Answer
		want bool
	}{
		"no answer at all":              {refundsURL, Answer{}, false},
		"an order is accepted":          {ordersURL, answer(202, `{"status":"pending"}`), true},
		"a refund is finished":          {refundsURL, answer(201, `{"status":"succeeded"}`), true},
		"a refund is not finished":      {refundsURL, answer(202, `{"status":"pending"}`), false},
		"the payout is unknown":         {refundsURL, answer(202, `{"status":"unknown"}`), true},
		"another request is at work":    {refundsURL, answer(409, `{}`, "Retry-After", "1"), false},
		"a conflict that will not end":  {refundsURL, answer(409, `{}`), true},
		"refused":                       {ordersURL, answer(422, `{}`), true},
		"not found":                     {ordersURL, answer(404, `{}`), true},
		"too many":                      {ordersURL, answer(429, `{}`), false},
		"the service is in trouble":     {ordersURL, answer(503, `{}`), false},
		"something before it, which is": {ordersURL, answer(502, `<html>`), false},
	} {
		if got := c.a.Definite(c.url); got != c.want {
			t.Errorf("%s: definite %v", name, got)
		}
	}
}

func TestVerdict_FindsARetryWithAnotherAnswer(t *testing.T) {
	first := answer(202, `{"id":"ord_1","status":"pending"}`, "Location", "/v1/orders/ord_1")
	for name, c := range map[string]struct {
		later Answer
		same  bool
	}{
		"the same":         {answer(202, `{"id":"ord_1","status":"pending"}`, "Location", "/v1/orders/ord_1", "Idempotent-Replayed", "true"), true},
		"in trouble":       {answer(503, `{}`), true},
		"at work":          {answer(409, `{}`, "Retry-After", "1"), true},
		"malformed":        {answer(400, `{}`), false},
		"not found":        {answer(404, `{}`), false},
		"a conflict":       {answer(409, `{}`), false},
		"refused":          {answer(422, `{}`), false},
		"unauthenticated":  {answer(401, `{}`), false},
		"another status":   {answer(201, `{"id":"ord_1","status":"pending"}`, "Location", "/v1/orders/ord_1"), false},
		"another order":    {answer(202, `{"id":"ord_2","status":"pending"}`, "Location", "/v1/orders/ord_2"), false},
		"another byte":     {answer(202, `{"id":"ord_1","status":"pending"}`+"\n", "Location", "/v1/orders/ord_1"), false},
		"another location": {answer(202, `{"id":"ord_1","status":"pending"}`, "Location", "/v1/orders/ord_2"), false},
	} {
		answers := Answers{URL: ordersURL, Key: "k"}
		answers.Heard(answer(503, `{}`)) // before the first: no answer
		answers.Heard(first)
		answers.Heard(c.later)
		if _, differing := answers.Verdict(); (len(differing) == 0) != c.same {
			t.Errorf("%s: %v", name, differing)
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// bank is our bank's API. It takes no keys: two calls are two transfers.
type bank struct {
	url    string
	client *http.Client
}

func newBank(url string, timeout time.Duration) bank {
	client := web.Client(timeout)
	client.Transport = sentOnce{client.Transport}
	return bank{url: url, client: client}
}

// transfer sends money out of our account. It returns nil when the bank has
// done it, a *refusal when it definitely has not, and any other error when the
// outcome is not known.
func (b bank) transfer(ctx context.Context, reference, account string, amount money.Money) error {
	status, answer, err := web.Call(ctx, b.client, web.Request{
		Method: http.MethodPost, URL: b.url + "/bank/transfers",
		In: map[string]any{"reference": reference, "account": account, "amount": amount},
	})
	if cause, ok := errors.AsType[notSent](err); ok {
		return fmt.Errorf("bank: %w: %w", &refusal{by: "bank", code: "bank_unreachable"}, cause)
	}
	if err != nil {
		return fmt.Errorf("bank: %w", err)
	}
	if status == http.StatusCreated {
		return nil
	}
	var problem struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(answer, &problem) // an answer without a code is indefinite below
	if status == http.StatusUnprocessableEntity && problem.Code == "transfer_refused" {
		return &refusal{by: "bank", code: problem.Code}
	}
	return fmt.Errorf("bank: outcome unknown: status %d, code %q", status, problem.Code)
}

// notSent is the error of a request that has not left this process.
type notSent struct{ error }

func (n notSent) Unwrap() error { return n.error }

// sentOnce sends each request once at most, and knows when it has not sent it at all.
type sentOnce struct{ next http.RoundTripper }

func (s sentOnce) RoundTrip(r *http.Request) (*http.Response, error) {
	var connected atomic.Bool
	r = r.Clone(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	}))
	// A body that cannot be rewound: Go's transport repeats a request by itself
	// when a kept connection turns out to be closed, if it can. This one must not be.
	r.GetBody = nil
	// And a connection of its own: then one that fails to be made is a definite "not
	// sent". On a kept one it cannot be told how far the request has come.
	r.Close = true
	response, err := s.next.RoundTrip(r)
	if err != nil && !connected.Load() {
		err = notSent{err}
	}
	return response, err
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// bank is our bank's API. It takes no keys: whoever calls twice pays twice.
type bank struct {
	url    string
	client *http.Client
}

func newBank(url string, timeout time.Duration) bank {
	return bank{url: url, client: web.Client(timeout)}
}

// transfer sends money out of our account. It returns nil when the bank has
// done it, a *refusal when it definitely has not, and any other error when nobody
// knows.
func (b bank) transfer(ctx context.Context, reference, account string, amount money.Money) error {
	body, err := json.Marshal(map[string]any{"reference": reference, "account": account, "amount": amount})
	if err != nil {
		return fmt.Errorf("bank: encode: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/bank/transfers", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("bank: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	// A body that cannot be rewound: Go's transport repeats a request by itself
	// when a kept connection turns out to be closed, if it can. This one must not be.
	request.GetBody = nil
	// And a connection of its own: then one that fails to be made is a definite "not
	// sent". On a kept one, nobody could tell how far the request has come.
	request.Close = true
	var connected atomic.Bool
	request = request.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	}))
	response, err := b.client.Do(request)
	if err != nil && !connected.Load() {
		return fmt.Errorf("bank: nothing was sent: %w: %w", &refusal{by: "bank", code: "bank_unreachable"}, err)
	}
	if err != nil {
		return fmt.Errorf("bank: outcome unknown: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("bank: outcome unknown, the answer broke off: %w", err)
	}
	if response.StatusCode == http.StatusCreated {
		return nil
	}
	var problem struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(answer, &problem) // an answer without a code is indefinite below
	if response.StatusCode == http.StatusUnprocessableEntity && problem.Code == "transfer_refused" {
		return &refusal{by: "bank", code: problem.Code}
	}
	return fmt.Errorf("bank: outcome unknown: status %d, code %q", response.StatusCode, problem.Code)
}

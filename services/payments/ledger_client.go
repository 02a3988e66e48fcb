package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// ledgerClient is the ledger's API, as far as this service uses it.
type ledgerClient struct {
	url, key string
	client   *http.Client
}

func newLedgerClient(url, key string, timeout time.Duration) ledgerClient {
	return ledgerClient{url: url, key: key, client: web.Client(timeout)}
}

type ledgerEntry struct {
	Kind       string          `json:"kind"`
	Source     string          `json:"source"`
	Reference  string          `json:"reference"`
	MerchantID string          `json:"merchant_id"`
	Postings   []ledgerPosting `json:"postings"`
}

type ledgerPosting struct {
	Account string      `json:"account"`
	Amount  money.Money `json:"amount"`
}

// post books an entry. The ledger knows it by kind and source, so posting it
// again is harmless, and the error of a call that was lost is no reason to worry.
func (l ledgerClient) post(ctx context.Context, e ledgerEntry) error {
	status, answer, err := l.call(ctx, http.MethodPost, "/v1/entries", e)
	if err != nil {
		return err
	}
	if status != http.StatusCreated && status != http.StatusOK {
		return fmt.Errorf("ledger: entry %s of %s not booked: status %d, %s", e.Kind, e.Source, status, answer)
	}
	return nil
}

// prepare has the ledger prepare an entry as its half of a distributed
// transaction. A *refusal is a definite no: nothing is prepared.
func (l ledgerClient) prepare(ctx context.Context, gid string, e ledgerEntry) error {
	status, answer, err := l.call(ctx, http.MethodPost, "/2pc/"+url.PathEscape(gid)+"/prepare", e)
	switch {
	case err != nil:
		return err
	case status == http.StatusNoContent:
		return nil
	}
	var problem struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(answer, &problem) // an answer without a type is indefinite
	if status == http.StatusUnprocessableEntity && strings.HasSuffix(problem.Type, "/insufficient-balance") {
		return &refusal{by: "ledger", code: "insufficient_balance"}
	}
	return fmt.Errorf("ledger: %s not prepared: status %d, %s", gid, status, answer)
}

// commit and rollback carry out the decision on what was prepared.
func (l ledgerClient) commit(ctx context.Context, gid string) error {
	return l.carryOut(ctx, gid, "commit")
}
func (l ledgerClient) rollback(ctx context.Context, gid string) error {
	return l.carryOut(ctx, gid, "rollback")
}

func (l ledgerClient) carryOut(ctx context.Context, gid, decision string) error {
	status, answer, err := l.call(ctx, http.MethodPost, "/2pc/"+url.PathEscape(gid)+"/"+decision, struct{}{})
	if err == nil && status != http.StatusNoContent {
		err = fmt.Errorf("ledger: %s of %s: status %d, %s", decision, gid, status, answer)
	}
	return err
}

// call makes one call and returns the answer. An error means that the outcome is
// not known.
func (l ledgerClient) call(ctx context.Context, method, path string, in any) (status int, answer []byte, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, nil, fmt.Errorf("ledger: encode: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, method, l.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("ledger: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+l.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := l.client.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("ledger: outcome unknown: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("ledger: outcome unknown, the answer broke off: %w", err)
	}
	return response.StatusCode, answer, nil
}

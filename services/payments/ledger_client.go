package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// ledgerClient is the ledger's API, as far as this service uses it.
type ledgerClient struct {
	url, key string
	client   *http.Client
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

// book books an entry. The ledger knows it by kind and source, so booking it
// again is harmless after a call whose answer was lost.
func (l ledgerClient) book(ctx context.Context, e ledgerEntry) error {
	status, answer, err := l.post(ctx, "/v1/entries", e)
	if err == nil && status != http.StatusCreated && status != http.StatusOK {
		err = ledgerError("entry "+e.Kind+" of "+e.Source, status, answer)
	}
	return err
}

// prepare has the ledger prepare an entry as its half of a distributed
// transaction. A *refusal is a definite no: nothing is prepared.
func (l ledgerClient) prepare(ctx context.Context, gid string, e ledgerEntry) error {
	status, answer, err := l.post(ctx, "/2pc/"+url.PathEscape(gid)+"/prepare", e)
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
	return ledgerError("prepare of "+gid, status, answer)
}

// commit and rollback carry out the decision on what was prepared.
func (l ledgerClient) commit(ctx context.Context, gid string) error {
	return l.carryOut(ctx, gid, "commit")
}
func (l ledgerClient) rollback(ctx context.Context, gid string) error {
	return l.carryOut(ctx, gid, "rollback")
}

func (l ledgerClient) carryOut(ctx context.Context, gid, decision string) error {
	status, answer, err := l.post(ctx, "/2pc/"+url.PathEscape(gid)+"/"+decision, struct{}{})
	if err == nil && status != http.StatusNoContent {
		err = ledgerError(decision+" of "+gid, status, answer)
	}
	return err
}

// post makes one call and returns the answer. An error means that the outcome is
// not known.
func (l ledgerClient) post(ctx context.Context, path string, in any) (status int, answer []byte, err error) {
	status, answer, err = web.Call(ctx, l.client, web.Request{Method: http.MethodPost, URL: l.url + path, Bearer: l.key, In: in})
	if err != nil {
		err = fmt.Errorf("ledger: %w", err)
	}
	return status, answer, err
}

// ledgerError is the error of an answer that was not expected. One that is definite is a
// contradiction: the ledger was asked for nothing that it may refuse.
func ledgerError(call string, status int, answer []byte) error {
	err := fmt.Errorf("ledger: %s: status %d, %s", call, status, answer)
	if !web.OutcomeUnknown(nil, status) {
		err = fmt.Errorf("%w: %w", errContradiction, err)
	}
	return err
}

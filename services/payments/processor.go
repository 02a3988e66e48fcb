package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// refusal is a definite "no" from a system that we have called. Everything else that
// goes wrong is an indefinite error: the work may have been done.
type refusal struct {
	by   string // processor, bank or ledger
	code string
}

func (r *refusal) Error() string { return "the " + r.by + " refuses: " + r.code }

// errContradiction means: the processor or the ledger refuses what by our own record
// cannot be refused. Mostly it has done it already, for us, and has forgotten the key. It
// is not a "no": taken for one, money that has moved would be booked as if it had not. No
// further try helps, so a person must look.
var errContradiction = errors.New("the answer contradicts our own record")

// processor is the card processor's API.
type processor struct {
	url, key string
	client   *http.Client
}

type charge struct {
	ID string `json:"id"`
}

// madeRefund is a refund as the processor has carried it out.
type madeRefund struct {
	ChargeID string      `json:"charge_id"`
	Amount   money.Money `json:"amount"`
}

func (p processor) redeem(ctx context.Context, token, reference string) (method string, err error) {
	var out struct {
		PaymentMethod string `json:"payment_method"`
	}
	err = p.call(ctx, http.MethodPost, "/v1/payment_methods", "", map[string]string{"token": token, "reference": reference}, &out,
		"card_declined", "unknown_token", "token_already_used")
	return out.PaymentMethod, err
}

// redeemedFor finds the payment method that was redeemed under our reference.
func (p processor) redeemedFor(ctx context.Context, reference string) (method string, found bool, err error) {
	type redeemed struct {
		PaymentMethod string `json:"payment_method"`
	}
	data, err := listFor[redeemed](ctx, p, "/v1/payment_methods", reference)
	if err != nil || len(data) == 0 {
		return "", false, err
	}
	return data[0].PaymentMethod, true, nil
}

func (p processor) authorise(ctx context.Context, key string, of payment) (charge, error) {
	var out charge
	in := map[string]any{"payment_method": of.Method, "amount": of.Amount, "reference": of.wireID(), "merchant_id": of.MerchantID}
	err := p.call(ctx, http.MethodPost, "/v1/charges", key, in, &out, "card_declined", "insufficient_funds")
	if err == nil && out.ID == "" {
		err = fmt.Errorf("processor: an authorisation without an id")
	}
	return out, err
}

// capture takes the amount that is held. "It is taken already" is no refusal if it
// was taken for us, all of it: the charge tells.
func (p processor) capture(ctx context.Context, key, chargeID, reference string, amount money.Money) error {
	address := "/v1/charges/" + url.PathEscape(chargeID)
	err := p.call(ctx, http.MethodPost, address+"/capture", key, struct{}{}, nil, "capture_failed", "already_voided", "already_captured")
	if declined, ok := errors.AsType[*refusal](err); !ok || declined.code != "already_captured" {
		return err
	}
	var is struct {
		Status    string      `json:"status"`
		Reference string      `json:"reference"`
		Amount    money.Money `json:"amount"`
		Captured  int64       `json:"captured_minor"`
	}
	if err := p.call(ctx, http.MethodGet, address, "", nil, &is); err != nil {
		return err
	}
	if is.Status != captured || is.Reference != reference || (money.Money{Minor: is.Captured, Currency: is.Amount.Currency}) != amount {
		return fmt.Errorf("%w: charge %s is already captured, over %d of %s for %q", errContradiction, chargeID, is.Captured, is.Amount, is.Reference)
	}
	return nil
}

func (p processor) void(ctx context.Context, key, chargeID string) error {
	return p.call(ctx, http.MethodPost, "/v1/charges/"+url.PathEscape(chargeID)+"/void", key, struct{}{}, nil, "already_voided", "already_captured")
}

// refund gives money back. id is the key, and the reference by which the refund can be
// looked up when the key is forgotten. "There is nothing left to give back" contradicts our own
// row, from which the amount was set aside.
func (p processor) refund(ctx context.Context, id, chargeID string, amount money.Money) error {
	in := map[string]any{"amount": amount, "reference": id}
	err := p.call(ctx, http.MethodPost, "/v1/charges/"+url.PathEscape(chargeID)+"/refund", id, in, nil,
		"refund_failed", "refund_exceeds_capture", "not_captured")
	if declined, ok := errors.AsType[*refusal](err); ok && declined.code != "refund_failed" {
		return fmt.Errorf("%w: refund of %s on charge %s: %s", errContradiction, amount, chargeID, declined.code)
	}
	return err
}

// listFor finds what was done under our reference. It has no definite errors: a refusal to
// tell is not "nothing".
func listFor[T any](ctx context.Context, p processor, path, reference string) ([]T, error) {
	var out struct {
		Data []T `json:"data"`
	}
	err := p.call(ctx, http.MethodGet, path+"?reference="+url.QueryEscape(reference), "", nil, &out)
	return out.Data, err
}

// call makes one call. It returns nil for a 2xx whose body could be read, a
// *refusal for a definite "no", and any other error where the outcome is open.
//
// definite lists the codes that settle this very question. What is not listed is
// indefinite, whatever its status: a 401 means that our key is wrong and a 404 that our
// address is, and neither says anything about the customer's card.
func (p processor) call(ctx context.Context, method, path, key string, in, out any, definite ...string) error {
	status, answer, err := web.Call(ctx, p.client, web.Request{
		Method: method, URL: p.url + path, Bearer: p.key, IdempotencyKey: key, In: in, Out: out,
	})
	if err != nil {
		return fmt.Errorf("processor: %w", err)
	}
	if status < 300 {
		return nil
	}
	var problem struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(answer, &problem) // an answer without a code is indefinite below
	if !web.OutcomeUnknown(nil, status) && slices.Contains(definite, problem.Code) {
		return &refusal{by: "processor", code: problem.Code}
	}
	return fmt.Errorf("processor: outcome unknown: status %d, code %q", status, problem.Code)
}

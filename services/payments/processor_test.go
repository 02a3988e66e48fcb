package main

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/money"
)

// The processor has captured for us and forgotten our key. "Already captured" is
// then not a refusal: the customer has paid.
func TestProcessorCapture_ThatWasMadeAlreadyIsDone(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardWorks)
	s.deliver(message(t, toAuthorise, cmd))
	p := s.payment(cmd)
	if err := s.processor.capture(t.Context(), "another key", p.ChargeID, p.wireID(), p.Amount); err != nil {
		t.Fatal(err)
	}
	s.deliver(message(t, toCapture, cmd))
	s.stands(cmd, captured, []string{"captured"}, []string{"authorise done", "capture done"})
}

// Somebody has taken another amount. That is neither ours nor a refusal, and nothing
// that a program should decide.
func TestProcessorCapture_OfAnotherAmountIsForAPerson(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardWorks)
	s.deliver(message(t, toAuthorise, cmd))
	p := s.payment(cmd)
	less := map[string]money.Money{"amount": {Minor: p.Amount.Minor - 1, Currency: p.Amount.Currency}}
	if err := s.processor.call(t.Context(), http.MethodPost, "/v1/charges/"+p.ChargeID+"/capture", "another key", less, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.receive(t.Context(), message(t, toCapture, cmd)); !errors.Is(err, errContradiction) {
		t.Errorf("answered: %v", err)
	}
	same(t, "our record", s.payment(cmd).Status, authorised)
}

// The processor has given all of it back for us and forgotten our key. To believe
// its "more than was captured" would book the refund as refused, and free the amount
// to be given back once more.
func TestResumeRefund_ThatTheProcessorContradictsIsNeitherDoneNorRefused(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	cmd := s.order(cardWorks)
	s.deliver(message(t, toAuthorise, cmd), message(t, toCapture, cmd))
	p := s.payment(cmd)
	r := idempotency.Request{Merchant: acme, Operation: s.refunds().name, Key: "k", Retention: time.Hour}
	_, lock, err := r.Acquire(t.Context(), s.db, s.cfg.lockOptions(), func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error) {
		return startRefund(ctx, tx, acme, newRefund{PaymentID: p.wireID(), paymentID: p.ID})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.processor.refund(t.Context(), "another key", p.ChargeID, p.Amount); err != nil {
		t.Fatal(err)
	}
	if _, err := s.resumeRefund(t.Context(), lock); !errors.Is(err, errContradiction) {
		t.Errorf("answered: %v", err)
	}
	refund, err := s.loadRefund(t.Context(), lock.OperationID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "point", refund.Point, refundStarted)
	same(t, "set aside", s.payment(cmd).Refunded, p.Amount.Minor)
}

// Each question has its own definite answers: a code that belongs to another one
// settles nothing.
func TestProcessor_TakesACodeOfAnotherQuestionForNoRefusal(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.order(cardWorks)
	s.deliver(message(t, toAuthorise, cmd))
	p := s.payment(cmd)
	if err := s.processor.void(t.Context(), "k", p.ChargeID); err != nil {
		t.Fatal(err)
	}
	err := s.processor.call(t.Context(), http.MethodPost, "/v1/charges/"+p.ChargeID+"/void", "k2", struct{}{}, nil, "capture_failed")
	if _, declined := errors.AsType[*refusal](err); err == nil || declined {
		t.Errorf("answered: %v", err)
	}
}

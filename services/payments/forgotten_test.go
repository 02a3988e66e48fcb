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

// forget lets so much time pass that the processor forgets its keys: it does, and our
// rows were written so long ago.
func (s *shop) forget(ago time.Duration) {
	s.t.Helper()
	s.ask(http.MethodDelete, "/faults/keys", nil, &struct{}{})
	s.exec(`UPDATE refunds  SET created_at = now() - $1::interval`, ago)
	s.exec(`UPDATE payments SET created_at = now() - $1::interval`, ago)
}

// startedRefund is a refund of a part of a captured payment, with the amount set aside
// and nothing asked yet.
func (s *shop) startedRefund(minor int64) (command, idempotency.Lock) {
	s.t.Helper()
	cmd := s.order(cardWorks)
	s.deliver(message(s.t, toAuthorise, cmd), message(s.t, toCapture, cmd))
	p := s.payment(cmd)
	r := idempotency.Request{Merchant: acme, Operation: s.refunds().name, Key: uuid.NewString(), Retention: 48 * time.Hour}
	_, lock, err := r.Acquire(s.t.Context(), s.db, s.cfg.lockOptions(), func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error) {
		return startRefund(ctx, tx, acme, newRefund{PaymentID: p.wireID(), paymentID: p.ID, Amount: &money.Money{Minor: minor, Currency: "GBP"}})
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return cmd, lock
}

// sameRefunded compares what the processor has given back with what our row says.
func (s *shop) sameRefunded(cmd command, minor int64) {
	s.t.Helper()
	var charge struct {
		Refunded int64 `json:"refunded_minor"`
	}
	s.ask(http.MethodGet, "/v1/charges/"+s.payment(cmd).ChargeID, nil, &charge)
	same(s.t, "the processor has given back", charge.Refunded, minor)
	same(s.t, "our row says", s.payment(cmd).Refunded, minor)
}

// The answer to a partial refund is lost, and the refund is gone on with after the
// processor has forgotten its key. To ask again would give the part back twice.
func TestRefund_IsLookedUpWhenTheProcessorHasForgottenTheKey(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	cmd, lock := s.startedRefund(500)
	s.arm(rule{Contract: "charges.refund", Fault: "lose_answer", Times: 1})
	if _, err := s.resumeRefund(t.Context(), lock); err == nil {
		t.Fatal("it was answered")
	}
	s.forget(s.cfg.ProcessorKeyRetention)
	if answer, err := s.resumeRefund(t.Context(), lock); err != nil || answer.Status != http.StatusCreated {
		t.Errorf("answered %d, %v", answer.Status, err)
	}
	s.sameRefunded(cmd, 500)
	refund, err := s.loadRefund(t.Context(), lock.OperationID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "decision", refund.Decision, refundSucceeded)
}

// A refund that never arrived is refused, so that its client may ask for it again; but
// not before a request that is still on its way has had its time to arrive.
func TestRefund_ThatNeverArrivedIsRefusedAfterTheGrace(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	s = s.with(func(cfg *settings) { cfg.ReconcileGrace = time.Hour })
	cmd, lock := s.startedRefund(500)
	s.arm(rule{Contract: "charges.refund", Fault: "fail_before", Times: 1})
	if _, err := s.resumeRefund(t.Context(), lock); err == nil {
		t.Fatal("it was answered")
	}
	s.forget(s.cfg.ProcessorKeyRetention)
	if _, err := s.resumeRefund(t.Context(), lock); err == nil {
		t.Error("it was decided while a request may be on its way")
	}
	s.forget(s.cfg.ProcessorKeyRetention + s.cfg.ReconcileGrace)
	if _, err := s.resumeRefund(t.Context(), lock); err != nil {
		t.Fatal(err)
	}
	s.sameRefunded(cmd, 0)
	refund, err := s.loadRefund(t.Context(), lock.OperationID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "decision", refund.Decision+" "+refund.Failure, "failed not_executed")
}

// The clock was a year ahead when the row was written: how old it is is not known, so neither is
// whether the processor still has the key.
func TestRefund_OfARowFromTheFutureIsLookedUp(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	cmd, lock := s.startedRefund(500)
	s.arm(rule{Contract: "charges.refund", Fault: "lose_answer", Times: 1})
	if _, err := s.resumeRefund(t.Context(), lock); err == nil {
		t.Fatal("it was answered")
	}
	s.forget(-365 * 24 * time.Hour)
	if _, err := s.resumeRefund(t.Context(), lock); err != nil {
		t.Error(err)
	}
	s.sameRefunded(cmd, 500)

	_, lost := s.startedRefund(500)
	s.forget(-365 * 24 * time.Hour)
	if _, err := s.resumeRefund(t.Context(), lost); !errors.Is(err, errContradiction) {
		t.Errorf("nothing is there, and it may never have been asked: %v", err)
	}
}

// Under our reference the processor has a refund that we did not ask for. That is for a person.
func TestRefund_OfAnotherAmountUnderOurReferenceIsForAPerson(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	cmd, lock := s.startedRefund(500)
	err := s.processor.refund(t.Context(), "rfd_"+lock.OperationID.String(), s.payment(cmd).ChargeID, money.Money{Minor: 400, Currency: "GBP"})
	if err != nil {
		t.Fatal(err)
	}
	s.forget(s.cfg.ProcessorKeyRetention)
	if _, err := s.resumeRefund(t.Context(), lock); !errors.Is(err, errContradiction) {
		t.Errorf("answered: %v", err)
	}
}

// heldUnheard authorises at the processor, n times, and none of it is recorded here.
func (s *shop) heldUnheard(n int) command {
	s.t.Helper()
	cmd := s.order(cardWorks)
	s.arm(rule{Contract: "charges.create", Fault: "lose_answer", Times: n})
	for range n {
		if err := s.receive(s.t.Context(), message(s.t, toAuthorise, cmd)); err == nil {
			s.t.Fatal("it was answered")
		}
		s.ask(http.MethodDelete, "/faults/keys", nil, &struct{}{})
	}
	same(s.t, "holds", len(s.charges(cmd)), n)
	return cmd
}

// The answer to a hold is lost, and the void comes after the processor has forgotten the
// key. To ask again would make a second hold and release that one.
func TestVoid_ReleasesEveryHoldWhenTheProcessorHasForgottenTheKey(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for n, charges := range [][]string{1: {"voided"}, 2: {"voided", "voided"}}[1:] {
		cmd := s.heldUnheard(n + 1)
		s.forget(s.cfg.ProcessorKeyRetention)
		s.deliver(message(t, toVoid, cmd))
		s.stands(cmd, voided, charges, []string{"void done"})
	}
}

// Nothing is held, and a request for it may still be on its way: not done before the grace.
func TestVoid_FindsNothingHeldAfterTheGraceOnly(t *testing.T) {
	t.Parallel()
	s := newShop(t).with(func(cfg *settings) { cfg.ReconcileGrace = time.Hour })
	cmd := s.order(cardWorks)
	s.arm(rule{Contract: "charges.create", Fault: "fail_before", Times: 1})
	if err := s.receive(t.Context(), message(t, toAuthorise, cmd)); err == nil {
		t.Fatal("it was answered")
	}
	void := message(t, toVoid, cmd)
	s.forget(s.cfg.ProcessorKeyRetention)
	if err := s.receive(t.Context(), void); err == nil {
		t.Error("done while a request may be on its way")
	}
	s.forget(s.cfg.ProcessorKeyRetention + s.cfg.ReconcileGrace)
	s.deliver(void)
	s.stands(cmd, voided, none, []string{"void done"})
}

// The same for an authorise that comes again after the retention: parked, and replayed
// by a person.
func TestAuthorise_IsLookedUpWhenTheProcessorHasForgottenTheKey(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.heldUnheard(1)
	s.forget(s.cfg.ProcessorKeyRetention)
	s.deliver(message(t, toAuthorise, cmd))
	s.stands(cmd, authorised, []string{"authorised"}, []string{"authorise done"})

	cmd = s.order(cardWorks)
	s.arm(rule{Contract: "charges.create", Fault: "fail_before", Times: 1})
	if err := s.receive(t.Context(), message(t, toAuthorise, cmd)); err == nil {
		t.Fatal("it was answered")
	}
	s.forget(s.cfg.ProcessorKeyRetention)
	s.deliver(message(t, toAuthorise, cmd))
	s.stands(cmd, declined, none, []string{"authorise refused not_executed"})
}

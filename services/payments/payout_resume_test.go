package main

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/distributedtx"
	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
)

// startedPayout is a payout at its first point, and the lock on its key.
func (s *shop) startedPayout() idempotency.Lock {
	s.t.Helper()
	r := idempotency.Request{Merchant: acme, Operation: s.payouts().name, Key: uuid.NewString(), Retention: time.Hour}
	_, lock, err := r.Acquire(s.t.Context(), s.db, s.cfg.lockOptions(), func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error) {
		return startPayout(ctx, tx, acme, money.Money{Minor: 100, Currency: "GBP"})
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return lock
}

// resumed works on a payout until it is finished, and returns it.
func (s *shop) resumed(lock idempotency.Lock) payout {
	s.t.Helper()
	if _, err := s.resumePayout(s.t.Context(), lock); err != nil {
		s.t.Fatal(err)
	}
	p, err := s.loadPayout(s.t.Context(), lock.OperationID)
	if err != nil {
		s.t.Fatal(err)
	}
	same(s.t, "point", p.Point, payoutFinished)
	return p
}

// The run that entered the guard is gone. Whether it has asked the bank, no row says: the
// bank may not be asked again.
func TestResumePayout_NeverAsksTheBankForAGuardThatAnotherRunHasEntered(t *testing.T) {
	t.Parallel()
	s, ledger := newBanking(t)
	lock := s.startedPayout()
	s.exec(`INSERT INTO guards (name) VALUES ('bank-transfer:pyo_' || $1::text)`, lock.OperationID.String())
	s.exec(`UPDATE payouts SET recovery_point = 'booked' WHERE id = $1`, lock.OperationID)
	p := s.resumed(lock)
	same(t, "outcome", p.Outcome, payoutUnknown)
	same(t, "transfers", s.transfers(p), 0)
	same(t, "the ledger was told", ledger.heard(), []string{})
	same(t, "results for the ledger", s.told("ledger.payout-sent")+s.told("ledger.payout-returned"), 0)
}

// The connection breaks while the guard is committed: the run may be through or not, so
// it does not ask the bank. A later run does, because the guard was not entered after all.
func TestResumePayout_DoesNotAskTheBankWhenTheGuardsCommitIsNotKnown(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	s.exec(`
		CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
		CREATE CONSTRAINT TRIGGER break_off AFTER INSERT ON guards DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION break_off()`)
	lock := s.startedPayout()
	if _, err := s.resumePayout(t.Context(), lock); !errors.Is(err, postgres.ErrCommitUnknown) {
		t.Error(err)
	}
	same(t, "transfers", s.transfers(payout{ID: lock.OperationID}), 0)
	s.exec(`DROP TRIGGER break_off ON guards`)
	p := s.resumed(lock)
	same(t, "outcome", p.Outcome, payoutSent)
	same(t, "transfers in the end", s.transfers(p), 1)
}

// The process dies when the bank has sent the money and nothing says so. Only the guard
// keeps the next run from the bank: without it, this test is red. The points are the
// process's, so nothing else may run beside it.
func TestResumePayout_PaysOnceAlthoughTheProcessDiesAfterTheBankHasPaid(t *testing.T) {
	s, _ := newBanking(t)
	lock := s.startedPayout()
	if err := fault.Arm(fault.Order{Point: fault.PaymentsPayoutAfterBank, Action: fault.Error}); err != nil {
		t.Fatal(err)
	}
	defer fault.Disarm()
	if _, err := s.resumePayout(t.Context(), lock); !errors.Is(err, fault.ErrInjected) {
		t.Error(err)
	}
	p := s.resumed(lock)
	same(t, "transfers", s.transfers(p), 1)
	same(t, "outcome", p.Outcome, payoutUnknown)
}

// Both halves are prepared and the run that did it is gone. With a decision, that is
// carried out; without one, it is rolled back before another transaction begins.
func TestResumePayout_EndsAnEarlierAttemptBeforeAnotherBegins(t *testing.T) {
	t.Parallel()
	for decision, want := range map[distributedtx.Decision][]string{
		"":                      {"rollback", "prepare", "commit"},
		distributedtx.Committed: {"commit"},
		distributedtx.Aborted:   {"rollback", "prepare", "commit"},
	} {
		s, ledger := newBanking(t)
		lock := s.startedPayout()
		s.exec(`UPDATE payouts SET attempt = 1`)
		p, err := s.loadPayout(t.Context(), lock.OperationID)
		if err == nil {
			err = s.prepareHere(p)(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		if decision != "" {
			s.exec(`INSERT INTO twophase_decisions (gid, decision) VALUES ($1, $2)`, p.gid(), decision)
		}
		p = s.resumed(lock)
		same(t, string(decision)+": outcome", p.Outcome, payoutSent)
		same(t, string(decision)+": the ledger was told", ledger.heard(), want)
		same(t, string(decision)+": transfers", s.transfers(p), 1)
		same(t, string(decision)+": prepared here", s.preparedHere(), 0)
	}
}

// Nothing was booked, so there is nothing for the ledger to give back.
func TestResumePayout_OfTooMuchIsRefusedAndTellsTheLedgerNothing(t *testing.T) {
	t.Parallel()
	s, ledger := newBanking(t)
	ledger.short = true
	lock := s.startedPayout()
	answer, err := s.resumePayout(t.Context(), lock)
	if err != nil || answer.Status != http.StatusUnprocessableEntity {
		t.Errorf("answered %d %s, %v", answer.Status, answer.Body, err)
	}
	p, err := s.loadPayout(t.Context(), lock.OperationID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "outcome", []string{p.Outcome, p.Failure}, []string{payoutFailed, "insufficient_balance"})
	same(t, "results for the ledger", s.told("ledger.payout-sent")+s.told("ledger.payout-returned"), 0)
	same(t, "transfers", s.transfers(p), 0)
	same(t, "prepared here", s.preparedHere(), 0)
}

// A newer version runs beside this one and knows one point more. Without an end for what it
// does not know, the loop would turn forever, and the completer would do nothing else.
func TestResume_PointOfANewerVersionEndsTheRun(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	_, refund := s.startedRefund(500)
	payout := s.startedPayout()
	_, err := s.db.Exec(t.Context(), `
		ALTER TABLE refunds DROP CONSTRAINT refunds_recovery_point_check;
		ALTER TABLE payouts DROP CONSTRAINT payouts_recovery_point_check;
		UPDATE refunds SET recovery_point = 'weighed';
		UPDATE payouts SET recovery_point = 'weighed'`)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := s.resumeRefund(ctx, refund); err == nil || ctx.Err() != nil {
		t.Errorf("refund: %v", err)
	}
	if _, err := s.resumePayout(ctx, payout); err == nil || ctx.Err() != nil {
		t.Errorf("payout: %v", err)
	}
}

// The lease of a run ended before its first look, and another has finished. This one has no
// answer to give: the answer is the one that is recorded.
func TestResume_OfWhatAnotherRunHasFinishedIsAnError(t *testing.T) {
	t.Parallel()
	s, _ := newBanking(t)
	_, refund := s.startedRefund(500)
	payout := s.startedPayout()
	for name, resume := range map[string]func() (idempotency.Response, error){
		"refund": func() (idempotency.Response, error) { return s.resumeRefund(t.Context(), refund) },
		"payout": func() (idempotency.Response, error) { return s.resumePayout(t.Context(), payout) },
	} {
		if answer, err := resume(); err != nil || answer.Status != http.StatusCreated {
			t.Errorf("%s: answered %d, %v", name, answer.Status, err)
		}
		if answer, err := resume(); !errors.Is(err, idempotency.ErrLockLost) {
			t.Errorf("%s: finished before, and answered %d, %v", name, answer.Status, err)
		}
	}
}

// The bank has sent the money and its answer is lost. No later run asks again, and the
// answer to the client says that it is not known.
func TestResumePayout_WithoutABankAnswerAsksNoMore(t *testing.T) {
	t.Parallel()
	s, ledger := newBanking(t)
	lock := s.startedPayout()
	s.arm(rule{Contract: "bank.transfers", Fault: "lose_answer", Times: 1})
	answer, err := s.resumePayout(t.Context(), lock)
	if err != nil {
		t.Errorf("the first run: %v", err)
		answer, err = s.resumePayout(t.Context(), lock)
	}
	if err != nil || answer.Status != http.StatusAccepted {
		t.Errorf("answered %d, %v", answer.Status, err)
	}
	p, err := s.loadPayout(t.Context(), lock.OperationID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "transfers", s.transfers(p), 1)
	same(t, "outcome", p.Outcome, payoutUnknown)
	same(t, "results for the ledger", s.told("ledger.payout-sent")+s.told("ledger.payout-returned"), 0)
	same(t, "the ledger was told", ledger.heard(), []string{"prepare", "commit"})
}

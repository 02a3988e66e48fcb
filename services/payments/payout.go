package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/atmostonce"
	"example.com/failwell/shared/pattern/distributedtx"
	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/recoverypoint"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
)

// The recovery points of a payout, in order.
const (
	payoutStarted  = "started"  // asked for; perhaps a distributed transaction is in doubt
	payoutBooked   = "booked"   // set aside in the ledger; written by the distributed transaction itself
	payoutGuarded  = "guarded"  // the bank is being asked, or was; never ask it again
	payoutDecided  = "decided"  // sent, failed or unknown
	payoutFinished = "finished" // the answer is recorded under the key
)

// The outcomes of a payout.
const (
	payoutPending = "pending"
	payoutSent    = "sent"
	payoutUnknown = "unknown" // the bank was asked and its answer is not known
	payoutFailed  = "failed"
)

// payoutOperation is that of a payout's key; see refundOperation.
const payoutOperation = "POST /v1/payouts"

// payout is a row of payouts.
type payout struct {
	ID         uuid.UUID
	MerchantID string
	Amount     money.Money
	Point      string
	Outcome    string
	Failure    string
	Attempt    int // how many distributed transactions were tried
	CreatedAt  time.Time
}

func (p payout) wireID() string { return "pyo_" + p.ID.String() }

// gid names the distributed transaction of one attempt. An attempt that was
// aborted stays aborted, so the next one needs a name of its own.
func (p payout) gid() string { return fmt.Sprintf("%s.%d", p.wireID(), p.Attempt) }

// createPayout pays a merchant out: POST /v1/payouts.
//
// The ledger sets the money aside and our row says that it is booked: both, or
// neither. That is a distributed transaction. Then the bank is asked, which
// takes no key and would pay twice: an at-most-once guard. 201 when the bank has
// sent it, 202 when the outcome is unknown; then reconciliation finds out.
//
// Pattern: idempotency-key
// Pattern: resumable-operation
func (s *service) createPayout(c echo.Context) error {
	in, body, err := web.Bind[newPayout](c)
	if err != nil {
		return err
	}
	request, err := idempotency.FromRequest(c.Request(), web.MerchantID(c), payoutOperation, body, s.cfg.KeyRetention)
	if err != nil {
		return err
	}
	// The work goes on when the client hangs up. Cut off between two steps, it would
	// leave money locked, or in transit with an unknown outcome, for nothing.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), s.cfg.RequestTimeout)
	defer cancel()
	answer, lock, err := request.Acquire(ctx, s.db, s.cfg.lockOptions(), func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error) {
		return startPayout(ctx, tx, web.MerchantID(c), in.Amount)
	})
	if err != nil {
		return err
	}
	if answer.Exists {
		return answer.Answer(c.Response())
	}
	var response idempotency.Response
	err = fault.Point(ctx, fault.PaymentsPayoutAfterStart)
	if err == nil {
		response, err = s.resumePayout(ctx, lock)
	}
	if err != nil {
		return s.answerPending(c, request, lock, err, s.pendingPayout)
	}
	return idempotency.Fresh(response).Answer(c.Response())
}

func startPayout(ctx context.Context, tx pgx.Tx, merchant string, amount money.Money) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.UUID{}, err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO payouts (id, merchant_id, amount_minor, currency)
		VALUES ($1, $2, $3, $4)`,
		id, merchant, amount.Minor, amount.Currency)
	return id, err
}

// resumePayout works on a payout from wherever it stands until it is finished, and
// returns the recorded answer. An error means that it is not finished and that the next
// run goes on from its last point.
//
// Pattern: recovery-point
func (s *service) resumePayout(ctx context.Context, lock idempotency.Lock) (idempotency.Response, error) {
	p, err := s.loadPayout(ctx, lock.OperationID)
	if err != nil {
		return idempotency.Response{}, err
	}
	answer, err := recoverypoint.Run(ctx, recoverypoint.Operation[payout]{
		DB: s.db, Lock: lock, Work: &p, Point: &p.Point, SetPoint: `UPDATE payouts SET recovery_point = $2 WHERE id = $1`,
		Phases: map[string]recoverypoint.Phase[payout]{
			payoutStarted: {Do: s.beginBooking},                                            // then s.bookPayout
			payoutBooked:  {Do: s.enterGuard, AfterCommit: fault.PaymentsPayoutAfterGuard}, // then s.askBank
			payoutGuarded: {Do: s.leaveUnknown},
			payoutDecided: {Do: s.finishPayout, AfterCommit: fault.PaymentsPayoutAfterFinish},
		},
	})
	s.relay.Wake() // also after an error: the outcome may have been written before it
	if err == nil {
		s.log.InfoContext(ctx, "payout finished", "payout_id", p.wireID(), "outcome", p.Outcome)
	}
	return answer, err
}

// payoutNext is what a phase of a payout ends with.
type payoutNext = recoverypoint.Next[payout]

// beginBooking names a distributed transaction by the number of its attempt. An earlier
// run may have left one behind: prepared, half committed, or still on its way. That one is
// ended before another begins.
func (s *service) beginBooking(ctx context.Context, p *payout) (payoutNext, error) {
	if p.Attempt > 0 {
		decision, err := s.twophase.Resolve(ctx, p.gid())
		if err != nil || decision == distributedtx.Committed {
			return payoutNext{Point: payoutBooked}, err
		}
	}
	p.Attempt++
	return payoutNext{Point: payoutStarted, Write: p.setAttempt, Then: &recoverypoint.Phase[payout]{Do: s.bookPayout}}, nil
}

func (p *payout) setAttempt(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
		UPDATE payouts
		   SET attempt = $2
		 WHERE id = $1`,
		p.ID, p.Attempt)
	return err
}

// bookPayout sets the money aside in the ledger and moves our row's point, both or
// neither. The point is part of what the distributed transaction commits (see
// prepareHere), so a run that finds "booked" knows that the ledger has it too. What Run
// writes afterwards is the same point again.
func (s *service) bookPayout(ctx context.Context, p *payout) (payoutNext, error) {
	decision, err := s.twophase.Run(ctx, p.gid(), s.prepareInLedger(*p), s.prepareHere(*p))
	declined, ok := errors.AsType[*refusal](err)
	switch {
	case decision == distributedtx.Committed && err == nil:
		return payoutNext{Point: payoutBooked}, nil
	case decision == distributedtx.Aborted && ok:
		return s.decided(p, payoutFailed, declined.code), nil
	case err == nil:
		err = fmt.Errorf("payout %s: another process aborted attempt %d", p.wireID(), p.Attempt)
	}
	return payoutNext{}, err
}

// enterGuard lets one run through to the bank. Only the run whose transaction has entered
// the guard goes on with askBank. When its commit fails in any way, a lost answer
// included, Run ends, and the bank is not asked. A later run that finds "guarded" cannot
// know whether the bank was asked.
//
// Pattern: at-most-once-guard
func (s *service) enterGuard(_ context.Context, p *payout) (payoutNext, error) {
	passed := false
	enter := func(ctx context.Context, tx pgx.Tx) (err error) {
		passed, err = atmostonce.Enter(ctx, tx, "bank-transfer:"+p.wireID())
		return err
	}
	ask := func(ctx context.Context, p *payout) (payoutNext, error) {
		if !passed {
			return s.leaveUnknown(ctx, p)
		}
		return s.askBank(ctx, p)
	}
	return payoutNext{Point: payoutGuarded, Write: enter, Then: &recoverypoint.Phase[payout]{Do: ask, AfterCall: fault.PaymentsPayoutAfterBank}}, nil
}

// askBank sends the money. No later run does it, so nothing may cut the call short: not
// the end of our client's request, not the stop of this process. A transfer that was
// never sent would stay "unknown".
func (s *service) askBank(ctx context.Context, p *payout) (payoutNext, error) {
	err := s.bank.transfer(context.WithoutCancel(ctx), p.wireID(), "acct_"+p.MerchantID, p.Amount)
	declined, ok := errors.AsType[*refusal](err)
	switch {
	case err == nil:
		return s.decided(p, payoutSent, ""), nil
	case ok:
		s.log.WarnContext(ctx, "payout: the bank has not sent it, it returns to the merchant", "payout_id", p.wireID(), "error", err)
		return s.decided(p, payoutFailed, declined.code), nil
	}
	s.log.ErrorContext(ctx, "payout: outcome unknown, the bank may have sent it", "payout_id", p.wireID(), "error", err)
	return s.decided(p, payoutUnknown, ""), nil
}

// leaveUnknown ends a payout whose guard was entered by a run that did not write down what
// came of it.
func (s *service) leaveUnknown(ctx context.Context, p *payout) (payoutNext, error) {
	s.log.ErrorContext(ctx, "payout: outcome unknown, the bank may have sent it", "payout_id", p.wireID())
	return s.decided(p, payoutUnknown, ""), nil
}

// decided ends a phase with an outcome, and tells the ledger in the same transaction:
// money that was sent leaves "in transit", money that was refused returns to the
// merchant, and of the unknown nothing moves until it is known. Of a payout that was
// never booked the ledger has nothing to move.
func (s *service) decided(p *payout, outcome, failure string) payoutNext {
	booked := p.Point != payoutStarted
	p.Outcome, p.Failure = outcome, failure
	return payoutNext{Point: payoutDecided, Write: func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE payouts
			   SET outcome = $2,
			       failure = $3
			 WHERE id = $1`,
			p.ID, outcome, failure)
		if err != nil || !booked {
			return err
		}
		return s.publishPayoutResult(ctx, tx, *p, outcome)
	}}
}

// finishPayout calls no other system: it records the answer.
func (s *service) finishPayout(_ context.Context, p *payout) (payoutNext, error) {
	answer, err := p.answer()
	return payoutNext{Point: payoutFinished, Answer: &answer, Write: p.finish}, err
}

func (p *payout) finish(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
		UPDATE payouts
		   SET finished_at = now()
		 WHERE id = $1`,
		p.ID)
	return err
}

// prepareHere is this service's half of the distributed transaction.
func (s *service) prepareHere(p payout) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if err := fault.Point(ctx, fault.PaymentsPayoutAfterLedgerPrepare); err != nil {
			return err
		}
		err := distributedtx.Prepare(ctx, s.db, localPrefix+p.gid(), func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, `
				UPDATE payouts
				   SET recovery_point = 'booked'
				 WHERE id = $1
				   AND recovery_point = 'started'
				   AND attempt = $2`,
				p.ID, p.Attempt)
			if err == nil && tag.RowsAffected() == 0 {
				err = fmt.Errorf("payout %s: attempt %d is not the current one", p.wireID(), p.Attempt)
			}
			return err
		})
		if err != nil {
			return err
		}
		return fault.Point(ctx, fault.PaymentsPayoutAfterPrepare)
	}
}

// prepareInLedger is the ledger's half. A *refusal is its definite no.
func (s *service) prepareInLedger(p payout) func(ctx context.Context) error {
	return func(ctx context.Context) error { return s.ledger.prepare(ctx, p.gid(), payoutEntry(p)) }
}

func payoutEntry(p payout) ledgerEntry {
	return ledgerEntry{
		Kind: "payout", Source: p.wireID(), Reference: p.wireID(), MerchantID: p.MerchantID,
		Postings: []ledgerPosting{
			{Account: "merchant_available:" + p.MerchantID + ":" + p.Amount.Currency, Amount: money.Money{Minor: -p.Amount.Minor, Currency: p.Amount.Currency}},
			{Account: "payouts_in_transit:" + p.Amount.Currency, Amount: p.Amount},
		},
	}
}

// payoutNotification is the data of ledger.payout-sent and ledger.payout-returned.
type payoutNotification struct {
	PayoutID   string      `json:"payout_id"`
	MerchantID string      `json:"merchant_id"`
	Amount     money.Money `json:"amount"`
}

func (s *service) publishPayoutResult(ctx context.Context, tx pgx.Tx, p payout, outcome string) error {
	kind := map[string]string{payoutSent: "ledger.payout-sent", payoutFailed: "ledger.payout-returned"}[outcome]
	if kind == "" {
		return nil
	}
	message, err := s.outbox.Envelope(ctx, outbox.Message{Type: kind, Subject: p.wireID(), Data: payoutNotification{
		PayoutID: p.wireID(), MerchantID: p.MerchantID, Amount: p.Amount,
	}})
	if err != nil {
		return err
	}
	return message.AppendTx(ctx, tx)
}

// resolvePayout ends an unknown payout: reconciliation does it when the bank's
// statement shows it, a person when the bank has told. Nothing changes when it was
// ended before, nor when a person says that the bank has not sent what stands on its
// statement.
func (s *service) resolvePayout(ctx context.Context, id uuid.UUID, outcome string) (changed bool, err error) {
	p, err := s.loadPayout(ctx, id)
	if err != nil {
		return false, err
	}
	err = postgres.InTx(ctx, s.db, func(ctx context.Context, tx pgx.Tx) error {
		changed = false
		tag, err := tx.Exec(ctx, `
			UPDATE payouts
			   SET outcome = $2,
			       failure = CASE $2 WHEN 'failed' THEN 'not_sent' ELSE '' END
			 WHERE id = $1
			   AND outcome = 'unknown'
			   AND NOT ($2 = 'failed' AND EXISTS (
			       SELECT FROM statement_lines
			        WHERE subject = $1
			          AND source = 'bank'))`,
			id, outcome)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		changed = true
		return s.publishPayoutResult(ctx, tx, p, outcome)
	})
	s.relay.Wake()
	return changed, err
}

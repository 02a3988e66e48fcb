package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/outoforder"
	"example.com/failwell/shared/pattern/recoverypoint"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// The recovery points of a refund, in order. Each names what is done and safely
// written down; a later run begins with what comes after it.
const (
	refundStarted  = "started"  // the amount is set aside from what can be given back
	refundDecided  = "decided"  // the processor has given the money back, or refused to
	refundPosted   = "posted"   // the ledger has booked it, unless it was refused
	refundFinished = "finished" // the answer is recorded under the key
)

// What a refund looks like from outside.
const (
	refundPending   = "pending"
	refundSucceeded = "succeeded"
	refundFailed    = "failed"
)

// refundOperation is the name under which createRefund records a refund's key and the
// completer looks for it.
const refundOperation = "POST /v1/refunds"

// refund is a row of refunds, with what it needs of its payment.
type refund struct {
	ID         uuid.UUID
	PaymentID  uuid.UUID
	MerchantID string
	Amount     money.Money
	Reason     string
	Point      string
	Status     string
	Failure    string // the processor's code, when it refused
	CreatedAt  time.Time
	ChargeID   string
}

func (r refund) wireID() string        { return "rfd_" + r.ID.String() }
func (r refund) wirePaymentID() string { return "pay_" + r.PaymentID.String() }

// createRefund gives money back: POST /v1/refunds.
//
// A refund spans three systems (our database, the processor, the ledger), so no
// single transaction can hold it. It is a resumable operation: it writes down how
// far it has come, and a later run goes on from there: a retry of the client's, or
// the completer when the client does not retry.
//
// 201 when it is finished. 202 when a system on the way does not answer: then it
// will be finished without the client.
//
// Pattern: idempotency-key
// Pattern: resumable-operation
func (s *service) createRefund(c echo.Context) error {
	in, body, err := web.Bind[newRefund](c)
	if err != nil {
		return err
	}
	request, err := idempotency.FromRequest(c.Request(), web.MerchantID(c), refundOperation, body, s.cfg.KeyRetention)
	if err != nil {
		return err
	}
	// The work goes on when the client hangs up. Half done, it would have to wait for
	// the completer, and the client's own retry for the lock.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), s.cfg.RequestTimeout)
	defer cancel()
	answer, lock, err := request.Acquire(ctx, s.db, s.cfg.lockOptions(), func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error) {
		return startRefund(ctx, tx, web.MerchantID(c), in)
	})
	if err != nil {
		return err
	}
	if answer.Exists {
		return answer.Answer(c.Response())
	}
	var response idempotency.Response
	err = fault.Point(ctx, fault.PaymentsRefundAfterStart)
	if err == nil {
		response, err = s.resumeRefund(ctx, lock)
	}
	if err != nil {
		return s.answerPending(c, request, lock, err, s.pendingRefund)
	}
	return idempotency.Fresh(response).Answer(c.Response())
}

// startRefund sets the amount aside. The sum of all refunds of a payment, the
// unfinished ones included, is in one row with a constraint on it: fifty clients with
// fifty keys cannot get back more than was taken.
//
// Pattern: atomic-read-then-write (row lock and constraint)
func startRefund(ctx context.Context, tx pgx.Tx, merchant string, in newRefund) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.UUID{}, err
	}
	var p payment
	rows, err := tx.Query(ctx, selectPayment+`
		 WHERE id = $1
		   AND merchant_id = $2
		   FOR UPDATE`,
		in.paymentID, merchant)
	if err == nil {
		p, err = pgx.CollectExactlyOneRow(rows, scanPayment)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.UUID{}, web.NewProblem(http.StatusUnprocessableEntity, "no-such-payment", "No such payment",
			fmt.Sprintf("There is no payment %q.", in.PaymentID)).WithField("payment_id")
	}
	if err != nil {
		return uuid.UUID{}, err
	}
	left := money.Money{Minor: p.Amount.Minor - p.Refunded, Currency: p.Amount.Currency}
	amount := left
	if in.Amount != nil {
		amount = *in.Amount
	}
	switch {
	case p.Status != captured:
		return uuid.UUID{}, web.NewProblem(http.StatusConflict, "payment-not-captured", "Nothing was taken",
			"Only a captured payment can be given back; this one is "+shownAs[p.Status]+".").WithField("payment_id")
	case amount.Currency != left.Currency:
		return uuid.UUID{}, invalid("amount.currency", "The payment is in "+left.Currency+".")
	case amount.Minor > left.Minor || left.Minor == 0:
		return uuid.UUID{}, web.NewProblem(http.StatusUnprocessableEntity, "refund-exceeds-capture", "More than was taken",
			fmt.Sprintf("Of this payment %s can still be given back.", left)).WithField("amount")
	}
	_, err = tx.Exec(ctx, `
		UPDATE payments
		   SET refunded_minor = refunded_minor + $2,
		       updated_at     = now()
		 WHERE id = $1`,
		p.ID, amount.Minor)
	if err != nil {
		return uuid.UUID{}, err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO refunds (id, payment_id, merchant_id, amount_minor, currency, reason)
		VALUES ($1, $2, $3, $4, $5, $6)`,
		id, p.ID, merchant, amount.Minor, amount.Currency, in.Reason)
	return id, err
}

// resumeRefund works on a refund from wherever it stands until it is finished, and
// returns the recorded answer. The request that began it calls this, a retry of it, and
// the completer. An error means that the refund is not finished and nothing is lost.
//
// Pattern: recovery-point
func (s *service) resumeRefund(ctx context.Context, lock idempotency.Lock) (idempotency.Response, error) {
	r, err := s.loadRefund(ctx, lock.OperationID)
	if err != nil {
		return idempotency.Response{}, err
	}
	answer, err := recoverypoint.Run(ctx, recoverypoint.Operation[refund]{
		DB: s.db, Lock: lock, Work: &r, Point: &r.Point, SetPoint: `UPDATE refunds SET recovery_point = $2 WHERE id = $1`,
		Phases: map[string]recoverypoint.Phase[refund]{
			refundStarted: {Do: s.refundAtProcessor, AfterCall: fault.PaymentsRefundAfterProcessor, AfterCommit: fault.PaymentsRefundAfterDecided},
			refundDecided: {Do: s.bookRefund, AfterCall: fault.PaymentsRefundAfterLedger, AfterCommit: fault.PaymentsRefundAfterPosted},
			refundPosted:  {Do: s.finishRefund, AfterCommit: fault.PaymentsRefundAfterFinish},
		},
	})
	if err == nil {
		s.events.Notify()
		s.log.InfoContext(ctx, "refund finished", "refund_id", r.wireID(), "payment_id", r.wirePaymentID(), "status", r.Status)
	}
	return answer, err
}

// refundNext is what a phase of a refund ends with.
type refundNext = recoverypoint.Next[refund]

// refundAtProcessor has the processor give the money back, or finds out whether it has:
// see forgotten.go.
//
// Pattern: idempotency-key-external (the refund's id)
func (s *service) refundAtProcessor(ctx context.Context, r *refund) (refundNext, error) {
	var err error
	if s.keyForgotten(r.CreatedAt) {
		err = s.lookUpRefund(ctx, r)
	} else {
		err = s.processor.refund(ctx, r.wireID(), r.ChargeID, r.Amount)
	}
	declined, ok := errors.AsType[*refusal](err)
	switch {
	case err == nil:
		r.Status = refundSucceeded
	case ok:
		r.Status, r.Failure = refundFailed, declined.code
	case errors.Is(err, errContradiction):
		s.log.ErrorContext(ctx, "refund: a person must look", "refund_id", r.wireID(), "payment_id", r.wirePaymentID(), "error", err)
		return refundNext{}, err
	default:
		return refundNext{}, err // not known: neither given back nor refused
	}
	return refundNext{Point: refundDecided, Write: r.decide}, nil
}

// decide writes what the processor has decided. A refused amount is set free: it can be
// asked for again.
func (r *refund) decide(ctx context.Context, tx pgx.Tx) error {
	if r.Status == refundFailed {
		_, err := tx.Exec(ctx, `
			UPDATE payments
			   SET refunded_minor = refunded_minor - $2,
			       updated_at     = now()
			 WHERE id = $1`,
			r.PaymentID, r.Amount.Minor)
		if err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `
		UPDATE refunds
		   SET decision = $2,
		       failure  = $3
		 WHERE id = $1`,
		r.ID, r.Status, r.Failure)
	return err
}

// bookRefund has the ledger book the refund. It hears nothing of one that was refused.
//
// Pattern: idempotency-key-external (the entry's kind and source)
func (s *service) bookRefund(ctx context.Context, r *refund) (refundNext, error) {
	if r.Status == refundSucceeded {
		if err := s.ledger.book(ctx, refundEntry(*r)); err != nil {
			return refundNext{}, err
		}
	}
	return refundNext{Point: refundPosted}, nil
}

// finishRefund calls no other system: it records the answer.
func (s *service) finishRefund(_ context.Context, r *refund) (refundNext, error) {
	answer, err := r.answer()
	return refundNext{Point: refundFinished, Answer: &answer, Write: r.finish}, err
}

func (r *refund) finish(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
		UPDATE refunds
		   SET finished_at = now()
		 WHERE id = $1`,
		r.ID)
	if err != nil {
		return err
	}
	// What settled at the processor before we knew of it can be told now.
	return outoforder.RecheckTx(ctx, tx, r.wirePaymentID())
}

// refundEntry takes the money from the merchant, who may owe it to us until the
// next sale, and owes it to the card. The platform's fee is not given back.
func refundEntry(r refund) ledgerEntry {
	return ledgerEntry{
		Kind: "refund", Source: r.wireID(), Reference: r.wirePaymentID(), MerchantID: r.MerchantID,
		Postings: []ledgerPosting{
			{Account: "merchant_pending:" + r.MerchantID + ":" + r.Amount.Currency, Amount: money.Money{Minor: -r.Amount.Minor, Currency: r.Amount.Currency}},
			{Account: "card_receivable:" + r.Amount.Currency, Amount: r.Amount},
		},
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
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

// What the processor decides of a refund.
const (
	refundSucceeded = "succeeded"
	refundFailed    = "failed"
)

// refund is a row of refunds, with what it needs of its payment.
type refund struct {
	ID         uuid.UUID
	PaymentID  uuid.UUID
	MerchantID string
	Amount     money.Money
	Reason     string
	Point      string
	Decision   string // the processor's; "" before it
	Failure    string // the processor's code, when it refused
	CreatedAt  time.Time
	ChargeID   string
}

func (r refund) wireID() string        { return "rfd_" + r.ID.String() }
func (r refund) wirePaymentID() string { return "pay_" + r.PaymentID.String() }

func (s *service) refunds() operation {
	return operation{
		name: "POST /v1/refunds", afterStart: fault.PaymentsRefundAfterStart, resume: s.resumeRefund, pending: s.pendingRefund,
	}
}

// createRefund gives money back: POST /v1/refunds. 201 when it is finished: succeeded, or
// failed. 202 when the processor or the ledger does not answer: then it is finished later.
func (s *service) createRefund(c echo.Context) error {
	return s.perform(c, s.refunds(), func(ctx context.Context, tx pgx.Tx, body []byte) (uuid.UUID, error) {
		in, err := web.Decode[newRefund](body)
		if err != nil {
			return uuid.UUID{}, err
		}
		return startRefund(ctx, tx, web.MerchantID(c), in)
	})
}

// startRefund sets the amount aside. The sum of all refunds of a payment, the
// unfinished ones included, is in one row with a constraint on it: fifty clients with
// fifty keys cannot get back more than was taken.
//
// Pattern: atomic-read-then-write (row lock and constraint)
func startRefund(ctx context.Context, tx pgx.Tx, merchant string, in newRefund) (uuid.UUID, error) {
	id := uuid.Must(uuid.NewV7())
	rows, _ := tx.Query(ctx, selectPayment+`
		 WHERE id = $1
		   AND merchant_id = $2
		   FOR UPDATE`,
		in.paymentID, merchant)
	p, err := pgx.CollectExactlyOneRow(rows, scanPayment)
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
		return uuid.UUID{}, web.Invalid("amount.currency", "The payment is in "+left.Currency+".")
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

// resumeRefund goes on with a refund from its recovery point.
//
// Pattern: recovery-point
func (s *service) resumeRefund(ctx context.Context, lock idempotency.Lock) (idempotency.Response, error) {
	r, err := s.loadRefund(ctx, lock.OperationID)
	for err == nil {
		switch {
		case ctx.Err() != nil:
			err = ctx.Err() // out of time; the next run goes on from here
		case r.Point == refundStarted:
			err = s.refundAtProcessor(ctx, lock, &r)
		case r.Point == refundDecided:
			err = s.bookRefund(ctx, lock, &r)
		case r.Point == refundPosted:
			return s.finishRefund(ctx, lock, r)
		case r.Point == refundFinished:
			err = idempotency.ErrLockLost // another run took over, and has recorded the answer
		default: // of a newer version, which runs beside this one
			err = fmt.Errorf("refund %s: recovery point %q is not known to this process", r.wireID(), r.Point)
		}
	}
	return idempotency.Response{}, err
}

// refundAtProcessor has the processor give the money back, or finds out whether it has:
// see forgotten.go. When the processor refuses, the amount is released: it can be asked for again.
//
// Pattern: idempotency-key-external (the refund's id)
func (s *service) refundAtProcessor(ctx context.Context, lock idempotency.Lock, r *refund) (err error) {
	if s.keyForgotten(r.CreatedAt) {
		err = s.lookUpRefund(ctx, r)
	} else {
		err = s.processor.refund(ctx, r.wireID(), r.ChargeID, r.Amount)
	}
	declined, refused := errors.AsType[*refusal](err)
	switch {
	case err == nil:
		r.Decision = refundSucceeded
	case refused:
		r.Decision, r.Failure = refundFailed, declined.code
	default:
		return err // not known: neither given back nor refused
	}
	if err := fault.Point(ctx, fault.PaymentsRefundAfterProcessor); err != nil {
		return err
	}
	err = recoverypoint.Commit(ctx, s.db, lock, fault.PaymentsRefundAfterDecided, func(ctx context.Context, tx pgx.Tx) error {
		if r.Decision == refundFailed {
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
			   SET recovery_point = 'decided',
			       decision       = $2,
			       failure        = $3
			 WHERE id = $1`,
			r.ID, r.Decision, r.Failure)
		return err
	})
	if err == nil {
		r.Point = refundDecided
	}
	return err
}

// bookRefund has the ledger book the refund. A refused refund is not booked.
//
// Pattern: idempotency-key-external (the entry's kind and source)
func (s *service) bookRefund(ctx context.Context, lock idempotency.Lock, r *refund) error {
	if r.Decision == refundSucceeded {
		if err := s.ledger.book(ctx, refundEntry(*r)); err != nil {
			return err
		}
	}
	if err := fault.Point(ctx, fault.PaymentsRefundAfterLedger); err != nil {
		return err
	}
	err := recoverypoint.Commit(ctx, s.db, lock, fault.PaymentsRefundAfterPosted, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE refunds
			   SET recovery_point = 'posted'
			 WHERE id = $1`,
			r.ID)
		return err
	})
	if err == nil {
		r.Point = refundPosted
	}
	return err
}

// finishRefund calls no other system: it records the answer.
func (s *service) finishRefund(ctx context.Context, lock idempotency.Lock, r refund) (idempotency.Response, error) {
	answer, err := r.answer()
	if err != nil {
		return answer, err
	}
	err = recoverypoint.Finish(ctx, s.db, lock, answer, fault.PaymentsRefundAfterFinish, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE refunds
			   SET recovery_point = 'finished',
			       finished_at    = now()
			 WHERE id = $1`,
			r.ID)
		if err != nil {
			return err
		}
		// What settled at the processor before we knew of it can be told now.
		return outoforder.RecheckTx(ctx, tx, r.wirePaymentID())
	})
	if err == nil {
		s.events.Notify()
		s.log.InfoContext(ctx, "refund finished", "refund_id", r.wireID(), "payment_id", r.wirePaymentID(), "decision", r.Decision)
	}
	return answer, err
}

// refundEntry debits the merchant's pending account (it may go negative) and credits
// card_receivable. The platform's fee is not given back.
func refundEntry(r refund) ledgerEntry {
	return ledgerEntry{
		Kind: "refund", Source: r.wireID(), Reference: r.wirePaymentID(), MerchantID: r.MerchantID,
		Postings: []ledgerPosting{
			{Account: "merchant_pending:" + r.MerchantID + ":" + r.Amount.Currency, Amount: money.Money{Minor: -r.Amount.Minor, Currency: r.Amount.Currency}},
			{Account: "card_receivable:" + r.Amount.Currency, Amount: r.Amount},
		},
	}
}

// newRefund is the body of POST /v1/refunds.
type newRefund struct {
	PaymentID string       `json:"payment_id"`
	Amount    *money.Money `json:"amount"` // absent: all that is left
	Reason    string       `json:"reason"`

	paymentID uuid.UUID
}

const maxRefundReason = 255

// Validate checks the form. Whether there is such a payment is a question for
// the database.
func (n *newRefund) Validate() error {
	var ok bool
	if n.paymentID, ok = parseID("pay_", n.PaymentID); !ok {
		return web.Invalid("payment_id", "Required: the id of a payment, pay_….")
	}
	if n.Amount != nil {
		if err := n.Amount.Validate(); err != nil {
			return web.Invalid("amount.currency", err.Error())
		}
		if n.Amount.Minor <= 0 {
			return web.Invalid("amount.minor", "Must be above zero.")
		}
	}
	if len(n.Reason) > maxRefundReason || strings.ContainsFunc(n.Reason, func(r rune) bool { return r < ' ' }) {
		return web.Invalid("reason", fmt.Sprintf("At most %d bytes without control characters.", maxRefundReason))
	}
	return nil
}

const selectRefund = `
	SELECT r.id, r.payment_id, r.merchant_id, r.amount_minor, r.currency, r.reason,
	       r.recovery_point, r.decision, r.failure, r.created_at, p.charge_id
	  FROM refunds r
	  JOIN payments p ON p.id = r.payment_id`

func (s *service) loadRefund(ctx context.Context, id uuid.UUID) (refund, error) {
	rows, _ := s.db.Query(ctx, selectRefund+`
		 WHERE r.id = $1`,
		id)
	return pgx.CollectExactlyOneRow(rows, scanRefund)
}

func scanRefund(row pgx.CollectableRow) (refund, error) {
	var r refund
	err := row.Scan(&r.ID, &r.PaymentID, &r.MerchantID, &r.Amount.Minor, &r.Amount.Currency, &r.Reason,
		&r.Point, &r.Decision, &r.Failure, &r.CreatedAt, &r.ChargeID)
	return r, err
}

// refundView is a refund as JSON.
type refundView struct {
	ID        string      `json:"id"`
	PaymentID string      `json:"payment_id"`
	Status    string      `json:"status"`
	Failure   string      `json:"failure,omitempty"`
	Amount    money.Money `json:"amount"`
	Reason    string      `json:"reason,omitempty"`
	CreatedAt time.Time   `json:"created_at"`
}

// view shows a decided refund as pending until the books have it too.
func (r refund) view() refundView {
	status, failure := r.Decision, r.Failure
	if r.Point != refundPosted && r.Point != refundFinished {
		status, failure = "pending", ""
	}
	return refundView{
		ID: r.wireID(), PaymentID: r.wirePaymentID(), Status: status, Failure: failure,
		Amount: r.Amount, Reason: r.Reason, CreatedAt: r.CreatedAt.UTC(),
	}
}

// answer composes what is recorded under the key. A refusal by the card's bank
// is an outcome of the refund, not an error of the request.
func (r refund) answer() (idempotency.Response, error) {
	return idempotency.JSON(http.StatusCreated, "/v1/refunds/"+r.wireID(), r.view())
}

// pendingRefund shows a refund as pending, however far it has come.
func (s *service) pendingRefund(ctx context.Context, id uuid.UUID) (location string, view any, err error) {
	r, err := s.loadRefund(ctx, id)
	r.Point = refundStarted
	return "/v1/refunds/" + r.wireID(), r.view(), err
}

// getRefund shows a refund: GET /v1/refunds/{id}.
func (s *service) getRefund(c echo.Context) error {
	id, _ := parseID("rfd_", c.Param("id"))
	r, err := s.loadRefund(c.Request().Context(), id)
	if err == nil && r.MerchantID != web.MerchantID(c) {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return orNotFound(err, "refund", c.Param("id"))
	}
	return c.JSON(http.StatusOK, r.view())
}

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
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
)

// The recovery points of a refund, in order. Each names what is done and safely
// written down; whoever goes on begins with what comes after it.
const (
	refundStarted  = "started"  // the amount is set aside from what can be given back
	refundDecided  = "decided"  // the processor has given the money back, or refused to
	refundPosted   = "posted"   // the books have it; of a refused refund they hear nothing
	refundFinished = "finished" // the answer is recorded under the key
)

// What a refund looks like from outside.
const (
	refundPending   = "pending"
	refundSucceeded = "succeeded"
	refundFailed    = "failed"
)

// refundOperation is the first half of a refund's key.
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
// A refund spans three systems (our database, the processor, the books), so no
// single transaction can hold it. It is a resumable operation: it writes down how
// far it has come, and any later try goes on from there, whoever makes it: this
// request, a retry of the client's, or the completer when nobody retries.
//
// 201 when it is finished, 202 when something on the way does not answer and it
// will be finished without the client.
//
// Pattern: idempotency-key
// Pattern: resumable-operation
func (s *service) createRefund(c echo.Context) error {
	in, body, err := web.Bind[newRefund](c)
	if err == nil {
		err = in.check()
	}
	if err != nil {
		return err
	}
	request, err := idempotency.FromRequest(c.Request(), web.MerchantID(c), refundOperation, body, s.cfg.KeyRetention)
	if err != nil {
		return err
	}
	// A client who hangs up does not stop the work: half of it done, it would wait for
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
	if err := fault.Point(ctx, fault.PaymentsRefundAfterStart); err != nil {
		return s.refundLater(c, request, lock, err)
	}
	response, err := s.resumeRefund(ctx, lock)
	if err != nil {
		return s.refundLater(c, request, lock, err)
	}
	return idempotency.Fresh(response).Answer(c.Response())
}

// refundLater says that the refund is accepted and not finished. The key is given
// back, and this answer is not recorded: a retry works on, or gets the final one.
//
// If somebody has finished it meanwhile (a retry that took over, or we ourselves and
// only the answer to the commit was lost), the recorded answer is the answer. And as
// long as there is none it is pending, whatever its row says: a client that is told
// of an outcome must never be told of it in other words later.
func (s *service) refundLater(c echo.Context, request idempotency.Request, lock idempotency.Lock, cause error) error {
	// Not the request's context: it may be what ran out.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), time.Second)
	defer cancel()
	s.log.WarnContext(ctx, "refund not finished, it will be", "refund_id", "rfd_"+lock.OperationID.String(), "error", cause)
	if err := lock.Release(ctx, s.db); err != nil {
		s.log.WarnContext(ctx, "key not given back, its lease will end", "refund_id", "rfd_"+lock.OperationID.String(), "error", err)
	}
	answer, err := s.recorded(ctx, request)
	if err != nil {
		return err
	}
	if answer.Exists {
		return answer.Answer(c.Response())
	}
	r, err := s.loadRefund(ctx, lock.OperationID)
	if err != nil {
		return err
	}
	r.Point = refundStarted
	c.Response().Header().Set(echo.HeaderLocation, "/v1/refunds/"+r.wireID())
	return c.JSON(http.StatusAccepted, r.view())
}

// recorded is the answer that stands under a key by now.
func (s *service) recorded(ctx context.Context, request idempotency.Request) (answer idempotency.Recorded, err error) {
	err = postgres.Read(ctx, s.db, func(b *pgx.Batch) { request.Lookup(b, &answer) })
	return answer, err
}

// startRefund sets the amount aside. The sum of all refunds of a payment, also
// of those in work, is in one row with a constraint on it: fifty clients with
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

// resumeRefund works on a refund from wherever it stands until it is finished,
// and returns the recorded answer. An error means that it is not finished and
// nothing is lost: whoever calls this next goes on from the last point.
//
// Between two points there is one call to another system, outside of any
// transaction, and then one transaction that writes the next point. Power fails
// between the two: the call is made again, which is why each of them carries a
// name by which the other side knows it (the key at the processor, the source in
// the books).
//
// Pattern: recovery-point
func (s *service) resumeRefund(ctx context.Context, lock idempotency.Lock) (idempotency.Response, error) {
	r, err := s.loadRefund(ctx, lock.OperationID)
	if err != nil {
		return idempotency.Response{}, err
	}
	for {
		switch r.Point {
		case refundStarted:
			// Pattern: idempotency-key-external
			err := s.processor.refund(ctx, r.wireID(), r.ChargeID, r.Amount)
			no := (*refusal)(nil)
			switch {
			case err == nil:
				r.Status = refundSucceeded
			case errors.As(err, &no):
				r.Status, r.Failure = refundFailed, no.code
			case errors.Is(err, errContradiction):
				s.log.ErrorContext(ctx, "refund: a person must look", "refund_id", r.wireID(), "payment_id", r.wirePaymentID(), "error", err)
				return idempotency.Response{}, err
			default:
				return idempotency.Response{}, err // not known: neither given back nor refused
			}
			if err := fault.Point(ctx, fault.PaymentsRefundAfterProcessor); err != nil {
				return idempotency.Response{}, err
			}
			err = postgres.InTx(ctx, s.db, func(ctx context.Context, tx pgx.Tx) error {
				if err := lock.Renew(ctx, tx); err != nil {
					return err
				}
				if r.Status == refundFailed {
					if err := giveUpRefund(ctx, tx, r); err != nil {
						return err
					}
				}
				_, err := tx.Exec(ctx, `
					UPDATE refunds
					   SET recovery_point = 'decided',
					       decision       = $2,
					       failure        = $3
					 WHERE id = $1`,
					r.ID, r.Status, r.Failure)
				return err
			})
			if err != nil {
				return idempotency.Response{}, err
			}
			r.Point = refundDecided
			if err := fault.Point(ctx, fault.PaymentsRefundAfterDecided); err != nil {
				return idempotency.Response{}, err
			}

		case refundDecided:
			if r.Status == refundSucceeded {
				if err := s.ledger.book(ctx, refundEntry(r)); err != nil {
					return idempotency.Response{}, err
				}
				if err := fault.Point(ctx, fault.PaymentsRefundAfterLedger); err != nil {
					return idempotency.Response{}, err
				}
			}
			err := postgres.InTx(ctx, s.db, func(ctx context.Context, tx pgx.Tx) error {
				if err := lock.Renew(ctx, tx); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, `
					UPDATE refunds
					   SET recovery_point = 'posted'
					 WHERE id = $1`,
					r.ID)
				return err
			})
			if err != nil {
				return idempotency.Response{}, err
			}
			r.Point = refundPosted
			if err := fault.Point(ctx, fault.PaymentsRefundAfterPosted); err != nil {
				return idempotency.Response{}, err
			}

		case refundPosted:
			response, err := r.answer()
			if err != nil {
				return idempotency.Response{}, err
			}
			err = postgres.InTx(ctx, s.db, func(ctx context.Context, tx pgx.Tx) error {
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
				if err := outoforder.RecheckTx(ctx, tx, r.wirePaymentID()); err != nil {
					return err
				}
				return lock.Finish(ctx, tx, response)
			})
			if err != nil {
				return idempotency.Response{}, err
			}
			s.events.Notify()
			s.log.InfoContext(ctx, "refund finished", "refund_id", r.wireID(), "payment_id", r.wirePaymentID(), "status", r.Status)
			return response, fault.Point(ctx, fault.PaymentsRefundAfterFinish)

		default:
			// Finished, and yet the key was not: they are written in one transaction.
			return idempotency.Response{}, fmt.Errorf("refund %s: no way on from recovery point %q", r.wireID(), r.Point)
		}
	}
}

// giveUpRefund frees the amount that was set aside: it can be asked for again.
func giveUpRefund(ctx context.Context, tx pgx.Tx, r refund) error {
	_, err := tx.Exec(ctx, `
		UPDATE payments
		   SET refunded_minor = refunded_minor - $2,
		       updated_at     = now()
		 WHERE id = $1`,
		r.PaymentID, r.Amount.Minor)
	return err
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

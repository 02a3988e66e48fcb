package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

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
		return invalid("payment_id", "Required: the id of a payment, pay_….")
	}
	if n.Amount != nil {
		if err := n.Amount.Validate(); err != nil {
			return invalid("amount.currency", err.Error())
		}
		if n.Amount.Minor <= 0 {
			return invalid("amount.minor", "Must be above zero.")
		}
	}
	if len(n.Reason) > maxRefundReason || strings.ContainsFunc(n.Reason, func(r rune) bool { return r < ' ' }) {
		return invalid("reason", fmt.Sprintf("At most %d bytes without control characters.", maxRefundReason))
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
	return jsonAnswer(http.StatusCreated, "/v1/refunds/"+r.wireID(), r.view())
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

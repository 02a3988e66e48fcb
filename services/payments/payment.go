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

	"example.com/failwell/shared/pattern/outoforder"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
)

// The states of a payment; migrations/00001_payments.sql says what each means.
const (
	authorising   = "authorising"
	authorised    = "authorised"
	declined      = "declined"
	captured      = "captured"
	captureFailed = "capture_failed"
	voiding       = "voiding"
	voided        = "voided"
)

// payment is a row of payments.
type payment struct {
	ID          uuid.UUID
	OrderID     uuid.UUID
	MerchantID  string
	Status      string
	Reason      string
	Amount      money.Money
	Method      string // what the token was redeemed for; empty: no hold was asked for
	ChargeID    string
	Refunded    int64
	CreatedAt   time.Time
	UpdatedAt   time.Time
	ReceiptName string     // of the stored document; empty: none yet
	SettledAt   *time.Time // when the processor said that the money is on its way to us
	Version     int
}

func (p payment) wireID() string      { return "pay_" + p.ID.String() }
func (p payment) wireOrderID() string { return "ord_" + p.OrderID.String() }

const selectPayment = `
	SELECT id, order_id, merchant_id, status, reason, amount_minor, currency,
	       payment_method, charge_id, refunded_minor, created_at, updated_at, receipt_name, settled_at, version
	  FROM payments`

func scanPayment(row pgx.CollectableRow) (payment, error) {
	var p payment
	err := row.Scan(&p.ID, &p.OrderID, &p.MerchantID, &p.Status, &p.Reason, &p.Amount.Minor, &p.Amount.Currency,
		&p.Method, &p.ChargeID, &p.Refunded, &p.CreatedAt, &p.UpdatedAt, &p.ReceiptName, &p.SettledAt, &p.Version)
	return p, err
}

// load queues the read of a payment. p stays empty when there is none.
func load(b *pgx.Batch, id uuid.UUID, p *payment) {
	b.Queue(selectPayment+`
		 WHERE id = $1`,
		id,
	).Query(func(rows pgx.Rows) error {
		found, err := pgx.CollectOneRow(rows, scanPayment)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		*p = found
		return err
	})
}

// paymentOf reads a payment; it is empty when there is none.
func (s *service) paymentOf(ctx context.Context, id uuid.UUID) (p payment, err error) {
	err = postgres.Read(ctx, s.db, func(b *pgx.Batch) { load(b, id, &p) })
	return p, err
}

// record commits what a command has led to: the payment as it is now, and the reply.
// It is the last step of every command. The error is postgres.ErrStale when another
// writer has changed the payment since p was read; the command must read it again.
func (s *service) record(ctx context.Context, cmd command, p payment, reply saga.Reply) error {
	if err := fault.Point(ctx, fault.PaymentsRecordBeforeCommit); err != nil {
		return err
	}
	err := s.answer(ctx, cmd, reply, func(b *pgx.Batch) {
		b.Queue(`
			UPDATE payments
			   SET status     = $3,
			       reason     = $4,
			       charge_id  = $5,
			       updated_at = now(),
			       version    = CASE WHEN version = $2 THEN version + 1 ELSE -1 END
			 WHERE id = $1`,
			p.ID, p.Version, p.Status, p.Reason, p.ChargeID)
		if p.Status == captured {
			// The notification of the settlement may have come before this.
			outoforder.QueueRecheck(b, p.wireID())
		}
	})
	if postgres.Violates(err, "payments_version_current") {
		return postgres.ErrStale
	}
	if err != nil {
		return err
	}
	if p.Status == captured {
		s.events.Notify()
		s.wakeReceipts()
	}
	return fault.Point(ctx, fault.PaymentsRecordAfterCommit)
}

// paymentView is a payment as JSON.
type paymentView struct {
	ID        string      `json:"id"`
	OrderID   string      `json:"order_id"`
	Status    string      `json:"status"`
	Reason    string      `json:"reason,omitempty"`
	Amount    money.Money `json:"amount"`
	Refunded  money.Money `json:"refunded"`
	ReceiptID string      `json:"receipt_id,omitempty"`
	CreatedAt time.Time   `json:"created_at"`
	UpdatedAt time.Time   `json:"updated_at"`
}

// shownAs maps the states to those that a merchant can act upon. A hold that is
// being released is still a hold.
var shownAs = map[string]string{
	authorising: "pending", authorised: "authorised", declined: "declined", captured: "captured",
	captureFailed: "authorised", voiding: "authorised", voided: "voided",
}

func (p payment) view() paymentView {
	v := paymentView{
		ID: p.wireID(), OrderID: p.wireOrderID(), Status: shownAs[p.Status], Reason: p.Reason, Amount: p.Amount,
		Refunded:  money.Money{Minor: p.Refunded, Currency: p.Amount.Currency},
		CreatedAt: p.CreatedAt.UTC(), UpdatedAt: p.UpdatedAt.UTC(),
	}
	if p.ReceiptName != "" {
		v.ReceiptID = p.receiptID()
	}
	return v
}

// get shows a payment: GET /v1/payments/{id}.
func (s *service) get(c echo.Context) error {
	p, err := s.find(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, p.view())
}

// find reads the payment that the path names, if it is this merchant's.
func (s *service) find(c echo.Context) (payment, error) {
	id, _ := parseID("pay_", c.Param("id"))
	p, err := s.paymentOf(c.Request().Context(), id)
	if err == nil && p.MerchantID != web.MerchantID(c) {
		err = pgx.ErrNoRows
	}
	return p, orNotFound(err, "payment", c.Param("id"))
}

// parseID reads an id as the outside writes it: prefix and 36 characters. What is none
// becomes uuid.Nil, which no row has.
func parseID(prefix, wireID string) (uuid.UUID, bool) {
	bare, ok := strings.CutPrefix(wireID, prefix)
	id, err := uuid.Parse(bare)
	if !ok || err != nil || len(bare) != 36 {
		return uuid.Nil, false
	}
	return id, true
}

// orNotFound makes a 404 of a row that is not there, and leaves any other error.
func orNotFound(err error, what, id string) error {
	if !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	return web.NewProblem(http.StatusNotFound, "no-such-"+what, "No such "+what, fmt.Sprintf("There is no %s %q.", what, id))
}

// list shows the payment of an order: GET /v1/payments?order_id=.
func (s *service) list(c echo.Context) error {
	id, ok := parseID("ord_", c.QueryParam("order_id"))
	if !ok {
		return web.Invalid("order_id", "Required: the id of an order, ord_….")
	}
	rows, _ := s.db.Query(c.Request().Context(), selectPayment+`
		 WHERE order_id = $1
		   AND merchant_id = $2`,
		id, web.MerchantID(c))
	payments, err := pgx.CollectRows(rows, scanPayment)
	if err != nil {
		return err
	}
	views := make([]paymentView, len(payments))
	for i, p := range payments {
		views[i] = p.view()
	}
	return c.JSON(http.StatusOK, map[string]any{"data": views})
}

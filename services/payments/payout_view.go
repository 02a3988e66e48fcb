package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// newPayout is the body of POST /v1/payouts.
type newPayout struct {
	Amount money.Money `json:"amount"`
}

// maxPayout is the largest amount that the ledger books. It refuses more as a mistake
// of ours, not of the merchant's, and the payout would be tried without end.
const maxPayout = 1_000_000_000_000_000

// Validate checks the form. Whether there is enough is the ledger's to say.
func (n newPayout) Validate() error {
	if err := n.Amount.Validate(); err != nil {
		return web.Invalid("amount.currency", err.Error())
	}
	if n.Amount.Minor <= 0 || n.Amount.Minor > maxPayout {
		return web.Invalid("amount.minor", fmt.Sprintf("Must be above zero, and at most %d.", maxPayout))
	}
	return nil
}

func (s *service) loadPayout(ctx context.Context, id uuid.UUID) (payout, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT id, merchant_id, amount_minor, currency, recovery_point, outcome, failure, attempt, created_at
		  FROM payouts
		 WHERE id = $1`,
		id)
	return pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (p payout, err error) {
		err = row.Scan(&p.ID, &p.MerchantID, &p.Amount.Minor, &p.Amount.Currency, &p.Point, &p.Outcome, &p.Failure, &p.Attempt, &p.CreatedAt)
		return p, err
	})
}

// payoutView is a payout as JSON.
type payoutView struct {
	ID        string      `json:"id"`
	Status    string      `json:"status"`
	Failure   string      `json:"failure,omitempty"`
	Amount    money.Money `json:"amount"`
	CreatedAt time.Time   `json:"created_at"`
}

func (p payout) view() payoutView {
	return payoutView{ID: p.wireID(), Status: p.Outcome, Failure: p.Failure, Amount: p.Amount, CreatedAt: p.CreatedAt.UTC()}
}

// answer composes what is recorded under the key.
func (p payout) answer() (idempotency.Response, error) {
	if p.Outcome == payoutFailed && p.Failure == "insufficient_balance" {
		body, err := json.Marshal(web.NewProblem(http.StatusUnprocessableEntity, "insufficient-balance", "Not enough available",
			"The available balance is below "+p.Amount.String()+".").WithField("amount"))
		return idempotency.Response{Status: http.StatusUnprocessableEntity, Header: map[string]string{echo.HeaderContentType: "application/problem+json"}, Body: body}, err
	}
	status := http.StatusCreated
	if p.Outcome == payoutUnknown {
		status = http.StatusAccepted
	}
	return idempotency.JSON(status, "/v1/payouts/"+p.wireID(), p.view())
}

// pendingPayout shows a payout as pending, however far it has come.
func (s *service) pendingPayout(ctx context.Context, id uuid.UUID) (location string, view any, err error) {
	p, err := s.loadPayout(ctx, id)
	p.Outcome, p.Failure = payoutPending, ""
	return "/v1/payouts/" + p.wireID(), p.view(), err
}

// getPayout shows a payout: GET /v1/payouts/{id}.
func (s *service) getPayout(c echo.Context) error {
	id, _ := parseID("pyo_", c.Param("id"))
	p, err := s.loadPayout(c.Request().Context(), id)
	if err == nil && p.MerchantID != web.MerchantID(c) {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return orNotFound(err, "payout", c.Param("id"))
	}
	return c.JSON(http.StatusOK, p.view())
}

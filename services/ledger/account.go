package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// The chart of accounts. Platform accounts are kept per currency, merchant
// accounts per merchant and currency; the id says which.
var (
	platformKinds = map[string]bool{"card_receivable": true, "platform_fee": true, "processor_clearing": true, "cash": true}
	// What is in transit is kept per merchant, too: a payout holds the account from its
	// prepare to its decision, and another merchant's must not wait for that.
	merchantKinds = map[string]bool{"merchant_pending": true, "merchant_available": true, "payouts_in_transit": true}
)

func platformAccount(kind, currency string) string { return kind + ":" + currency }

func merchantAccount(kind, merchant, currency string) string {
	return kind + ":" + merchant + ":" + currency
}

func kindOf(account string) string {
	kind, _, _ := strings.Cut(account, ":")
	return kind
}

// merchantOf is whose account it is; "" for the platform's own.
func merchantOf(account string) string {
	if parts := strings.Split(account, ":"); len(parts) == 3 {
		return parts[1]
	}
	return ""
}

func currencyOf(account string) string {
	return account[strings.LastIndex(account, ":")+1:]
}

// knownAccount tells whether the id is one of the chart, in this currency.
func knownAccount(id, currency string) bool {
	parts := strings.Split(id, ":")
	switch len(parts) {
	case 2:
		return platformKinds[parts[0]] && parts[1] == currency
	case 3:
		return merchantKinds[parts[0]] && parts[1] != "" && len(parts[1]) <= maxText && parts[2] == currency &&
			!strings.ContainsFunc(parts[1], func(r rune) bool { return r < ' ' })
	}
	return false
}

type accountView struct {
	ID       string      `json:"id"`
	Kind     string      `json:"kind"`
	Currency string      `json:"currency"`
	Balance  money.Money `json:"balance"`
	Closed   bool        `json:"closed"`
}

// listAccounts shows a merchant's accounts: GET /v1/accounts.
func (s *service) listAccounts(c echo.Context) error {
	accounts, err := s.findAccounts(c.Request().Context(), web.MerchantID(c), "")
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"data": accounts})
}

// getAccount shows one of a merchant's accounts: GET /v1/accounts/{id}.
func (s *service) getAccount(c echo.Context) error {
	accounts, err := s.findAccounts(c.Request().Context(), web.MerchantID(c), c.Param("id"))
	if err != nil {
		return err
	}
	if len(accounts) == 0 {
		return web.NewProblem(http.StatusNotFound, "no-such-account", "No such account", fmt.Sprintf("There is no account %q.", c.Param("id")))
	}
	return c.JSON(http.StatusOK, accounts[0])
}

// findAccounts reads a merchant's accounts, or the one with the given id.
func (s *service) findAccounts(ctx context.Context, merchant, id string) ([]accountView, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT id, kind, currency, balance_minor, closed
		  FROM accounts
		 WHERE merchant_id = $1
		   AND ($2 = '' OR id = $2)
		 ORDER BY id`,
		merchant, id)
	return pgx.AppendRows([]accountView{}, rows, func(row pgx.CollectableRow) (accountView, error) {
		var a accountView
		err := row.Scan(&a.ID, &a.Kind, &a.Currency, &a.Balance.Minor, &a.Closed)
		a.Balance.Currency = a.Currency
		return a, err
	})
}

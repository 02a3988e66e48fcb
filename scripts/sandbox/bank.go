package main

import (
	"cmp"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// bank is the kind of bank that takes no keys: it cannot tell a retry from a
// second transfer. Its statement is the only way to find out what happened.
type bank struct {
	db  *pgxpool.Pool
	lag time.Duration
}

func (k *bank) routes(e *echo.Echo, f *faults) {
	e.POST("/bank/transfers", k.transfer,
		f.on("bank.transfers", refuse(http.StatusUnprocessableEntity, "transfer_refused", "The account does not take transfers.")))
	e.GET("/bank/statement", k.statement, f.onStatement("bank.statement"))
}

type transferRequest struct {
	Reference string      `json:"reference"`
	Amount    money.Money `json:"amount"`
	Account   string      `json:"account"`
}

func (r transferRequest) Validate() error {
	return cmp.Or(plainFields("reference", r.Reference, "account", r.Account), validAmount(r.Amount))
}

// transfer is a line of the statement.
type transfer struct {
	ID        uuid.UUID   `json:"id"`
	Reference string      `json:"reference"`
	Amount    money.Money `json:"amount"`
	Account   string      `json:"account"`
	At        time.Time   `json:"at"`
}

// transfer sends money. A caller that does not hear the answer has no way to
// ask for this transfer, and a second call is a second payment.
func (k *bank) transfer(c echo.Context) error {
	req, err := web.Bind[transferRequest](c)
	if err != nil {
		return err
	}
	if no := refusal(c); no != nil {
		return no.send(c)
	}
	ctx, cancel := unhurried(c)
	defer cancel()
	made := transfer{ID: newID(), Reference: req.Reference, Amount: req.Amount, Account: req.Account, At: now()}
	_, err = k.db.Exec(ctx, `
		INSERT INTO bank_transfers (id, reference, amount_minor, currency, account, at)
		VALUES ($1, $2, $3, $4, $5, $6)`,
		made.ID, made.Reference, made.Amount.Minor, made.Amount.Currency, made.Account, made.At)
	if err != nil {
		return err
	}
	return reply(http.StatusCreated, made).send(c)
}

// statement pages through what really left the bank.
func (k *bank) statement(c echo.Context) error {
	page, err := askedPage(c, k.lag)
	if err != nil {
		return err
	}
	rows, _ := k.db.Query(c.Request().Context(), `
		SELECT   id, reference, amount_minor, currency, account, at
		FROM     bank_transfers
		WHERE    id > $1 AND id < $2
		ORDER BY id
		LIMIT    $3`,
		page.after, page.before, page.limit+1)
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t transfer, err error) {
		err = row.Scan(&t.ID, &t.Reference, &t.Amount.Minor, &t.Amount.Currency, &t.Account, &t.At)
		t.At = t.At.UTC()
		return t, err
	})
	if err != nil {
		return err
	}
	return sendPage(c, page, lines, func(t transfer) uuid.UUID { return t.ID })
}

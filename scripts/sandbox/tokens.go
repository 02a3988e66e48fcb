package main

import (
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
)

// The test cards. No other number is taken: a real one must not be typed here.
const (
	cardWorks         = "4242424242424242"
	cardDeclined      = "4000000000000002" // declined when authorised
	cardNoCapture     = "4000000000000341" // authorises, then fails to capture
	cardNoFunds       = "4000000000009995" // insufficient funds when authorised
	cardFailsOnce     = "4000000000000119" // first authorisation fails before the work
	cardLosesTheFirst = "4000000000000069" // first authorisation works, its answer is lost
)

var testCards = map[string]bool{
	cardWorks: true, cardDeclined: true, cardNoCapture: true, cardNoFunds: true, cardFailsOnce: true, cardLosesTheFirst: true,
}

// tokenRequest is what the browser sends. The expiry date may be missing: the
// test cards have none.
type tokenRequest struct {
	Card     string `json:"card"`
	ExpMonth int    `json:"exp_month"`
	ExpYear  int    `json:"exp_year"`
}

func (r tokenRequest) Validate() error {
	switch {
	case !testCards[bare(r.Card)]:
		return invalid("card", "only the test cards are taken here, 4242 4242 4242 4242 for one")
	case r.ExpMonth < 0 || r.ExpMonth > 12:
		return invalid("exp_month", "is between 1 and 12")
	case r.ExpYear < 0 || r.ExpYear > 9999:
		return invalid("exp_year", "is a year")
	}
	return nil
}

func bare(card string) string { return strings.ReplaceAll(card, " ", "") }

// tokenise turns a card into a token. The customer's browser calls it, so that
// the shop never sees the card. One statement: load generators call it for
// every order.
func (p *processor) tokenise(c echo.Context) error {
	req, err := web.Bind[tokenRequest](c)
	if err != nil {
		return err
	}
	if no := refusal(c); no != nil {
		return no.send(c)
	}
	ctx, cancel := unhurried(c)
	defer cancel()
	token, card := "tok_"+newID().String(), bare(req.Card)
	_, err = p.db.Exec(ctx, `
		INSERT INTO processor_tokens (token, card, created_at)
		VALUES ($1, $2, $3)`,
		token, card, time.Now())
	if err != nil {
		return err
	}
	return reply(http.StatusCreated, map[string]string{"token": token, "card_last4": card[len(card)-4:]}).send(c)
}

type redeemRequest struct {
	Token     string `json:"token"`
	Reference string `json:"reference"`
}

func (r redeemRequest) Validate() error {
	return plainFields("token", r.Token, "reference", r.Reference)
}

var (
	tokenUsed    = refuse(http.StatusConflict, "token_already_used", "This token was redeemed before. Look for its payment method by your reference.")
	tokenUnknown = refuse(http.StatusNotFound, "unknown_token", "There is no such token.")
)

type paymentMethod struct {
	PaymentMethod string `json:"payment_method"`
	Token         string `json:"token"`
	Reference     string `json:"reference"`
}

// redeem turns a token into a payment method, once. It takes no key: a caller
// who lost the answer finds the payment method by reference.
func (p *processor) redeem(c echo.Context) error {
	req, err := web.Bind[redeemRequest](c)
	if err != nil {
		return err
	}
	if no := refusal(c); no != nil {
		return no.send(c)
	}
	ctx, cancel := unhurried(c)
	defer cancel()
	// One statement decides: no row means no such token, and the unique token
	// lets one of two redeemers through. To look first and insert then would
	// let both through.
	made := paymentMethod{PaymentMethod: "pm_" + newID().String(), Token: req.Token, Reference: req.Reference}
	var redeemed bool
	err = p.writer.Write(ctx, func(b *pgx.Batch) {
		b.Queue(`
			INSERT INTO processor_payment_methods (id, token, reference, card, created_at)
			SELECT $1, token, $3, card, $4
			FROM   processor_tokens
			WHERE  token = $2`,
			made.PaymentMethod, made.Token, made.Reference, time.Now(),
		).Exec(func(tag pgconn.CommandTag) error {
			redeemed = tag.RowsAffected() == 1
			return nil
		})
	})
	switch {
	case postgres.Violates(err, "processor_payment_methods_token_once"):
		return tokenUsed.send(c)
	case err != nil:
		return err
	case !redeemed:
		return tokenUnknown.send(c)
	}
	return reply(http.StatusCreated, made).send(c)
}

// paymentMethods is how somebody who lost the answer to redeem catches up.
func (p *processor) paymentMethods(c echo.Context) error {
	if !plain(c.QueryParam("reference")) {
		return invalid("reference", plainText)
	}
	rows, _ := p.db.Query(c.Request().Context(), `
		SELECT   id, token, reference
		FROM     processor_payment_methods
		WHERE    reference = $1
		ORDER BY id`,
		c.QueryParam("reference"))
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[paymentMethod])
	if err != nil {
		return err
	}
	return reply(http.StatusOK, map[string]any{"data": found}).send(c)
}

// newID is a UUIDv7: its order is the order of creation, which the report and
// the statement page along.
func newID() uuid.UUID {
	return uuid.Must(uuid.NewV7())
}

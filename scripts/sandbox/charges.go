package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// processor is the card processor.
type processor struct {
	db      *pgxpool.Pool
	writer  writer
	keyWait time.Duration
	lag     time.Duration

	// settleAfter is when a webhook is due after its operation; nil: no client
	// listens to webhooks, and none are recorded.
	settleAfter *time.Duration
}

func (p *processor) routes(e *echo.Echo, key string, f *faults) {
	// The browser has no key: one that is shipped to browsers is not secret.
	e.POST("/v1/tokens", p.tokenise, f.on("tokens", refuse(402, "card_declined", "The card was declined.")))

	v1 := e.Group("/v1", web.RequireServiceKey(key))
	v1.POST("/payment_methods", p.redeem, f.on("payment_methods", refuse(402, "card_declined", "The card was declined.")))
	v1.GET("/payment_methods", p.paymentMethods)
	v1.POST("/charges", p.authorise, f.on("charges.create", refuse(402, "card_declined", "The card was declined.")))
	v1.GET("/charges", p.charges)
	v1.GET("/charges/:id", p.charge)
	v1.POST("/charges/:id/capture", p.capture, f.on("charges.capture", captureFailed))
	v1.POST("/charges/:id/void", p.void, f.on("charges.void", refuse(402, "void_failed", "The hold cannot be released.")))
	v1.POST("/charges/:id/refund", p.refund, f.on("charges.refund", refuse(402, "refund_failed", "The card's bank does not take the money back.")))
	v1.GET("/refunds", p.refunds)
	v1.GET("/report", p.report, f.onStatement("report"))
	e.DELETE("/faults/keys", p.forgetKeys)
}

// charge is a hold on a card and what became of it.
type charge struct {
	ID            string      `json:"id"`
	Status        string      `json:"status"`
	Amount        money.Money `json:"amount"`
	CapturedMinor int64       `json:"captured_minor"`
	RefundedMinor int64       `json:"refunded_minor"`
	Reference     string      `json:"reference"`
	MerchantID    string      `json:"merchant_id"`
	PaymentMethod string      `json:"payment_method"`
	CreatedAt     time.Time   `json:"created_at"`

	card    string
	version int
}

// selectCharge reads what scanCharge scans, in that order.
const selectCharge = `
	SELECT id, status, amount_minor, currency, captured_minor, refunded_minor,
	       reference, merchant_id, payment_method, created_at, card, version
	FROM   processor_charges `

func scanCharge(row pgx.CollectableRow) (charge, error) {
	var ch charge
	err := row.Scan(&ch.ID, &ch.Status, &ch.Amount.Minor, &ch.Amount.Currency, &ch.CapturedMinor, &ch.RefundedMinor,
		&ch.Reference, &ch.MerchantID, &ch.PaymentMethod, &ch.CreatedAt, &ch.card, &ch.version)
	ch.CreatedAt = ch.CreatedAt.UTC()
	return ch, err
}

type authoriseRequest struct {
	PaymentMethod string      `json:"payment_method"`
	Amount        money.Money `json:"amount"`
	Reference     string      `json:"reference"`
	MerchantID    string      `json:"merchant_id"`
}

func (r authoriseRequest) Validate() error {
	return cmp.Or(plainFields("payment_method", r.PaymentMethod, "reference", r.Reference, "merchant_id", r.MerchantID), validAmount(r.Amount))
}

// authorise holds money on a card. How it goes wrong is up to the card.
func (p *processor) authorise(c echo.Context) error {
	body, err := web.Bind[authoriseRequest](c)
	if err != nil {
		return err
	}
	// The card is read and never written: only whether it has stumbled before
	// can change under us.
	var method struct {
		card     string
		stumbles int
	}
	look := func(b *pgx.Batch) {
		b.Queue(`
			SELECT card, stumbles
			FROM   processor_payment_methods
			WHERE  id = $1`,
			body.PaymentMethod).Query(func(rows pgx.Rows) error {
			return one(rows, &method.card, &method.stumbles)
		})
	}
	// In the transaction of the work, so that of two calls at the same moment
	// one gets the misbehaviour and the other is told to decide anew.
	stumble := func(b *pgx.Batch) {
		b.Queue(`
			UPDATE processor_payment_methods
			SET    stumbles = stumbles + 1
			WHERE  id = $1`,
			body.PaymentMethod)
	}
	decide := func() outcome {
		switch {
		case method.card == "":
			return outcome{answer: refuse(404, "unknown_payment_method", "There is no such payment method."), forget: true}
		case method.card == cardDeclined:
			return outcome{answer: refuse(402, "card_declined", "The card was declined.")}
		case method.card == cardNoFunds:
			return outcome{answer: refuse(402, "insufficient_funds", "There is not enough money on the card's account.")}
		case method.card == cardFailsOnce && method.stumbles == 0:
			return outcome{answer: failedBefore, work: stumble, forget: true}
		}
		ch := charge{
			ID: "ch_" + newID().String(), Status: "authorised", Amount: body.Amount, Reference: body.Reference,
			MerchantID: body.MerchantID, PaymentMethod: body.PaymentMethod, CreatedAt: now(), card: method.card,
		}
		given := reply(http.StatusCreated, ch)
		given.lost = method.card == cardLosesTheFirst && method.stumbles == 0
		return outcome{answer: given, work: func(b *pgx.Batch) {
			insertCharge(b, ch)
			p.operate(b, ch, "authorise", ch.Amount.Minor, "")
			if given.lost {
				stumble(b)
			}
		}}
	}
	return p.answer(c, body, look, decide)
}

// insertCharge leaves captured and refunded at nothing and the version at one.
func insertCharge(b *pgx.Batch, ch charge) {
	b.Queue(`
		INSERT INTO processor_charges
		       (id, status, amount_minor, currency, reference, merchant_id, payment_method, card, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		ch.ID, ch.Status, ch.Amount.Minor, ch.Amount.Currency, ch.Reference, ch.MerchantID, ch.PaymentMethod, ch.card, ch.CreatedAt)
}

// answer runs a money call and sends what it came to.
func (p *processor) answer(c echo.Context, body any, look func(b *pgx.Batch), decide func() outcome) error {
	req, valid := identify(c, body)
	if !valid {
		return keyInvalid.send(c)
	}
	ctx, cancel := unhurried(c)
	defer cancel()
	given, replayed, err := p.execute(ctx, req, look, func() outcome {
		out := decide()
		// A refusal that the rules demand stands in for work only. Where the
		// call would fail anyway, the true reason is the better answer.
		if no := refusal(c); no != nil && out.work != nil && !out.forget {
			return outcome{answer: *no}
		}
		return out
	})
	if err != nil {
		return err
	}
	if replayed {
		c.Response().Header().Set("Idempotent-Replayed", "true")
	}
	return given.send(c)
}

// operate queues the one row that says: money was moved. It is queued beside
// the update of the charge, in one transaction, and nowhere else. reference is the
// caller's name for a refund; a charge has one of its own.
func (p *processor) operate(b *pgx.Batch, ch charge, kind string, minor int64, reference string) {
	id, at := newID(), now()
	b.Queue(`
		INSERT INTO processor_operations (id, charge_id, kind, amount_minor, currency, at, reference)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		id, ch.ID, kind, minor, ch.Amount.Currency, at, reference)
	if p.settleAfter != nil && (kind == "capture" || kind == "refund") {
		announce(b, ch, kind, id, minor, at, at.Add(*p.settleAfter))
	}
}

// now is cut to what PostgreSQL keeps, so that an answer shows the same time
// when it is read back.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func (p *processor) charge(c echo.Context) error {
	if !plain(c.Param("id")) {
		return chargeUnknown.send(c)
	}
	ch, err := p.find(c.Request().Context(), `WHERE id = $1`, c.Param("id"))
	if err != nil {
		return err
	}
	if len(ch) == 0 {
		return chargeUnknown.send(c)
	}
	return reply(http.StatusOK, ch[0]).send(c)
}

// charges answers the question of a caller who does not know whether an
// authorisation happened: what do you have under my reference?
func (p *processor) charges(c echo.Context) error {
	if !plain(c.QueryParam("reference")) {
		return invalid("reference", plainText)
	}
	found, err := p.find(c.Request().Context(), `WHERE reference = $1 ORDER BY id`, c.QueryParam("reference"))
	if err != nil {
		return err
	}
	return reply(http.StatusOK, map[string]any{"data": found}).send(c)
}

func (p *processor) find(ctx context.Context, where, value string) ([]charge, error) {
	rows, _ := p.db.Query(ctx, selectCharge+where, value)
	found, err := pgx.CollectRows(rows, scanCharge)
	if err != nil {
		return nil, fmt.Errorf("find charges: %w", err)
	}
	return found, nil
}

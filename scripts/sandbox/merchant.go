package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"example.com/failwell/shared/platform/config"
)

// merchant is the endpoint that the shop's merchants are called back at. It
// keeps every attempt, so that one can see how often, under which id, and
// with which signature a callback came.
type merchant struct {
	db        *pgxpool.Pool
	writer    writer
	faults    *faults
	verifiers map[string]*standardwebhooks.Webhook
}

func newMerchant(db *pgxpool.Pool, w writer, f *faults, merchants []config.Merchant) (*merchant, error) {
	m := &merchant{db: db, writer: w, faults: f, verifiers: map[string]*standardwebhooks.Webhook{}}
	for _, each := range merchants {
		verifier, err := standardwebhooks.NewWebhook(each.WebhookSecret)
		if err != nil {
			return nil, fmt.Errorf("MERCHANTS: the webhook secret of %s must be whsec_ and base64", each.ID)
		}
		m.verifiers[each.ID] = verifier
	}
	return m, nil
}

func (m *merchant) routes(e *echo.Echo) {
	e.POST("/merchant/webhooks/:merchant_id", m.receive)
	e.GET("/merchant/callbacks", m.callbacks)
}

var (
	merchantUnknown = refuse(http.StatusNotFound, "unknown_merchant", "There is no such merchant.")
	signatureBad    = refuse(http.StatusUnauthorized, "signature_invalid", "The webhook's signature does not verify.")
	merchantClosed  = refuse(http.StatusServiceUnavailable, "closed", "Not now.")
)

// receive takes one attempt. It is stored with the answer that it gets, also
// when that is a refusal: only then can the tries be counted. The faults are
// asked here, not around it, for the same reason.
func (m *merchant) receive(c echo.Context) error {
	verifier, known := m.verifiers[c.Param("merchant_id")]
	if !known {
		return merchantUnknown.send(c)
	}
	misbehave := m.faults.next("merchant")
	pause(misbehave.before)
	if misbehave.fault == "fail_before" {
		return failedBefore.send(c)
	}
	body, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return err
	}
	valid := verifier.Verify(body, c.Request().Header) == nil

	// A refusal comes before the verification's verdict, as from a server that
	// is closed; the row keeps both.
	given := answer{status: http.StatusNoContent}
	switch {
	case misbehave.fault == "refuse":
		given = merchantClosed
	case !valid:
		given = signatureBad
	}
	given.lost = misbehave.fault == "lose_answer"
	answered := given.status
	if given.lost {
		answered = 0
	}

	ctx, cancel := unhurried(c)
	defer cancel()
	webhookID, merchantID := storable(c.Request().Header.Get(standardwebhooks.HeaderWebhookID)), c.Param("merchant_id")
	err = m.writer.Write(ctx, func(b *pgx.Batch) {
		b.Queue(`
			INSERT INTO merchant_deliveries
			       (id, webhook_id, merchant_id, order_id, signature_valid, body, received_at, answered)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			newID(), webhookID, merchantID, orderOf(body), valid, body, now(), answered)
	})
	if err != nil {
		return err
	}
	pause(misbehave.after)
	return given.send(c)
}

// orderOf finds the order that a callback is about; empty when it names none.
func orderOf(body []byte) string {
	var payload struct {
		Data struct {
			OrderID string `json:"order_id"`
			ID      string `json:"id"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &payload) != nil {
		return ""
	}
	if payload.Data.OrderID != "" {
		return storable(payload.Data.OrderID)
	}
	return storable(payload.Data.ID)
}

// storable keeps a malformed attempt from failing on our side: it is evidence.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
}

// delivery is one attempt as it is shown.
type delivery struct {
	ID             uuid.UUID `json:"id"`
	WebhookID      string    `json:"webhook_id"`
	MerchantID     string    `json:"merchant_id"`
	OrderID        string    `json:"order_id"`
	SignatureValid bool      `json:"signature_valid"`
	Body           string    `json:"body"`
	ReceivedAt     time.Time `json:"received_at"`
	Answered       int       `json:"answered"`
}

// callbacks lists the attempts for one order, oldest first.
func (m *merchant) callbacks(c echo.Context) error {
	if !plain(c.QueryParam("order_id")) {
		return invalid("order_id", plainText)
	}
	rows, _ := m.db.Query(c.Request().Context(), `
		SELECT   id, webhook_id, merchant_id, order_id, signature_valid, body, received_at, answered
		FROM     merchant_deliveries
		WHERE    order_id = $1
		ORDER BY id`,
		c.QueryParam("order_id"))
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d delivery, err error) {
		var body []byte
		err = row.Scan(&d.ID, &d.WebhookID, &d.MerchantID, &d.OrderID, &d.SignatureValid, &body, &d.ReceivedAt, &d.Answered)
		d.Body, d.ReceivedAt = string(body), d.ReceivedAt.UTC()
		return d, err
	})
	if err != nil {
		return err
	}
	return reply(http.StatusOK, map[string]any{"data": found}).send(c)
}

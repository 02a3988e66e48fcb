package main

import (
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/outoforder"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// The news that the processor sends, by rank: money that is given back settles
// after the money that was taken.
const (
	chargeSettled = "charge.settled"
	refundSettled = "refund.settled"
)

var rankOf = map[string]int16{chargeSettled: 1, refundSettled: 2}

// news is a webhook's body.
type news struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      settled   `json:"data"`
}

// maxID bounds the processor's ids, in bytes.
const maxID = 255

// decodeNews takes news with names that we do not know: the processor may add some. It
// reads what it knows as strictly as web.Decode.
func decodeNews(body []byte) (n news, err error) {
	err = json.Unmarshal(body, &n)
	return n, err
}

// settled is what both kinds of news tell.
type settled struct {
	OperationID uuid.UUID   `json:"operation_id"`
	ChargeID    string      `json:"charge_id"`
	Reference   string      `json:"reference"` // our payment
	MerchantID  string      `json:"merchant_id"`
	Amount      money.Money `json:"amount"`
}

// webhook takes the processor's news: POST /webhooks/processor.
//
// Verify, store, answer: nothing else is done while the processor waits. It
// sends again what it gets no 2xx for, so an answer before the event is stored
// would lose it, and work before the answer would make it impatient. Duplicates
// and news that come too early are the log's business.
//
// Pattern: out-of-order-messages (stored first)
func (s *service) webhook(c echo.Context) error {
	body, err := web.ReadJSON(c)
	if err != nil {
		return err
	}
	// Over the raw bytes, and with the time of sending, so that a copy of an old
	// webhook is refused. The comparison takes constant time.
	if err := s.verifier.Verify(body, c.Request().Header); err != nil {
		return web.NewProblem(http.StatusUnauthorized, "signature-invalid", "Signature not valid", err.Error()).WithField("webhook-signature")
	}
	n, err := decodeNews(body)
	if err != nil {
		return web.NewProblem(http.StatusBadRequest, "malformed-json", "Malformed JSON", err.Error())
	}
	rank, known := rankOf[n.Type]
	if !known {
		// News of a kind that was invented after us. Refusing it would make the
		// processor send it for days.
		s.log.InfoContext(c.Request().Context(), "webhook of an unknown kind ignored", "type", n.Type)
		return c.NoContent(http.StatusNoContent)
	}
	id := c.Request().Header.Get("webhook-id")
	if !utf8.ValidString(id) || len(id) > maxID || len(n.Data.Reference) > maxID {
		// No index takes it. The processor will send it again, but this answer tells it what is
		// wrong; a 500 would look like a fault of ours.
		return web.Invalid("webhook-id", fmt.Sprintf("It and data.reference must be UTF-8 of at most %d bytes.", maxID))
	}
	isNew, err := s.events.Append(c.Request().Context(), outoforder.Event{
		ID: id, Stream: n.Data.Reference, Rank: rank, HappenedAt: n.Timestamp, Type: n.Type, Body: body,
	})
	if err != nil {
		return fmt.Errorf("store webhook %s: %w", id, err)
	}
	if err := fault.Point(c.Request().Context(), fault.PaymentsWebhookAfterStore); err != nil {
		return err
	}
	if isNew {
		s.events.Notify()
	}
	return c.NoContent(http.StatusNoContent)
}

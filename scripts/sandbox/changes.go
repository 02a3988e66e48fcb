package main

import (
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// What the processor refuses. All of these are definite: nothing was done, and
// nothing will be under this key.
var (
	chargeUnknown   = refuse(http.StatusNotFound, "unknown_charge", "There is no such charge.")
	captureFailed   = refuse(http.StatusPaymentRequired, "capture_failed", "The card's bank refused to pay. The hold is still there.")
	alreadyCaptured = refuse(http.StatusConflict, "already_captured", "This charge was captured before.")
	alreadyVoided   = refuse(http.StatusConflict, "already_voided", "The hold of this charge was released before.")
	notCaptured     = refuse(http.StatusConflict, "not_captured", "This charge was not captured, so there is nothing to give back.")
	tooMuchCapture  = refuse(http.StatusUnprocessableEntity, "capture_exceeds_charge", "More than was authorised.")
	tooMuchRefund   = refuse(http.StatusUnprocessableEntity, "refund_exceeds_capture", "More than was captured and not yet given back.")
	otherCurrency   = refuse(http.StatusUnprocessableEntity, "currency_mismatch", "The charge is in another currency.")
)

type changeRequest struct {
	// Amount to capture or to give back. Absent: everything that is left.
	Amount *money.Money `json:"amount,omitempty"`

	// Reference is the caller's name for a refund, by which it can be looked up.
	Reference string `json:"reference,omitempty"`
}

func (r changeRequest) Validate() error {
	if r.Reference != "" && !plain(r.Reference) {
		return invalid("reference", plainText)
	}
	if r.Amount == nil {
		return nil
	}
	return validAmount(*r.Amount)
}

// change runs one change of an existing charge: decide gets the charge as it is
// and returns either a refusal, or the charge as it shall be and how much
// money that moves.
func (p *processor) change(c echo.Context, kind string, decide func(ch charge, asked *money.Money) (charge, int64, *answer)) error {
	if !plain(c.Param("id")) {
		return chargeUnknown.send(c)
	}
	// Most callers want all of it and send no body at all.
	var body changeRequest
	if c.Request().ContentLength != 0 {
		var err error
		if body, err = web.Bind[changeRequest](c); err != nil {
			return err
		}
	}
	var found []charge
	look := func(b *pgx.Batch) {
		b.Queue(selectCharge+`WHERE id = $1`, c.Param("id")).Query(func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectRows(rows, scanCharge)
			return err
		})
	}
	return p.answer(c, body, look, func() outcome {
		if len(found) == 0 {
			return outcome{answer: chargeUnknown, forget: true}
		}
		// Minor units of two currencies compare as numbers and mean nothing.
		if body.Amount != nil && body.Amount.Currency != found[0].Amount.Currency {
			return outcome{answer: otherCurrency}
		}
		ch, moved, no := decide(found[0], body.Amount)
		if no != nil {
			return outcome{answer: *no}
		}
		return outcome{answer: reply(http.StatusOK, ch), work: func(b *pgx.Batch) {
			updateCharge(b, ch)
			p.operate(b, ch, kind, moved, body.Reference)
		}}
	})
}

// updateCharge writes the charge on condition that it is still the one that
// was read. Two refunds at the same moment would otherwise both be decided on
// the same remainder and give it back twice.
func updateCharge(b *pgx.Batch, ch charge) {
	b.Queue(`
		UPDATE processor_charges
		SET    status         = $2,
		       captured_minor = $3,
		       refunded_minor = $4,
		       version        = CASE WHEN version = $5 THEN version + 1 ELSE 0 END
		WHERE  id = $1`,
		ch.ID, ch.Status, ch.CapturedMinor, ch.RefundedMinor, ch.version)
}

// capture takes the money that was held.
func (p *processor) capture(c echo.Context) error {
	return p.change(c, "capture", func(ch charge, asked *money.Money) (charge, int64, *answer) {
		switch {
		case ch.Status == "captured":
			return ch, 0, &alreadyCaptured
		case ch.Status == "voided":
			return ch, 0, &alreadyVoided
		// The hold stays: the caller has to release it, and may forget to.
		case ch.card == cardNoCapture:
			return ch, 0, &captureFailed
		case asked != nil && asked.Minor > ch.Amount.Minor:
			return ch, 0, &tooMuchCapture
		}
		ch.Status, ch.CapturedMinor = "captured", ch.Amount.Minor
		if asked != nil {
			ch.CapturedMinor = asked.Minor
		}
		return ch, ch.CapturedMinor, nil
	})
}

// void lets the held money go.
func (p *processor) void(c echo.Context) error {
	return p.change(c, "void", func(ch charge, _ *money.Money) (charge, int64, *answer) {
		switch ch.Status {
		case "captured":
			return ch, 0, &alreadyCaptured
		case "voided":
			return ch, 0, &alreadyVoided
		}
		ch.Status = "voided"
		return ch, ch.Amount.Minor, nil
	})
}

// refund gives captured money back, in parts if need be.
func (p *processor) refund(c echo.Context) error {
	return p.change(c, "refund", func(ch charge, asked *money.Money) (charge, int64, *answer) {
		left := ch.CapturedMinor - ch.RefundedMinor
		moved := left
		if asked != nil {
			moved = asked.Minor
		}
		switch {
		case ch.Status != "captured":
			return ch, 0, &notCaptured
		case moved > left || moved == 0:
			return ch, 0, &tooMuchRefund
		}
		ch.RefundedMinor += moved
		return ch, moved, nil
	})
}

// madeRefund is a refund that was carried out.
type madeRefund struct {
	ID        uuid.UUID   `json:"id"`
	ChargeID  string      `json:"charge_id"`
	Reference string      `json:"reference"`
	Amount    money.Money `json:"amount"`
	At        time.Time   `json:"at"`
}

// refunds answers the question of a caller who does not know whether a refund
// happened, and whose key may be forgotten by now.
func (p *processor) refunds(c echo.Context) error {
	if !plain(c.QueryParam("reference")) {
		return invalid("reference", plainText)
	}
	rows, _ := p.db.Query(c.Request().Context(), `
		SELECT   id, charge_id, reference, amount_minor, currency, at
		FROM     processor_operations
		WHERE    reference = $1 AND reference <> '' AND kind = 'refund'
		ORDER BY id`,
		c.QueryParam("reference"))
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r madeRefund, err error) {
		err = row.Scan(&r.ID, &r.ChargeID, &r.Reference, &r.Amount.Minor, &r.Amount.Currency, &r.At)
		r.At = r.At.UTC()
		return r, err
	})
	if err != nil {
		return err
	}
	return reply(http.StatusOK, map[string]any{"data": found}).send(c)
}

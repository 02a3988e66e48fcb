package main

import (
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/pattern/saga"
)

// outcome is the end of an order: its last state and the news for the merchant.
type outcome struct {
	order order
	news  *callback.Delivery // nil when the merchant asked for none
}

// news is the payload of a callback, in the shape that Standard Webhooks proposes.
type news struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      orderView `json:"data"`
}

// conclude works out how an order ends. A completed saga confirms it; an undone
// one cancels it, for the reason that turned the saga around.
func (s *service) conclude(o order, row saga.Row, end saga.State, reason string) (outcome, error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	o.FinishedAt = &now
	o.Status = statusConfirmed
	if end.Phase == saga.Undone {
		o.Status, o.Reason = statusCancelled, reason
		if row.Reason != "" {
			o.Reason = row.Reason // the first reason is the cause, later ones its consequences
		}
	}
	if o.CallbackURL == "" {
		return outcome{order: o}, nil
	}
	payload, err := json.Marshal(news{Type: "order." + o.Status, Timestamp: now, Data: o.view()})
	if err != nil {
		return outcome{}, err
	}
	id, err := callback.NewID()
	if err != nil {
		return outcome{}, err
	}
	return outcome{order: o, news: &callback.Delivery{
		ID: id, MerchantID: o.MerchantID, Subject: o.wireID(), URL: o.CallbackURL, Payload: payload,
	}}, nil
}

// write queues the end of the order: its state, its stock, and the callback,
// which is sent after the commit and survives a crash before it.
//
// Pattern: callback
func (r outcome) write(b *pgx.Batch) {
	b.Queue(`
		UPDATE orders
		   SET status      = $2,
		       reason      = $3,
		       finished_at = $4
		 WHERE id = $1`,
		r.order.ID, r.order.Status, r.order.Reason, r.order.FinishedAt)
	if r.news != nil {
		callback.Enqueue(b, *r.news)
	}
	if r.order.Status == statusConfirmed {
		sell(b, r.order)
	} else {
		release(b, r.order)
	}
}

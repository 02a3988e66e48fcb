package main

import (
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

// conclude works out how an order ends. A completed saga confirms it; an undone
// one cancels it, for the reason that turned the saga around.
func conclude(o order, row saga.Row, state saga.State, reason string) outcome {
	now := time.Now().UTC().Truncate(time.Microsecond)
	o.FinishedAt = &now
	o.Status = statusConfirmed
	if state.Phase == saga.Undone {
		o.Status, o.Reason = statusCancelled, reason
		if row.Reason != "" {
			o.Reason = row.Reason // the first reason is the cause, later ones its consequences
		}
	}
	return outcome{order: o}
}

// write queues the end of the order: its state, its stock, and the news of it.
func (r outcome) write(b *pgx.Batch) {
	b.Queue(`
		UPDATE orders
		   SET status      = $2,
		       reason      = $3,
		       finished_at = $4
		 WHERE id = $1`,
		r.order.ID, r.order.Status, r.order.Reason, r.order.FinishedAt)
	r.enqueue(b)
	if r.order.Status == statusConfirmed {
		sell(b, r.order)
	} else {
		release(b, r.order)
	}
}

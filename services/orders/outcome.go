package main

import (
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/pattern/saga"
)

// outcome is the end of an order: its last state and the merchant's notification.
type outcome struct {
	order        order
	notification *callback.Delivery // nil when the merchant asked for none
}

// conclude works out how an order ends. A completed saga confirms it; a compensated
// one cancels it, for the reason that turned the saga around.
func conclude(o order, t saga.Transition) (outcome, error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	o.FinishedAt = &now
	o.Status = statusConfirmed
	if t.To.Phase == saga.Compensated {
		o.Status, o.Reason = statusCancelled, t.Cause()
	}
	delivery, err := notify(o)
	return outcome{order: o, notification: delivery}, err
}

// write queues the end of the order: its state, its stock, and the notification.
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

package main

import (
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/pattern/saga"
)

// end is the order at the end of its saga. A completed saga confirms it; a compensated one
// cancels it, for the reason that turned the saga around.
func (o order) end(t saga.Transition) order {
	now := time.Now().UTC().Truncate(time.Microsecond)
	o.FinishedAt = &now
	o.Status = statusConfirmed
	if t.To.Phase == saga.Compensated {
		o.Status, o.Reason = statusCancelled, t.Cause()
	}
	return o
}

// writeEnd queues the end of the order: its state, its stock, and what its merchant is told.
func (o order) writeEnd(b *pgx.Batch, notification *callback.Delivery) {
	b.Queue(`
		UPDATE orders
		   SET status      = $2,
		       reason      = $3,
		       finished_at = $4
		 WHERE id = $1`,
		o.ID, o.Status, o.Reason, o.FinishedAt)
	if notification != nil {
		callback.Enqueue(b, *notification)
	}
	if o.Status == statusConfirmed {
		sell(b, o)
	} else {
		release(b, o)
	}
}

package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/saga"
)

// finish commits the last step of an order's saga, and with it the end of the order.
func (s *service) finish(ctx context.Context, o order, t saga.Transition, message *changerecord.Message) error {
	o = o.ended(t)
	notification, err := notify(ctx, o)
	if err != nil {
		return err
	}
	err = s.commitStep(ctx, t, message, func(b *pgx.Batch) { o.writeEnd(b, notification) })
	if err != nil {
		return err
	}
	s.callbacks.Wake()
	s.metrics.finished.WithLabelValues(o.Status).Inc()
	s.log.InfoContext(ctx, "order finished", "order_id", o.wireID(), "status", o.Status, "reason", o.Reason)
	return nil
}

// ended is the order as it is at the end of its saga. A completed saga confirms it; a
// compensated one cancels it, for the reason that turned the saga around.
func (o order) ended(t saga.Transition) order {
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

package main

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/tracing"
	"example.com/failwell/shared/platform/wait"
)

const (
	// overdueBatch is how many overdue orders are claimed at once.
	overdueBatch = 100

	// resendAtOnce is how many of them are sent again at the same time: the requests
	// of customers need connections too.
	resendAtOnce = 8

	// overdueLease is for how many sweeps an order belongs to the replica that claimed
	// it: a minute, by default, for what takes a second.
	overdueLease = 4
)

// resendOverdue runs until ctx ends and sends the commands again whose reply did not
// come in time: the command or its reply was parked, or the participant was down for
// longer than its retries last. Replicas do it side by side, each with other orders.
//
// Pattern: completer
func (s *service) resendOverdue(ctx context.Context) {
	for wait.For(ctx, s.cfg.SagaSweep) {
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("looking for overdue orders failed, will look again", "error", err)
		}
	}
}

// sweep resends all that is overdue. A full batch is followed by the next at once: a
// hundred every fifteen seconds are too few after an outage.
func (s *service) sweep(ctx context.Context) error {
	for ctx.Err() == nil {
		overdue, err := saga.ClaimOverdue(ctx, s.db, overdueBatch, overdueLease*s.cfg.SagaSweep)
		if err != nil {
			return err
		}
		var resending errgroup.Group
		resending.SetLimit(resendAtOnce)
		for _, id := range overdue {
			resending.Go(func() error {
				if err := s.resend(ctx, id); err != nil && ctx.Err() == nil {
					s.log.Warn("sending a command again failed, a later sweep will try", "order_id", order{ID: id}.wireID(), "error", err)
				}
				return nil
			})
		}
		_ = resending.Wait()
		if len(overdue) < overdueBatch {
			return nil
		}
	}
	return nil
}

// resend sends the current command of an order's saga again: a step from its state to
// the same state.
func (s *service) resend(ctx context.Context, id uuid.UUID) error {
	o, row, err := s.read(ctx, id)
	if err != nil || row.State.Ended() {
		return err
	}
	ctx, span := tracing.Continue(ctx, row.Traceparent, "resend "+row.State.Step)
	defer span.End()
	s.log.WarnContext(ctx, "no reply in time, sending the command again", "order_id", o.wireID(), "step", row.State.Step, "attempts", row.Attempts)
	s.metrics.commandsResent.Inc()
	err = s.advance(ctx, o, saga.Transition{From: row, To: row.State}, nil)
	if errors.Is(err, postgres.ErrStale) {
		return nil // the reply has come meanwhile
	}
	return err
}

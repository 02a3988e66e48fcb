package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// capture takes the money that was held. No intent is written before the call:
// the saga never asks for a void while a capture is open, so there is nobody
// whom the intent would have to warn, and the key makes a second call harmless.
// For the same reason the payment may be remembered instead of read: if it has
// changed since, the write of the outcome fails, and it is read after all.
func (s *service) capture(ctx context.Context, cmd command) error {
	p, remembered := s.held.Get(cmd.paymentID)
	s.held.Remove(cmd.paymentID)
	return postgres.RetryStale(ctx, func() error {
		if !remembered {
			var seen bool
			p = payment{}
			err := postgres.Read(ctx, s.db, func(b *pgx.Batch) {
				load(b, cmd.paymentID, &p)
				cmd.message.Seen(b, &seen)
			})
			if err != nil || seen {
				return err
			}
		}
		remembered = false // whatever fails now, the next try reads
		switch p.Status {
		case authorised:
		case captured:
			return s.repeat(ctx, cmd, "capture", done, "")
		case captureFailed:
			return s.repeat(ctx, cmd, "capture", refused, p.Reason)
		default:
			return s.repeat(ctx, cmd, "capture", refused, "not_authorised")
		}

		if err := fault.Point(ctx, fault.PaymentsCaptureBeforeProcessor); err != nil {
			return err
		}
		outcome := done
		p.Status = captured
		// Pattern: idempotency-key-external
		err := s.processor.capture(ctx, p.wireID()+":capture", p.ChargeID, p.wireID(), p.Amount)
		if no := (*refusal)(nil); errors.As(err, &no) {
			outcome, p.Status, p.Reason = refused, captureFailed, no.code
		} else if err != nil {
			if errors.Is(err, errContradiction) {
				s.log.ErrorContext(ctx, "capture: a person must look", "payment_id", p.wireID(), "error", err)
			}
			return err
		}
		if err := fault.Point(ctx, fault.PaymentsCaptureAfterProcessor); err != nil {
			return err
		}
		answer, err := cmd.reply(ctx, s.outbox, "capture", outcome, p.Reason)
		if err != nil {
			return err
		}
		return s.record(ctx, cmd, p, answer)
	})
}

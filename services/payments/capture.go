package main

import (
	"context"
	"errors"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// capture takes the money that was held. No intent is written before the call:
// the saga never commands a void while it waits for a capture, so there is no other
// command that the intent would have to warn, and the key makes a second call harmless.
// So does the charge when the key is forgotten: it is captured once, and says so.
func (s *service) capture(ctx context.Context, cmd command) error {
	return postgres.RetryStale(ctx, func() error {
		p, err := s.paymentOf(ctx, cmd.paymentID)
		if err != nil {
			return err
		}
		switch p.Status {
		case authorised:
		case captured:
			return s.answer(ctx, cmd, cmd.Done(), nil)
		case captureFailed:
			return s.answer(ctx, cmd, cmd.Refused(p.Reason), nil)
		default:
			return s.answer(ctx, cmd, cmd.Refused("not_authorised"), nil)
		}

		if err := fault.Point(ctx, fault.PaymentsCaptureBeforeProcessor); err != nil {
			return err
		}
		reply := cmd.Done()
		p.Status = captured
		// Pattern: idempotency-key-external
		err = s.processor.capture(ctx, p.wireID()+":capture", p.ChargeID, p.wireID(), p.Amount)
		if refused, ok := errors.AsType[*refusal](err); ok {
			reply, p.Status, p.Reason = cmd.Refused(refused.code), captureFailed, refused.code
		} else if err != nil {
			return err
		}
		if err := fault.Point(ctx, fault.PaymentsCaptureAfterProcessor); err != nil {
			return err
		}
		return s.record(ctx, cmd, p, reply)
	})
}

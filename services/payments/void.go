package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// void makes sure that nothing is held for a payment, now or later.
//
//  1. Write the intent: from here on no command authorises or captures. Where there
//     is no payment yet, because the void has overtaken its authorise, the row
//     is a tombstone, and the late authorise is refused.
//  2. Find out which charge there is. See ensureCharges.
//  3. Release it at the processor, under a key that is the same at every try.
//  4. Write the outcome with the reply.
//
// Power fails anywhere: the message comes again and goes on from the intent.
//
// Pattern: saga (a compensation that survives its own races)
func (s *service) void(ctx context.Context, cmd command) error {
	return postgres.RetryStale(ctx, func() error {
		var p payment
		err := s.writer.Write(ctx, func(b *pgx.Batch) {
			b.Queue(`
				INSERT INTO payments (id, order_id, merchant_id, status, reason, amount_minor, currency)
				VALUES ($1, $2, $3, 'voided', 'voided_before_authorised', $4, $5)
				ON CONFLICT (id) DO UPDATE
				   SET status     = 'voiding',
				       updated_at = now(),
				       version    = payments.version + 1
				 WHERE payments.status IN ('authorising', 'authorised', 'capture_failed')`,
				cmd.paymentID, cmd.orderID, cmd.MerchantID, cmd.Amount.Minor, cmd.Amount.Currency)
			load(b, cmd.paymentID, &p)
		})
		if err != nil {
			return err
		}
		switch p.Status {
		case voided, declined:
			return s.answer(ctx, cmd, cmd.Done(), nil)
		case captured:
			// The saga does not send this. If it ever does, the reply that the
			// money was released would be a lie.
			s.log.ErrorContext(ctx, "void of a captured payment refused", "payment_id", p.wireID(), "order_id", cmd.OrderID)
			return s.answer(ctx, cmd, cmd.Refused("already_captured"), nil)
		}

		if err := fault.Point(ctx, fault.PaymentsVoidAfterIntent); err != nil {
			return err
		}
		holds, err := s.ensureCharges(ctx, &p)
		if err != nil {
			return err
		}
		for _, held := range holds {
			// Pattern: idempotency-key-external
			err := s.processor.void(ctx, held.ID+":void", held.ID)
			refused, ok := errors.AsType[*refusal](err)
			switch {
			case ok && refused.code != "already_voided": // a hold that cannot be released is no "done"
				return fmt.Errorf("%w: charge %s: %w", errContradiction, held.ID, err)
			case err != nil && !ok:
				return err
			}
		}
		if err := fault.Point(ctx, fault.PaymentsVoidAfterProcessor); err != nil {
			return err
		}
		p.Status = voided
		return s.record(ctx, cmd, p, cmd.Done())
	})
}

// ensureCharges makes it definite which charges there are for a payment whose authorise
// was begun and not recorded. A look-up would not help: the request for a hold may still be
// on its way, and arrive after it. So the hold is requested again under the same key.
// Whichever request arrives first, there is one charge at most, and its id is known.
//
// When the processor may have forgotten the key, that would make a second hold. By then no
// request is on its way any more, so the look-up does help, and all that it finds is released.
func (s *service) ensureCharges(ctx context.Context, p *payment) (holds []charge, err error) {
	switch {
	case p.ChargeID != "":
		return []charge{{ID: p.ChargeID}}, nil
	case s.keyForgotten(p.CreatedAt):
		holds, err = s.lookUpHolds(ctx, *p)
	default:
		holds = make([]charge, 1)
		holds[0].ID, err = s.placeHold(ctx, *p)
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		p.Reason = refused.code
		return nil, nil // declined: nothing is held
	}
	if err == nil {
		p.ChargeID = holds[0].ID
	}
	return holds, err
}

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// authorise holds the amount of an order on the customer's card.
//
//  1. Redeem the card token.
//     Power fails here: the token turns out to be ours, see redeem.
//  2. Write that we have begun, with what we got for the token, and read how the
//     payment stands.
//     Power fails here: the message comes again, and finds the row.
//  3. Ask the processor for the hold, under a key that is the same at every try.
//     Power fails here, or the answer is lost: the message comes again, the
//     processor knows the key and repeats its answer.
//  4. Write the outcome with the reply.
//     Power fails after it: the message comes again and is known.
//
// Without the row of step 2, a void that comes while the processor is thinking would find
// nothing to undo. When the void was first, its tombstone is in the place of the row, and no
// code asks for a hold. A void that finds neither knows that nothing is held and nothing
// will be. Redeeming comes before the row because it moves no money.
func (s *service) authorise(ctx context.Context, cmd command) error {
	begun, reason := authorising, ""
	method, err := s.redeem(ctx, cmd)
	if refused, ok := errors.AsType[*refusal](err); ok {
		// Definite for us, but not for another process that may be redeeming at the same
		// moment: the one that writes the row first has decided.
		begun, reason = declined, refused.code
	} else if err != nil {
		return err
	}
	if err := fault.Point(ctx, fault.PaymentsRedeemAfterProcessor); err != nil {
		return err
	}
	return postgres.RetryStale(ctx, func() error {
		var p payment
		// Pattern: recovery-point
		err := s.writer.Write(ctx, func(b *pgx.Batch) {
			b.Queue(`
				INSERT INTO payments (id, order_id, merchant_id, status, reason, amount_minor, currency, payment_method)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
				ON CONFLICT (id) DO NOTHING`,
				cmd.paymentID, cmd.orderID, cmd.MerchantID, begun, reason, cmd.Amount.Minor, cmd.Amount.Currency, method)
			load(b, cmd.paymentID, &p)
		})
		if err != nil {
			return err
		}
		switch p.Status {
		case authorised, captured, captureFailed:
			return s.answer(ctx, cmd, cmd.Done(), nil)
		case declined:
			return s.answer(ctx, cmd, cmd.Refused(p.Reason), nil)
		case voiding, voided:
			// The void overtook us, or came while we were asking. Whatever hold
			// there is, the void releases it.
			return s.answer(ctx, cmd, cmd.Refused("voided"), nil)
		}

		if err := fault.Point(ctx, fault.PaymentsAuthoriseBeforeProcessor); err != nil {
			return err
		}
		reply := cmd.Done()
		p.Status = authorised
		p.ChargeID, err = s.placeHold(ctx, p)
		if refused, ok := errors.AsType[*refusal](err); ok {
			reply, p.Status, p.Reason = cmd.Refused(refused.code), declined, refused.code
		} else if err != nil {
			return err
		}
		if err := fault.Point(ctx, fault.PaymentsAuthoriseAfterProcessor); err != nil {
			return err
		}
		return s.record(ctx, cmd, p, reply)
	})
}

// placeHold holds the amount of a payment whose method is known, and returns the
// charge. However often it is called for one payment, and by however many at
// once, there is one charge. When the processor may have forgotten the key, the hold is
// looked up instead: see forgotten.go. The error is a *refusal when it is definite.
//
// Pattern: idempotency-key-external (the key is the payment's id and the step:
// the same after a crash, a restart, and in another process)
func (s *service) placeHold(ctx context.Context, p payment) (chargeID string, err error) {
	if s.keyForgotten(p.CreatedAt) {
		holds, err := s.lookUpHolds(ctx, p)
		switch {
		case err != nil:
			return "", err
		case len(holds) > 1:
			return "", fmt.Errorf("%w: there are %d holds for %s", errContradiction, len(holds), p.wireID())
		}
		return holds[0].ID, nil
	}
	charge, err := s.processor.authorise(ctx, p.wireID()+":authorise", p)
	return charge.ID, err
}

// redeem turns the card token into a payment method. A token can be redeemed
// once, and the processor takes no key for it: when it says "already used", the
// one who used it may have been us, before a crash or at this very moment in
// another process. The reference tells; then we go on from there. If it was
// somebody else, the token is stolen or was sent twice, and that is definite.
//
// Pattern: single-use-token-recovery
func (s *service) redeem(ctx context.Context, cmd command) (method string, err error) {
	method, err = s.processor.redeem(ctx, cmd.PaymentToken, cmd.PaymentID)
	refused, ok := errors.AsType[*refusal](err)
	if !ok || refused.code != "token_already_used" {
		return method, err
	}
	if err := fault.Point(ctx, fault.PaymentsRedeemBeforeRecovery); err != nil {
		return "", err
	}
	method, found, err := s.processor.redeemedFor(ctx, cmd.PaymentID)
	switch {
	case err != nil:
		return "", err
	case !found:
		return "", refused
	}
	return method, nil
}

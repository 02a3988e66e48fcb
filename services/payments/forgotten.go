package main

import (
	"context"
	"fmt"
	"time"
)

// The processor remembers a key for a day or so. After that the same key is a new question,
// and the money moves a second time. So a hold or refund that was first asked for longer ago
// than PROCESSOR_KEY_RETENTION is looked up, by the reference that was sent along. The rest
// can be repeated: a charge is captured or released once, a token redeemed once, and the
// books know an entry by its source.

// keyForgotten tells whether the processor may have forgotten the key of a question.
// first is when its row was written: the question is never put before that. A row that is dated
// further ahead than clocks differ was written under a wrong clock: its age is not known.
func (s *service) keyForgotten(first time.Time) bool {
	return time.Since(first) >= s.cfg.ProcessorKeyRetention || s.datedAhead(first)
}

func (s *service) datedAhead(first time.Time) bool { return time.Until(first) > s.cfg.ReconcileGrace }

// notFound is what it means when the processor has nothing under a reference. By the age of
// our row:
//
//   - Dated ahead: its age is not known. A person must look.
//   - Younger than the key's retention and the grace: unknown. A request that left just
//     before its key counted as forgotten may still be on its way.
//   - Older: a definite no. The reconciliation shows it, and the client of a refused refund
//     can ask for another.
//
// We do not ask under a new key: if the first request arrived after all, there would be two.
func (s *service) notFound(first time.Time, reference string) error {
	if s.datedAhead(first) {
		return fmt.Errorf("%w: there is nothing under %s, whose row is dated %s", errContradiction, reference, first)
	}
	if time.Since(first) < s.cfg.ProcessorKeyRetention+s.cfg.ReconcileGrace {
		return fmt.Errorf("processor: outcome unknown: nothing under %s yet", reference)
	}
	return &refusal{by: "processor", code: "not_executed"}
}

// lookUpHolds returns what the processor holds under a payment's reference, or has held.
// The error is a *refusal when that is nothing, and will be nothing.
func (s *service) lookUpHolds(ctx context.Context, p payment) ([]charge, error) {
	holds, err := listFor[charge](ctx, s.processor, "/v1/charges", p.wireID())
	if err == nil && len(holds) == 0 {
		err = s.notFound(p.CreatedAt, p.wireID())
	}
	return holds, err
}

// lookUpRefund returns nil when the processor has made this refund, and a *refusal when
// it has not, and will not.
func (s *service) lookUpRefund(ctx context.Context, r *refund) error {
	made, err := listFor[madeRefund](ctx, s.processor, "/v1/refunds", r.wireID())
	switch {
	case err != nil:
		return err
	case len(made) == 0:
		return s.notFound(r.CreatedAt, r.wireID())
	case len(made) > 1 || made[0] != madeRefund{ChargeID: r.ChargeID, Amount: r.Amount}:
		return fmt.Errorf("%w: under %s it has made %v", errContradiction, r.wireID(), made)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/atmostonce"
	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/recoverypoint"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// The recovery points of a payout, in order.
const (
	payoutStarted  = "started"  // asked for; perhaps a distributed transaction is in doubt
	payoutBooked   = "booked"   // set aside in the ledger; written by the distributed transaction itself
	payoutDecided  = "decided"  // sent, failed or unknown
	payoutFinished = "finished" // the answer is recorded under the key
)

// The outcomes of a payout.
const (
	payoutPending = "pending"
	payoutSent    = "sent"
	payoutUnknown = "unknown" // the bank was asked and its answer is not known
	payoutFailed  = "failed"
)

// payout is a row of payouts.
type payout struct {
	ID         uuid.UUID
	MerchantID string
	Amount     money.Money
	Point      string
	Outcome    string
	Failure    string
	Attempt    int // how many distributed transactions were tried
	CreatedAt  time.Time
}

func (p payout) wireID() string { return "pyo_" + p.ID.String() }

// gid names the distributed transaction of one attempt. An attempt that was
// aborted stays aborted, so the next one needs a name of its own.
func (p payout) gid() string { return fmt.Sprintf("%s.%d", p.wireID(), p.Attempt) }

func (s *service) payouts() operation {
	return operation{
		name: "POST /v1/payouts", afterStart: fault.PaymentsPayoutAfterStart, resume: s.resumePayout, pending: s.pendingPayout,
	}
}

// createPayout pays a merchant out: POST /v1/payouts. A distributed transaction sets the
// money aside in the ledger and says so in our row. The bank takes no idempotency key, so a
// second call would pay twice: an at-most-once guard prevents it.
//
//   - 201: the bank has sent it ("sent") or refused it ("failed").
//   - 202: it is not finished ("pending"), or the bank's answer was lost ("unknown"). Then the
//     completer finishes it, or reconciliation finds out.
//   - 422: the merchant's available balance is too low.
func (s *service) createPayout(c echo.Context) error {
	return s.perform(c, s.payouts(), func(ctx context.Context, tx pgx.Tx, body []byte) (uuid.UUID, error) {
		in, err := web.Decode[newPayout](body)
		if err != nil {
			return uuid.UUID{}, err
		}
		return startPayout(ctx, tx, web.MerchantID(c), in.Amount)
	})
}

func startPayout(ctx context.Context, tx pgx.Tx, merchant string, amount money.Money) (uuid.UUID, error) {
	id := uuid.Must(uuid.NewV7())
	_, err := tx.Exec(ctx, `
		INSERT INTO payouts (id, merchant_id, amount_minor, currency)
		VALUES ($1, $2, $3, $4)`,
		id, merchant, amount.Minor, amount.Currency)
	return id, err
}

// resumePayout goes on with a payout from its recovery point.
//
// Pattern: recovery-point
func (s *service) resumePayout(ctx context.Context, lock idempotency.Lock) (idempotency.Response, error) {
	p, err := s.loadPayout(ctx, lock.OperationID)
	for err == nil {
		switch {
		case ctx.Err() != nil:
			err = ctx.Err() // out of time; the next run goes on from here
		case p.Point == payoutStarted:
			err = s.bookPayout(ctx, lock, &p)
		case p.Point == payoutBooked:
			err = s.payAtBank(ctx, lock, &p)
		case p.Point == payoutDecided:
			return s.finishPayout(ctx, lock, p)
		case p.Point == payoutFinished:
			err = idempotency.ErrLockLost // another run took over, and has recorded the answer
		default: // of a newer version, which runs beside this one
			err = fmt.Errorf("payout %s: recovery point %q is not known to this process", p.wireID(), p.Point)
		}
	}
	return idempotency.Response{}, err
}

// payAtBank sends the money, once at most. The guard is committed before the bank is asked,
// and lets one run through, now or later; sentOnce (bank.go) keeps the transport from
// repeating that run's request. When the guard's commit fails in any way, a lost answer
// included, the bank is not asked. A later run that finds the guard entered cannot know
// whether the bank was asked, so the outcome is unknown.
//
// Pattern: at-most-once-guard
func (s *service) payAtBank(ctx context.Context, lock idempotency.Lock, p *payout) error {
	first := false
	err := recoverypoint.Commit(ctx, s.db, lock, fault.PaymentsPayoutAfterGuard, func(ctx context.Context, tx pgx.Tx) (err error) {
		first, err = atmostonce.Enter(ctx, tx, "bank-transfer:"+p.wireID())
		return err
	})
	if err != nil {
		return err
	}
	if !first {
		return s.decidePayout(ctx, lock, p, payoutUnknown, "")
	}
	// No later run may make this call, so nothing cuts it short: not the end of our client's
	// request, not the stop of this process.
	answer := s.bank.transfer(context.WithoutCancel(ctx), p.wireID(), "acct_"+p.MerchantID, p.Amount)
	if err := fault.Point(context.WithoutCancel(ctx), fault.PaymentsPayoutAfterBank); err != nil {
		return err
	}
	// Logged before it is written: if the write fails, no later run learns the bank's answer,
	// and the payout stays unknown until the statement or a person tells.
	declined, refused := errors.AsType[*refusal](answer)
	switch {
	case answer == nil:
		s.log.InfoContext(ctx, "payout: the bank has sent it", "payout_id", p.wireID())
		return s.decidePayout(ctx, lock, p, payoutSent, "")
	case refused:
		s.log.WarnContext(ctx, "payout: the bank has refused it", "payout_id", p.wireID(), "error", answer)
		return s.decidePayout(ctx, lock, p, payoutFailed, declined.code)
	default:
		s.log.WarnContext(ctx, "payout: the bank gave no answer", "payout_id", p.wireID(), "error", answer)
		return s.decidePayout(ctx, lock, p, payoutUnknown, "")
	}
}

// decidePayout writes the outcome, and tells the ledger in the same transaction: money
// that was sent leaves "in transit", money that was refused returns to the merchant, and
// while the outcome is unknown nothing moves. If the payout was never booked, the ledger
// has nothing to undo.
func (s *service) decidePayout(ctx context.Context, lock idempotency.Lock, p *payout, outcome, failure string) error {
	tellLedger, err := s.payoutMessage(ctx, *p, outcome)
	if err != nil {
		return err
	}
	err = recoverypoint.Commit(ctx, s.db, lock, fault.PaymentsPayoutAfterDecided, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE payouts
			   SET recovery_point = 'decided',
			       outcome        = $2,
			       failure        = $3
			 WHERE id = $1`,
			p.ID, outcome, failure)
		if err != nil {
			return err
		}
		if p.Point != payoutBooked {
			return nil
		}
		return tellLedger(ctx, tx)
	})
	s.relay.Wake() // also after an error: the commit may have succeeded although we got one
	if err != nil {
		return err
	}
	if outcome == payoutUnknown {
		s.log.ErrorContext(ctx, "payout: outcome unknown, the bank may have sent it", "payout_id", p.wireID())
	}
	p.Point, p.Outcome, p.Failure = payoutDecided, outcome, failure
	return nil
}

// finishPayout calls no other system: it records the answer.
func (s *service) finishPayout(ctx context.Context, lock idempotency.Lock, p payout) (idempotency.Response, error) {
	answer, err := p.answer()
	if err != nil {
		return answer, err
	}
	err = recoverypoint.Finish(ctx, s.db, lock, answer, fault.PaymentsPayoutAfterFinish, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE payouts
			   SET recovery_point = 'finished',
			       finished_at    = now()
			 WHERE id = $1`,
			p.ID)
		return err
	})
	if err == nil {
		s.log.InfoContext(ctx, "payout finished", "payout_id", p.wireID(), "outcome", p.Outcome)
	}
	return answer, err
}

// payoutResult is the data of ledger.payout-sent and ledger.payout-returned.
type payoutResult struct {
	PayoutID   string      `json:"payout_id"`
	MerchantID string      `json:"merchant_id"`
	Amount     money.Money `json:"amount"`
}

// payoutMessage makes the message that tells the ledger the outcome, and returns what
// appends it. While the outcome is unknown there is none.
//
// Pattern: transactional-outbox
func (s *service) payoutMessage(ctx context.Context, p payout, outcome string) (appendTx func(ctx context.Context, tx pgx.Tx) error, err error) {
	kind := map[string]string{payoutSent: "ledger.payout-sent", payoutFailed: "ledger.payout-returned"}[outcome]
	if kind == "" {
		return func(context.Context, pgx.Tx) error { return nil }, nil
	}
	message, err := s.outbox.Envelope(ctx, outbox.Message{Type: kind, Subject: p.wireID(), Data: payoutResult{
		PayoutID: p.wireID(), MerchantID: p.MerchantID, Amount: p.Amount,
	}})
	return message.AppendTx, err
}

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
	"example.com/failwell/shared/pattern/distributedtx"
	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
)

// The recovery points of a payout, in order.
const (
	payoutStarted  = "started"  // asked for; perhaps a distributed transaction is in doubt
	payoutBooked   = "booked"   // set aside in both books; written by the distributed transaction itself
	payoutGuarded  = "guarded"  // the bank is being asked, or was; never ask it again
	payoutDecided  = "decided"  // sent, failed, or nobody knows
	payoutFinished = "finished" // the answer is recorded under the key
)

// The outcomes of a payout.
const (
	payoutPending = "pending"
	payoutSent    = "sent"
	payoutUnknown = "unknown" // the bank was asked and its answer is not known
	payoutFailed  = "failed"
)

// timeToDecide is what writing down the bank's answer may take, on top of the call.
// Both together must fit into the seconds that a process has for stopping.
const timeToDecide = time.Second

const payoutOperation = "POST /v1/payouts"

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
// aborted stays aborted for ever, so the next one needs a name of its own.
func (p payout) gid() string { return fmt.Sprintf("%s.%d", p.wireID(), p.Attempt) }

// createPayout pays a merchant out: POST /v1/payouts.
//
// The money must leave our available balance in both books, here and in the
// ledger, or in neither: a distributed transaction. Then the bank is asked, which
// takes no key and would pay twice: an at-most-once guard. 201 when the bank has
// sent it, 202 when nobody knows whether it has; then reconciliation finds out.
//
// Pattern: idempotency-key
// Pattern: resumable-operation
func (s *service) createPayout(c echo.Context) error {
	in, body, err := web.Bind[newPayout](c)
	if err != nil {
		return err
	}
	request, err := idempotency.FromRequest(c.Request(), web.MerchantID(c), payoutOperation, body, s.cfg.KeyRetention)
	if err != nil {
		return err
	}
	// A client who hangs up does not stop the work: cut off between two steps, money
	// would be locked, or of unknown whereabouts, for nothing. Only time ends it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), s.cfg.RequestTimeout)
	defer cancel()
	answer, lock, err := request.Acquire(ctx, s.db, s.cfg.lockOptions(), func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error) {
		return startPayout(ctx, tx, web.MerchantID(c), in.Amount)
	})
	if err != nil {
		return err
	}
	if answer.Exists {
		return answer.Answer(c.Response())
	}
	err = fault.Point(ctx, fault.PaymentsPayoutAfterStart)
	if err == nil {
		var response idempotency.Response
		if response, err = s.resumePayout(ctx, lock); err == nil {
			return idempotency.Fresh(response).Answer(c.Response())
		}
	}
	return s.payoutLater(c, request, lock, err)
}

func startPayout(ctx context.Context, tx pgx.Tx, merchant string, amount money.Money) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.UUID{}, err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO payouts (id, merchant_id, amount_minor, currency)
		VALUES ($1, $2, $3, $4)`,
		id, merchant, amount.Minor, amount.Currency)
	return id, err
}

// resumePayout works on a payout from wherever it stands until it is finished.
// An error means that it is not finished and can be gone on with.
//
// Pattern: recovery-point
func (s *service) resumePayout(ctx context.Context, lock idempotency.Lock) (idempotency.Response, error) {
	p, err := s.loadPayout(ctx, lock.OperationID)
	if err != nil {
		return idempotency.Response{}, err
	}
	for {
		switch p.Point {
		case payoutStarted:
			// An earlier try may have left a distributed transaction behind, prepared,
			// half committed, or still on its way. It is ended before another begins.
			if p.Attempt > 0 {
				decision, err := s.twophase.Resolve(ctx, p.gid())
				if err != nil {
					return idempotency.Response{}, err
				}
				if decision == distributedtx.Committed {
					p.Point = payoutBooked
					continue
				}
			}
			p.Attempt++
			err := postgres.InTx(ctx, s.db, func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `
					UPDATE payouts
					   SET attempt = $2
					 WHERE id = $1`,
					p.ID, p.Attempt)
				if err != nil {
					return err
				}
				return lock.Renew(ctx, tx)
			})
			if err != nil {
				return idempotency.Response{}, err
			}
			decision, err := s.twophase.Run(ctx, p.gid(), s.prepareInLedger(p), s.prepareHere(p))
			no := (*refusal)(nil)
			switch {
			case decision == distributedtx.Committed && err == nil:
				p.Point = payoutBooked
			case decision == distributedtx.Aborted && errors.As(err, &no):
				if err := s.decidePayout(ctx, lock, p, payoutFailed, no.code, ""); err != nil {
					return idempotency.Response{}, err
				}
				p.Point, p.Outcome, p.Failure = payoutDecided, payoutFailed, no.code
			case err == nil:
				return idempotency.Response{}, fmt.Errorf("payout %s: attempt %d was aborted by somebody else", p.wireID(), p.Attempt)
			default:
				return idempotency.Response{}, err
			}

		case payoutBooked:
			// Pattern: at-most-once-guard
			var first bool
			err := postgres.InTx(ctx, s.db, func(ctx context.Context, tx pgx.Tx) error {
				var err error
				if first, err = atmostonce.Enter(ctx, tx, "bank-transfer:"+p.wireID()); err != nil {
					return err
				}
				_, err = tx.Exec(ctx, `
					UPDATE payouts
					   SET recovery_point = 'guarded'
					 WHERE id = $1`,
					p.ID)
				if err != nil {
					return err
				}
				return lock.Renew(ctx, tx)
			})
			if err != nil {
				// Also when only the answer to the commit was lost: we may be through
				// the guard or not, so the bank is not asked.
				return idempotency.Response{}, err
			}
			p.Point = payoutGuarded
			if !first {
				continue
			}
			// Nobody is let through again, so nothing may cut this short from here on to
			// the outcome: not the end of our client's patience, not the stop of this
			// process. A transfer that was never sent would be "unknown" for ever.
			ctx := context.WithoutCancel(ctx)
			if err := fault.Point(ctx, fault.PaymentsPayoutAfterGuard); err != nil {
				return idempotency.Response{}, err
			}
			ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout+timeToDecide)
			defer cancel()
			outcome, failure := payoutSent, ""
			err = s.bank.transfer(ctx, p.wireID(), "acct_"+p.MerchantID, p.Amount)
			if no := (*refusal)(nil); errors.As(err, &no) {
				outcome, failure = payoutFailed, no.code
				s.log.WarnContext(ctx, "payout: the bank has not sent it, it returns to the merchant", "payout_id", p.wireID(), "error", err)
			} else if err != nil {
				outcome = payoutUnknown
				s.log.ErrorContext(ctx, "payout: nobody knows whether the bank has sent it", "payout_id", p.wireID(), "error", err)
			}
			if err := fault.Point(ctx, fault.PaymentsPayoutAfterBank); err != nil {
				return idempotency.Response{}, err
			}
			if err := s.decidePayout(ctx, lock, p, outcome, failure, payoutGuarded); err != nil {
				return idempotency.Response{}, err
			}
			p.Point, p.Outcome, p.Failure = payoutDecided, outcome, failure

		case payoutGuarded:
			// Whoever passed the guard did not write down what came of it.
			if err := s.decidePayout(ctx, lock, p, payoutUnknown, "", payoutGuarded); err != nil {
				return idempotency.Response{}, err
			}
			p.Point, p.Outcome = payoutDecided, payoutUnknown
			s.log.ErrorContext(ctx, "payout: nobody knows whether the bank has sent it", "payout_id", p.wireID())

		case payoutDecided:
			response, err := p.answer()
			if err != nil {
				return idempotency.Response{}, err
			}
			err = postgres.InTx(ctx, s.db, func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `
					UPDATE payouts
					   SET recovery_point = 'finished',
					       finished_at    = now()
					 WHERE id = $1`,
					p.ID)
				if err != nil {
					return err
				}
				return lock.Finish(ctx, tx, response)
			})
			if err != nil {
				return idempotency.Response{}, err
			}
			s.log.InfoContext(ctx, "payout finished", "payout_id", p.wireID(), "outcome", p.Outcome)
			return response, fault.Point(ctx, fault.PaymentsPayoutAfterFinish)

		default:
			return idempotency.Response{}, fmt.Errorf("payout %s: no way on from recovery point %q", p.wireID(), p.Point)
		}
	}
}

// prepareHere is this service's half of the distributed transaction.
func (s *service) prepareHere(p payout) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if err := fault.Point(ctx, fault.PaymentsPayoutAfterLedgerPrepare); err != nil {
			return err
		}
		err := distributedtx.Prepare(ctx, s.db, localPrefix+p.gid(), func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, `
				UPDATE payouts
				   SET recovery_point = 'booked'
				 WHERE id = $1
				   AND recovery_point = 'started'
				   AND attempt = $2`,
				p.ID, p.Attempt)
			if err == nil && tag.RowsAffected() == 0 {
				err = fmt.Errorf("payout %s: attempt %d is not the current one", p.wireID(), p.Attempt)
			}
			return err
		})
		if err != nil {
			return err
		}
		return fault.Point(ctx, fault.PaymentsPayoutAfterPrepare)
	}
}

// prepareInLedger is the ledger's half. A *refusal is its definite no.
func (s *service) prepareInLedger(p payout) func(ctx context.Context) error {
	return func(ctx context.Context) error { return s.ledger.prepare(ctx, p.gid(), payoutEntry(p)) }
}

func payoutEntry(p payout) ledgerEntry {
	return ledgerEntry{
		Kind: "payout", Source: p.wireID(), Reference: p.wireID(), MerchantID: p.MerchantID,
		Postings: []ledgerPosting{
			{Account: "merchant_available:" + p.MerchantID + ":" + p.Amount.Currency, Amount: money.Money{Minor: -p.Amount.Minor, Currency: p.Amount.Currency}},
			{Account: "payouts_in_transit:" + p.Amount.Currency, Amount: p.Amount},
		},
	}
}

// decidePayout writes the outcome, and tells the ledger in the same transaction:
// money that was sent leaves "in transit", money that was refused returns to the
// merchant, and of the unknown nothing moves until it is known.
func (s *service) decidePayout(ctx context.Context, lock idempotency.Lock, p payout, outcome, failure, from string) error {
	err := postgres.InTx(ctx, s.db, func(ctx context.Context, tx pgx.Tx) error {
		if err := lock.Renew(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			UPDATE payouts
			   SET recovery_point = 'decided',
			       outcome        = $2,
			       failure        = $3
			 WHERE id = $1`,
			p.ID, outcome, failure)
		if err != nil || from != payoutGuarded {
			return err // never booked: the ledger has nothing to move
		}
		return s.publishPayoutResult(ctx, tx, p, outcome)
	})
	s.relay.Wake()
	return err
}

// payoutNotification is the data of ledger.payout-sent and ledger.payout-returned.
type payoutNotification struct {
	PayoutID   string      `json:"payout_id"`
	MerchantID string      `json:"merchant_id"`
	Amount     money.Money `json:"amount"`
}

func (s *service) publishPayoutResult(ctx context.Context, tx pgx.Tx, p payout, outcome string) error {
	kind := map[string]string{payoutSent: "ledger.payout-sent", payoutFailed: "ledger.payout-returned"}[outcome]
	if kind == "" {
		return nil
	}
	message, err := s.outbox.Envelope(ctx, outbox.Message{Type: kind, Subject: p.wireID(), Data: payoutNotification{
		PayoutID: p.wireID(), MerchantID: p.MerchantID, Amount: p.Amount,
	}})
	if err != nil {
		return err
	}
	return message.AppendTx(ctx, tx)
}

// resolvePayout ends an unknown payout: reconciliation does it when the bank's
// statement shows it, a person when the bank has told. Nothing changes when it was
// ended before, nor when somebody says that the bank has not sent what stands on its
// statement.
func (s *service) resolvePayout(ctx context.Context, id uuid.UUID, outcome string) (changed bool, err error) {
	p, err := s.loadPayout(ctx, id)
	if err != nil {
		return false, err
	}
	err = postgres.InTx(ctx, s.db, func(ctx context.Context, tx pgx.Tx) error {
		changed = false
		tag, err := tx.Exec(ctx, `
			UPDATE payouts
			   SET outcome = $2,
			       failure = CASE $2 WHEN 'failed' THEN 'not_sent' ELSE '' END
			 WHERE id = $1
			   AND outcome = 'unknown'
			   AND NOT ($2 = 'failed' AND EXISTS (
			       SELECT FROM statement_lines
			        WHERE subject = $1
			          AND source = 'bank'))`,
			id, outcome)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		changed = true
		return s.publishPayoutResult(ctx, tx, p, outcome)
	})
	s.relay.Wake()
	return changed, err
}

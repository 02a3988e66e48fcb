package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/distributedtx"
	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/recoverypoint"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// bookPayout sets the money aside in the ledger and moves our row's point, both or
// neither: the point is part of what the distributed transaction commits (see
// prepareHere), so a run that finds "booked" knows that the ledger has it too, or has
// prepared it and will be told to commit.
//
// An earlier run may have left a transaction behind: prepared, half committed, or still on
// its way. That one is ended before another begins.
//
// Pattern: distributed-transaction
func (s *service) bookPayout(ctx context.Context, lock idempotency.Lock, p *payout) error {
	if p.Attempt > 0 {
		decision, err := s.twophase.Resolve(ctx, p.gid())
		if err != nil {
			return err
		}
		if decision == distributedtx.Committed {
			p.Point = payoutBooked
			return nil
		}
	}
	p.Attempt++
	err := recoverypoint.Commit(ctx, s.db, lock, "", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE payouts
			   SET attempt = $2
			 WHERE id = $1`,
			p.ID, p.Attempt)
		return err
	})
	if err != nil {
		return err
	}
	inLedger := func(ctx context.Context) error { return s.ledger.prepare(ctx, p.gid(), payoutEntry(*p)) }
	decision, err := s.twophase.Run(ctx, p.gid(), inLedger, s.prepareHere(*p))
	declined, refused := errors.AsType[*refusal](err)
	switch {
	case refused && decision == distributedtx.Aborted:
		return s.decidePayout(ctx, lock, p, payoutFailed, declined.code)
	case err != nil:
		return err
	case decision != distributedtx.Committed:
		return fmt.Errorf("payout %s: another process aborted attempt %d", p.wireID(), p.Attempt)
	}
	p.Point = payoutBooked
	return nil
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

func payoutEntry(p payout) ledgerEntry {
	return ledgerEntry{
		Kind: "payout", Source: p.wireID(), Reference: p.wireID(), MerchantID: p.MerchantID,
		Postings: []ledgerPosting{
			{Account: "merchant_available:" + p.MerchantID + ":" + p.Amount.Currency, Amount: money.Money{Minor: -p.Amount.Minor, Currency: p.Amount.Currency}},
			{Account: "payouts_in_transit:" + p.MerchantID + ":" + p.Amount.Currency, Amount: p.Amount},
		},
	}
}

// decisionOn answers a participant that is in doubt: GET /2pc/{gid}. It asks
// after it has waited for longer than any coordinator needs. If nothing is
// decided by then, it is decided now, and it is a no: presumed abort.
func (s *service) decisionOn(c echo.Context) error {
	gid := c.Param("gid")
	if !distributedtx.ValidGID(gid) {
		return web.NewProblem(http.StatusNotFound, "no-such-transaction", "No such transaction", "This is not a name of ours.")
	}
	decision, err := s.twophase.Decide(c.Request().Context(), gid)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]distributedtx.Decision{"decision": decision})
}

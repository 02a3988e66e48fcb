package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/failwell/shared/pattern/distributedtx"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/wait"
	"example.com/failwell/shared/platform/web"
)

// This service as a participant of distributed transactions that payments
// coordinates.

// preparedPrefix keeps the names of our prepared transactions apart from those of
// the coordinator, which may live in the same PostgreSQL server.
const preparedPrefix = "ledger:"

// askTimeout bounds one question to the coordinator.
const askTimeout = 3 * time.Second

// prepare books an entry and holds it back until the coordinator has decided:
// POST /2pc/{gid}/prepare. 204: it is as good as booked. The accounts that it
// moves are locked until then.
//
// Pattern: distributed-transaction (the participant)
func (s *service) prepare(c echo.Context) error {
	gid := c.Param("gid")
	if !distributedtx.ValidGID(gid) {
		return web.Invalid("gid", "Letters, digits and _ . : - only.")
	}
	in, err := web.Bind[newEntry](c)
	if err != nil {
		return err
	}
	e := in.entry()
	err = distributedtx.Prepare(c.Request().Context(), s.db, preparedPrefix+gid, func(ctx context.Context, tx pgx.Tx) error {
		if err := mayPay(ctx, tx, e); err != nil {
			return err
		}
		b := &pgx.Batch{}
		e.openAccounts(b)
		e.insert(b)
		return tx.SendBatch(ctx, b).Close()
	})
	switch {
	case postgres.Violates(err, "accounts_floor"), postgres.Violates(err, "accounts_bounded"):
		return insufficientBalance()
	case postgres.Violates(err, "entries_once"):
		return web.NewProblem(http.StatusConflict, "entry-exists", "Another entry has this source",
			"An entry of this kind and source is booked already.").WithField("source")
	case err != nil:
		return err
	}
	if err := fault.Point(c.Request().Context(), fault.LedgerPayoutAfterPrepare); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// mayPay decides whether a merchant can be paid: what is available, less what it owes when
// refunds have made its pending balance negative. No constraint sees two accounts, so both are
// locked first, in the order in which every transaction locks them. Not FOR UPDATE: an
// insert of postings holds KEY SHARE locks on their accounts, in the order of the lines, and
// would wait for us while we wait for it.
//
// Pattern: atomic-read-then-write (row lock)
func mayPay(ctx context.Context, tx pgx.Tx, e entry) error {
	for _, p := range e.Postings {
		if p.Amount > 0 || kindOf(p.Account) != "merchant_available" {
			continue
		}
		rows, _ := tx.Query(ctx, `
			SELECT kind, balance_minor
			  FROM accounts
			 WHERE merchant_id = $1
			   AND currency = $2
			   AND kind IN ('merchant_available', 'merchant_pending')
			 ORDER BY id
			   FOR NO KEY UPDATE`,
			merchantOf(p.Account), currencyOf(p.Account))
		balance := map[string]int64{}
		var kind string
		var minor int64
		_, err := pgx.ForEachRow(rows, []any{&kind, &minor}, func() error { balance[kind] = minor; return nil })
		if err != nil {
			return err
		}
		if balance["merchant_available"]+min(0, balance["merchant_pending"]) < -p.Amount {
			return insufficientBalance()
		}
	}
	return nil
}

func insufficientBalance() error {
	return web.NewProblem(http.StatusUnprocessableEntity, "insufficient-balance", "Not enough on the account",
		"An account would fall below zero, or hold more than any can.").WithField("postings")
}

// commit and rollback carry out the coordinator's decision. Both may come any
// number of times, and a rollback before the prepare.
func (s *service) commit(c echo.Context) error {
	return s.end(c, func(ctx context.Context, gid string) error {
		if err := distributedtx.Commit(ctx, s.db, gid); err != nil {
			return err
		}
		return fault.Point(ctx, fault.LedgerPayoutAfterCommit)
	})
}

func (s *service) rollback(c echo.Context) error {
	return s.end(c, func(ctx context.Context, gid string) error { return distributedtx.Rollback(ctx, s.db, gid) })
}

func (s *service) end(c echo.Context, carryOut func(ctx context.Context, gid string) error) error {
	gid := c.Param("gid")
	if !distributedtx.ValidGID(gid) {
		return web.Invalid("gid", "Letters, digits and _ . : - only.")
	}
	if err := carryOut(c.Request().Context(), preparedPrefix+gid); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func newPreparedAge(registry prometheus.Registerer) prometheus.Gauge {
	return promauto.With(registry).NewGauge(prometheus.GaugeOpts{
		Name: "failwell_prepared_transaction_age_seconds",
		Help: "Age of the oldest transaction that is prepared and has no decision. It holds locks on accounts.",
	})
}

// resolveInDoubt runs until ctx ends.
func (s *service) resolveInDoubt(ctx context.Context) {
	client := web.Client(askTimeout)
	for {
		if err := s.askInDoubt(ctx, client); err != nil && ctx.Err() == nil {
			s.log.Warn("looking for prepared transactions failed, will look again", "error", err)
		}
		if !wait.For(ctx, s.cfg.TwoPhaseSweep) {
			return
		}
	}
}

// askInDoubt asks the coordinator about each transaction that has been prepared for longer
// than any coordinator needs: it was forgotten, or its decision was lost on the way. The
// coordinator must be asked; a decision of our own could be the opposite of what it told
// the others.
//
// Pattern: completer
func (s *service) askInDoubt(ctx context.Context, client *http.Client) error {
	prepared, err := distributedtx.InDoubt(ctx, s.db, preparedPrefix)
	if err != nil {
		return err // and the age stays as it is: an alert must not fall silent
	}
	oldest := time.Duration(0)
	for _, p := range prepared {
		oldest = max(oldest, p.Age)
		if p.Age < s.cfg.TwoPhaseTimeout {
			continue
		}
		decision, err := s.askCoordinator(ctx, client, p.GID[len(preparedPrefix):])
		switch {
		case err == nil && decision == distributedtx.Committed:
			err = distributedtx.Commit(ctx, s.db, p.GID)
		case err == nil:
			err = distributedtx.Rollback(ctx, s.db, p.GID)
		}
		if err != nil {
			s.log.Error("a transaction is in doubt and the coordinator does not answer; its accounts stay locked", "gid", p.GID, "age", p.Age, "error", err)
			continue
		}
		s.log.Warn("transaction in doubt ended", "gid", p.GID, "age", p.Age, "decision", decision)
	}
	s.preparedAge.Set(oldest.Seconds())
	return nil
}

// askCoordinator returns Committed or Aborted, or an error.
func (s *service) askCoordinator(ctx context.Context, client *http.Client, gid string) (distributedtx.Decision, error) {
	var answer struct {
		Decision distributedtx.Decision `json:"decision"`
	}
	status, _, err := web.Call(ctx, client, web.Request{
		Method: http.MethodGet, URL: s.cfg.PaymentsURL + "/2pc/" + url.PathEscape(gid), Bearer: s.cfg.ServiceKey, Out: &answer,
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("coordinator: %w", err)
	case status != http.StatusOK:
		return "", fmt.Errorf("coordinator: status %d", status)
	case answer.Decision != distributedtx.Committed && answer.Decision != distributedtx.Aborted:
		return "", fmt.Errorf("coordinator: neither commit nor abort: %q", answer.Decision)
	}
	return answer.Decision, nil
}

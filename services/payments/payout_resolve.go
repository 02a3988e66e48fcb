package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
)

// payoutResolution is the body of POST /v1/payouts/{id}/resolve.
type payoutResolution struct {
	Outcome string `json:"outcome"`
}

// Validate checks the form.
func (r payoutResolution) Validate() error {
	if r.Outcome != payoutSent && r.Outcome != payoutFailed {
		return web.Invalid("outcome", "Must be sent or failed.")
	}
	return nil
}

// endUnknownPayout writes down what the bank has told a person about a payout whose
// outcome was unknown: POST /v1/payouts/{id}/resolve. The answer recorded under the
// client's key stays as it was.
func (s *service) endUnknownPayout(c echo.Context) error {
	in, err := web.Bind[payoutResolution](c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	id, _ := parseID("pyo_", c.Param("id"))
	changed, err := s.resolvePayout(ctx, id, in.Outcome)
	if err != nil {
		return orNotFound(err, "payout", c.Param("id"))
	}
	p, err := s.loadPayout(ctx, id)
	if err != nil {
		return err
	}
	switch {
	case changed:
		s.log.WarnContext(ctx, "payout resolved by hand", "payout_id", p.wireID(), "outcome", p.Outcome)
	case p.Outcome == payoutUnknown:
		return web.NewProblem(http.StatusConflict, "payout-on-statement", "It was sent",
			fmt.Sprintf("Payout %s stands on the bank's statement, so it was sent.", p.wireID()))
	case p.Outcome != in.Outcome:
		return web.NewProblem(http.StatusConflict, "payout-not-unknown", "Its outcome is known",
			fmt.Sprintf("Payout %s is %s; only an unknown one can be resolved.", p.wireID(), p.Outcome))
	}
	return c.JSON(http.StatusOK, p.view())
}

// resolvePayout ends an unknown payout: reconciliation does it when the bank's
// statement shows it, a person when the bank has told. Nothing changes when it was
// ended before, nor when a person says that the bank has not sent what stands on its
// statement.
func (s *service) resolvePayout(ctx context.Context, id uuid.UUID, outcome string) (changed bool, err error) {
	p, err := s.loadPayout(ctx, id)
	if err != nil {
		return false, err
	}
	tellLedger, err := s.payoutMessage(ctx, p, outcome)
	if err != nil {
		return false, err
	}
	err = postgres.InTx(ctx, s.db, func(ctx context.Context, tx pgx.Tx) error {
		changed = false
		if outcome == payoutFailed {
			// A statement that is being stored at this moment is waited for: its line would
			// otherwise be missed below, and the money returned that the bank has sent.
			if _, err := tx.Exec(ctx, `LOCK TABLE statement_lines IN SHARE MODE`); err != nil {
				return err
			}
		}
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
		return tellLedger(ctx, tx)
	})
	s.relay.Wake()
	return changed, err
}

// observePayouts shows what only the bank's statement or a person can end.
func (s *service) observePayouts(registry prometheus.Registerer) {
	postgres.Observe(registry, postgres.Gauges{
		DB: s.db,
		SQL: `
			SELECT (SELECT count(*) FROM (SELECT FROM payouts WHERE outcome = 'unknown' LIMIT 10000) AS unknown),
			       COALESCE(extract(epoch FROM now() - (
			           SELECT created_at FROM payouts WHERE outcome = 'unknown' ORDER BY id LIMIT 1)), 0)::float8`,
		Gauges: []postgres.Gauge{
			{Name: "failwell_payouts_unknown", Help: "Payouts that the bank may have sent or not, counted up to 10000."},
			{Name: "failwell_payouts_unknown_oldest_seconds", Help: "Age of the oldest payout that the bank may have sent or not."},
		},
	})
}

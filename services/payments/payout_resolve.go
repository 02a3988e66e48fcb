package main

import (
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/web"
)

// payoutResolution is the body of POST /v1/payouts/{id}/resolve.
type payoutResolution struct {
	Outcome string `json:"outcome"`
}

// Validate checks the form.
func (r payoutResolution) Validate() error {
	if r.Outcome != payoutSent && r.Outcome != payoutFailed {
		return invalid("outcome", "Must be sent or failed.")
	}
	return nil
}

// endUnknownPayout writes down what the bank has told a person about a payout whose
// outcome was unknown: POST /v1/payouts/{id}/resolve. The answer recorded under the
// client's key stays as it was.
func (s *service) endUnknownPayout(c echo.Context) error {
	in, _, err := web.Bind[payoutResolution](c)
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

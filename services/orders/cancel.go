package main

import (
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/tracing"
	"example.com/failwell/shared/platform/web"
)

// cancel turns an order around while it can still be compensated:
// POST /v1/orders/{id}/cancel. It races with the saga's own progress; the
// version of the saga's row decides who was first. Once the command to capture was
// sent, the money may have been taken, and the answer is 409.
//
// It needs no idempotency key: asking for a cancelled order to be cancelled
// changes nothing and gets the same answer.
func (s *service) cancel(c echo.Context) error {
	ctx := c.Request().Context()
	id, err := parseID(c.Param("id"))
	if err != nil {
		return noSuchOrder(c.Param("id"))
	}
	var o order
	err = postgres.RetryStale(ctx, func() error {
		var row saga.Row
		o, row, err = s.read(ctx, id)
		switch {
		case err != nil && !errors.Is(err, errUnknownStep):
			return err
		case o.MerchantID != web.MerchantID(c):
			return noSuchOrder(c.Param("id"))
		case err != nil:
			return web.NewProblem(http.StatusServiceUnavailable, "changing", "The service is being changed",
				"The order is where only the new version of this service can take it. Nothing was done. Repeat the request.").WithRetryAfter(time.Second)
		case row.State.Phase == saga.Compensating || row.State.Phase == saga.Compensated:
			return nil // on its way back already
		}
		next, ok := orderPlan.Cancel(row.State)
		if !ok {
			return web.NewProblem(http.StatusConflict, "too-late-to-cancel", "Too late to cancel",
				"The payment is being captured or has been. A confirmed order is given back by a refund.")
		}
		ctx, span := tracing.Continue(ctx, row.Traceparent, "cancel")
		defer span.End()
		return s.advance(ctx, o, saga.Transition{From: row, To: next, Reason: "cancelled_by_merchant"}, nil)
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusAccepted, o.view())
}

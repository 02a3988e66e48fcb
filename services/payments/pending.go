package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/postgres"
)

// jsonAnswer composes the answer that a refund or payout records under its key.
func jsonAnswer(status int, location string, view any) (idempotency.Response, error) {
	body, err := json.Marshal(view)
	header := map[string]string{echo.HeaderContentType: echo.MIMEApplicationJSON, echo.HeaderLocation: location}
	return idempotency.Response{Status: status, Header: header, Body: body}, err
}

// answerPending answers 202: a refund or payout is accepted and not finished. The lock is
// released and this answer is not recorded, so a retry goes on with the work, or gets the
// final answer.
//
// Another run may have finished the work meanwhile: a retry that took over, or this one,
// if only the answer to its commit was lost. Then the recorded answer is the answer. As
// long as there is none, pending shows the work as pending, whatever its row says: a
// client that was told of an outcome must never be told of it in other words later.
func (s *service) answerPending(c echo.Context, request idempotency.Request, lock idempotency.Lock, cause error,
	pending func(ctx context.Context, id uuid.UUID) (location string, view any, err error),
) error {
	// Not the request's context: it may be what ran out.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), time.Second)
	defer cancel()
	s.log.WarnContext(ctx, "operation not finished, it will be", "operation", lock.Operation, "id", lock.OperationID, "error", cause)
	if err := lock.Release(ctx, s.db); err != nil {
		s.log.WarnContext(ctx, "lock not released, its lease will end", "operation", lock.Operation, "id", lock.OperationID, "error", err)
	}
	var answer idempotency.Recorded
	err := postgres.Read(ctx, s.db, func(b *pgx.Batch) { request.Lookup(b, &answer) })
	if err != nil {
		return err
	}
	if answer.Exists {
		return answer.Answer(c.Response())
	}
	location, view, err := pending(ctx, lock.OperationID)
	if err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderLocation, location)
	return c.JSON(http.StatusAccepted, view)
}

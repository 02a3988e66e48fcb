package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
)

// operation is work that spans systems and that a request begins under its key: a refund
// or a payout. No single transaction can hold it, so it writes down how far it has come,
// and a later run goes on from there.
type operation struct {
	name       string // its key is recorded under this name, and the completer looks for it
	afterStart string // the fault point after the transaction that begins it

	// resume works on it until it is finished, and returns the recorded answer. An error
	// means that it is not finished and nothing is lost.
	resume func(ctx context.Context, lock idempotency.Lock) (idempotency.Response, error)

	// pending shows it as not finished, however far it has come.
	pending func(ctx context.Context, id uuid.UUID) (location string, view any, err error)
}

// perform answers a request for an operation; start decodes the body and writes the row
// that the operation begins with. A retry gets its answer, or goes on with the work that was
// left. Its body is not decoded: we may have become stricter since.
//
// Pattern: idempotency-key
// Pattern: resumable-operation
// Pattern: idempotency-key-lock
// Pattern: reject-non-identical
// Pattern: response-record
func (s *service) perform(c echo.Context, op operation, start func(ctx context.Context, tx pgx.Tx, body []byte) (uuid.UUID, error)) error {
	body, err := web.ReadJSON(c)
	if err != nil {
		return err
	}
	request, err := idempotency.FromRequest(c.Request(), web.MerchantID(c), op.name, body, s.cfg.KeyRetention)
	if err != nil {
		return err
	}
	// The work goes on when the client hangs up. Half done, it would have to wait for the
	// completer, and the client's own retry for the lock; money would stay locked.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), s.cfg.RequestTimeout)
	defer cancel()
	answer, lock, err := request.Acquire(ctx, s.db, s.cfg.lockOptions(), func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error) {
		return start(ctx, tx, body)
	})
	if err != nil {
		return err
	}
	if answer.Exists {
		return answer.Answer(c.Response())
	}
	var response idempotency.Response
	if err = fault.Point(ctx, op.afterStart); err == nil {
		response, err = s.resume(ctx, op, lock)
	}
	if err != nil {
		return s.answerPending(c, op, request, lock, err)
	}
	return idempotency.Fresh(response).Answer(c.Response())
}

// resume runs an operation, for a request or for the completer. What another try is not
// likely to help is reported to a person, each time.
func (s *service) resume(ctx context.Context, op operation, lock idempotency.Lock) (idempotency.Response, error) {
	answer, err := op.resume(ctx, lock)
	if errors.Is(err, errContradiction) {
		s.personMustLook(ctx, op.name, lock.OperationID.String(), err)
	}
	return answer, err
}

// personMustLook reports what stays as it is until a person has looked: in the log, and by
// a metric for an alert.
func (s *service) personMustLook(ctx context.Context, operation, id string, err error) {
	s.personNeeded.WithLabelValues(operation).Inc()
	s.log.ErrorContext(ctx, "a person must look", "operation", operation, "id", id, "error", err)
}

// answerPending answers 202: an operation is accepted and not finished. The lock is
// released and this answer is not recorded, so a retry goes on with the work, or gets the
// final answer.
//
// The work may be finished all the same, by a retry that took over, or by this run, if only
// the answer to its commit was lost. Then the recorded answer is the answer. While there is
// none, the work is shown as pending, whatever its row says: a client that was told of an
// outcome must never be told of it in other words later.
func (s *service) answerPending(c echo.Context, op operation, request idempotency.Request, lock idempotency.Lock, cause error) error {
	// Not the request's context: it may be what ran out.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), time.Second)
	defer cancel()
	s.log.WarnContext(ctx, "operation not finished, a later run goes on with it", "operation", op.name, "id", lock.OperationID, "error", cause)
	if err := lock.Release(ctx, s.db); err != nil {
		s.log.WarnContext(ctx, "lock not released, its lease will end", "operation", op.name, "id", lock.OperationID, "error", err)
	}
	var answer idempotency.Recorded
	err := postgres.Read(ctx, s.db, func(b *pgx.Batch) { request.Lookup(b, &answer) })
	if err != nil {
		return err
	}
	if answer.Exists {
		return answer.Answer(c.Response())
	}
	location, view, err := op.pending(ctx, lock.OperationID)
	if err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderLocation, location)
	return c.JSON(http.StatusAccepted, view)
}

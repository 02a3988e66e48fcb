package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/problem"
)

// Problem is the error that a client is meant to read.
type Problem = problem.Problem

// NewProblem makes a problem; slug is the last part of its type.
func NewProblem(status int, slug, title, detail string) *Problem {
	return problem.New(status, slug, title, detail)
}

// Invalid refuses a request for one of its fields.
func Invalid(field, detail string) error {
	return NewProblem(http.StatusUnprocessableEntity, "invalid-field", "A field is not valid", detail).WithField(field)
}

// statusClientGone is what nginx made customary; HTTP has no status for an
// answer that cannot arrive.
const statusClientGone = 499

// handleErrors is the one place where an error becomes an answer.
func handleErrors(log *slog.Logger) echo.HTTPErrorHandler {
	unauthorized := rate.Sometimes{Interval: time.Second}
	return func(err error, c echo.Context) {
		ctx, id := c.Request().Context(), c.Response().Header().Get(echo.HeaderXRequestID)
		about := []any{"method", c.Request().Method, "path", c.Path(), "request_id", id, "error", err}
		if c.Response().Committed {
			// Part of an answer is out already; a second one would be nonsense.
			log.WarnContext(ctx, "answer broken off", about...)
			return
		}
		p := problemOf(err)
		switch {
		case errors.Is(err, context.Canceled) && ctx.Err() != nil:
			// The client hung up: no fault of ours, and no client reads the answer. The
			// status is for the metrics, where it must not look like an outage.
			p = NewProblem(statusClientGone, "client-gone", "Client gone", "")
		case p.Status >= http.StatusInternalServerError:
			log.ErrorContext(ctx, "request failed", append(about, "status", p.Status)...)
		case p.Status == http.StatusUnauthorized:
			// A line a second at most: who guesses keys must not fill the log. All of
			// them are counted, by their status.
			unauthorized.Do(func() { log.WarnContext(ctx, "not authenticated", append(about, "from", c.Request().RemoteAddr)...) })
		}
		p.Instance = "urn:request:" + url.PathEscape(id) // the id may be the client's own, with anything in it
		if err := p.Write(c.Response()); err != nil {
			log.Debug("answer not delivered", "error", err)
		}
	}
}

// problemOf finds out what a client may know of err.
func problemOf(err error) *Problem {
	if _, ok := errors.AsType[*Problem](err); ok {
		return problem.Of(err)
	}
	if e, ok := errors.AsType[*echo.HTTPError](err); ok {
		return problemOfEcho(e)
	}
	switch {
	case errors.Is(err, postgres.ErrCommitUnknown):
		p := NewProblem(http.StatusServiceUnavailable, "outcome-unknown", "The outcome is not known",
			"The work may have been done or not. Repeat the request with the same Idempotency-Key to find out.").WithRetryAfter(time.Second)
		p.OperationState = "unknown"
		return p
	case postgres.IsBusy(err):
		return NewProblem(http.StatusServiceUnavailable, "busy", "Busy",
			"Others are changing the same thing, for longer than this request can wait. Nothing was done. Repeat it.").WithRetryAfter(time.Second)
	case postgres.IsUnavailable(err), errors.Is(err, context.DeadlineExceeded):
		return NewProblem(http.StatusServiceUnavailable, "unavailable", "Temporarily unavailable",
			"Something this service needs does not answer. Repeat the request.").WithRetryAfter(time.Second)
	}
	return problem.Of(err)
}

func problemOfEcho(e *echo.HTTPError) *Problem {
	switch e.Code {
	case http.StatusNotFound:
		return NewProblem(e.Code, "not-found", "Not found", "There is nothing at this path.")
	case http.StatusMethodNotAllowed:
		return NewProblem(e.Code, "method-not-allowed", "Method not allowed", "This path does not take this method.")
	case http.StatusServiceUnavailable:
		return NewProblem(e.Code, "unavailable", "Temporarily unavailable", "Repeat the request.").WithRetryAfter(time.Second)
	}
	return NewProblem(e.Code, "http-"+strconv.Itoa(e.Code), http.StatusText(e.Code), "")
}

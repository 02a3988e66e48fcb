package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/postgres"
)

// Problem is an error that a client is meant to read: problem details, RFC 9457.
// It never carries an internal error; those go to the log.
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitempty"`
	Instance string `json:"instance,omitempty"`

	// Field is the place in the request that is wrong: "items[0].quantity".
	Field string `json:"field,omitempty"`

	// RetryAfter, in seconds, is also sent as a header.
	RetryAfter int `json:"retry_after,omitempty"`

	// OperationState is "unknown" where the work may have been done all the
	// same; the client should repeat the request with the same key.
	OperationState string `json:"operation_state,omitempty"`
}

// typeBase is where the types of our problems live. A type is a name, not
// necessarily a page; each slug is used for one meaning only, because several
// of them share a status.
const typeBase = "https://failwell.example/problems/"

// NewProblem makes a problem; slug is the last part of its type.
func NewProblem(status int, slug, title, detail string) *Problem {
	return &Problem{Type: typeBase + slug, Title: title, Status: status, Detail: detail}
}

// Error makes a problem an error.
func (p *Problem) Error() string { return fmt.Sprintf("%d %s: %s", p.Status, p.Title, p.Detail) }

// WithField names the part of the request that is wrong.
func (p *Problem) WithField(field string) *Problem {
	p.Field = field
	return p
}

// WithRetryAfter tells when it makes sense to try again; rounded up to seconds.
func (p *Problem) WithRetryAfter(d time.Duration) *Problem {
	p.RetryAfter = int(math.Ceil(d.Seconds()))
	return p
}

// statusClientGone is what nginx made customary; HTTP has no status for an
// answer that cannot arrive.
const statusClientGone = 499

// handleErrors is the one place where an error becomes an answer.
func handleErrors(log *slog.Logger) echo.HTTPErrorHandler {
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
			// The client hung up: no fault of ours, and nobody reads the answer. The
			// status is for the metrics, where it must not look like an outage.
			p = NewProblem(statusClientGone, "client-gone", "Client gone", "")
		case p.Status >= http.StatusInternalServerError:
			log.ErrorContext(ctx, "request failed", append(about, "status", p.Status)...)
		}
		p.Instance = "urn:request:" + url.PathEscape(id) // the id may be the client's own, with anything in it
		if p.RetryAfter > 0 {
			c.Response().Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
		}
		body, err := json.Marshal(p)
		if err == nil {
			err = c.Blob(p.Status, "application/problem+json", body)
		}
		if err != nil {
			log.Debug("answer not delivered", "error", err)
		}
	}
}

// problemOf finds out what a client may know of err.
func problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		copied := *p // Instance is set per request, and a problem may be a shared value
		return &copied
	}
	var e *echo.HTTPError
	if errors.As(err, &e) {
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
	return NewProblem(http.StatusInternalServerError, "internal", "Internal error",
		"This is our fault. The request id leads to the log.")
}

func problemOfEcho(e *echo.HTTPError) *Problem {
	switch e.Code {
	case http.StatusNotFound:
		return NewProblem(e.Code, "not-found", "Not found", "There is nothing at this path.")
	case http.StatusMethodNotAllowed:
		return NewProblem(e.Code, "method-not-allowed", "Method not allowed", "This path does not take this method.")
	case http.StatusRequestEntityTooLarge:
		return NewProblem(e.Code, "body-too-large", "Body too large", "The body is larger than this service accepts.")
	case http.StatusServiceUnavailable:
		return NewProblem(e.Code, "unavailable", "Temporarily unavailable", "Repeat the request.").WithRetryAfter(time.Second)
	}
	return NewProblem(e.Code, "http-"+strconv.Itoa(e.Code), http.StatusText(e.Code), "")
}

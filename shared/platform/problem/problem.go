// Package problem is the error that a client is meant to read: problem details, RFC 9457.
//
// It needs nothing but the standard library, so that a pattern can refuse a request
// without an HTTP framework. The edge decides what a client may know of any other error;
// see shared/platform/web.
package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
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

// New makes a problem; slug is the last part of its type.
func New(status int, slug, title, detail string) *Problem {
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

// Of is the problem that err carries, a copy of it. An error without one is not for
// clients: they are told that it was our fault.
func Of(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		copied := *p // Instance is set for each request, and a problem may be a shared value
		return &copied
	}
	return New(http.StatusInternalServerError, "internal", "Internal error",
		"This is our fault. The log says more.")
}

// HandlerFunc is an http.Handler that answers with the problem of its error. An error
// that the client is not told goes to the default logger.
type HandlerFunc func(w http.ResponseWriter, r *http.Request) error

// ServeHTTP calls f.
func (f HandlerFunc) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := f(w, r)
	if err == nil {
		return
	}
	p := Of(err)
	if p.Status >= http.StatusInternalServerError {
		slog.ErrorContext(r.Context(), "request failed", "method", r.Method, "route", r.Pattern, "error", err)
	}
	_ = p.Write(w) // a client that is gone needs no answer
}

// maxEcho bounds what of a request an answer repeats, in bytes.
const maxEcho = 500

func clip(text string) string {
	if len(text) > maxEcho {
		return strings.ToValidUTF8(text[:maxEcho], "") + "…"
	}
	return text
}

// Write answers a request with p.
func (p *Problem) Write(w http.ResponseWriter) error {
	clipped := *p
	clipped.Detail, clipped.Field = clip(p.Detail), clip(p.Field)
	body, err := json.Marshal(clipped)
	if err != nil {
		return err
	}
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, err = w.Write(body)
	return err
}

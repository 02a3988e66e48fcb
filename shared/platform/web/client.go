package web

import (
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

	"example.com/failwell/shared/platform/postgres/txmark"
	"example.com/failwell/shared/platform/tracing"
)

// ErrInTransaction means: somebody tried to call another system while a database
// transaction was open. The call cannot be rolled back with the transaction,
// and the transaction's locks would be held for as long as the other side takes.
var ErrInTransaction = errors.New("web: call to another system inside a database transaction")

// Client returns an HTTP client for calls to other systems. timeout bounds the
// whole call, including the reading of the body. Redirects are not followed: a
// POST that is redirected arrives as a GET, and the work is not done.
func Client(timeout time.Duration) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// The default of two idle connections a host makes a busy service open
	// and close one for nearly every call.
	transport.MaxIdleConnsPerHost = 32
	return &http.Client{
		Timeout:       timeout,
		Transport:     guarded{otelhttp.NewTransport(transport, otelhttp.WithPropagators(tracing.W3C))},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type guarded struct{ next http.RoundTripper }

// RoundTrip refuses a request whose context carries an open transaction.
//
// Pattern: io-inside-transaction (refused here)
func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if txmark.InTransaction(r.Context()) {
		if r.Body != nil {
			_ = r.Body.Close() // the caller of a transport expects the body closed, also on refusal
		}
		return nil, ErrInTransaction
	}
	return g.next.RoundTrip(r)
}

// OutcomeUnknown tells whether the answer to a call leaves open what happened.
// Everything that is not a clear answer does: a broken connection, a time-out,
// a server error (it may have come after the work), "busy", "try later". It must
// be asked again with the same key, and never be taken for a refusal.
func OutcomeUnknown(err error, status int) bool {
	if err != nil {
		return true
	}
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= http.StatusInternalServerError
}

// Package conform holds any service at a URL, ours or a reader's own, against
// published lists of cases: the idempotency key header
// (draft-ietf-httpapi-idempotency-key-header), Standard Webhooks, on both sides, and what
// an endpoint that takes JSON does with bodies, headers and methods out of the ordinary.
//
// A case judges only what its source says, in any of the ways that the source
// allows. What it cannot tell it does not judge (ErrNotJudged).
package conform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// Case is one thing that a service should do.
type Case struct {
	ID     string
	Says   string
	Source string                                     // where it is demanded
	Run    func(ctx context.Context, t *Target) error // nil: it does
}

// Where the cases come from.
const (
	draft    = "draft-ietf-httpapi-idempotency-key-header-07, "
	standard = "Standard Webhooks 1.0.0, "
	ours     = "ours"
)

// List is the cases of one kind of service.
type List struct {
	Kind  string // as the command line calls it
	Title string
	Cases []Case
}

// Lists are all cases there are.
var Lists = []List{
	{"idempotency", "An endpoint that takes an idempotency key", Idempotency},
	{"edge", "Any endpoint that takes JSON", Edge},
	{"webhooks", "A receiver of webhooks", Receiver},
	{"webhooks", "A sender of webhooks", Sender},
}

// Known tells whether there is a case of this name.
func Known(id string) bool {
	return slices.ContainsFunc(Lists, func(l List) bool {
		return slices.ContainsFunc(l.Cases, func(c Case) bool { return c.ID == id })
	})
}

// ErrNotJudged means that a case cannot tell whether it holds.
var ErrNotJudged = errors.New("not judged")

// Target is the service under test.
type Target struct {
	URL    string
	Header http.Header // sent with every request: Authorization

	// Body makes the body of a request that has not been sent before. A service
	// whose requests can be made once only (single-use tokens) needs a new one for
	// each case.
	Body func(ctx context.Context) ([]byte, error)

	// Retention is how long the service remembers a key; zero: not known.
	Retention time.Duration

	// Secret signs webhooks: whsec_ and base64.
	Secret string

	// Trigger makes a sender send one webhook to a URL.
	Trigger func(ctx context.Context, url string) error

	// Listen is where a sender's webhooks are waited for, host:port, and ListenAs
	// the address that the sender is told when it sees us under another one.
	Listen, ListenAs string

	// Patience is how long a sender is waited for.
	Patience time.Duration
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

func (a Answer) ok() bool { return a.Status >= 200 && a.Status < 300 }

func (a Answer) refused() bool { return a.Status >= 400 && a.Status < 500 }

// same tells whether two answers speak of the same work. Answers that say nothing
// at all tell neither.
func (a Answer) same(b Answer) (bool, error) {
	if len(a.Body)+len(b.Body) == 0 && a.Header.Get("Location")+b.Header.Get("Location") == "" {
		return false, fmt.Errorf("%w: neither body nor Location tells one piece of work from another", ErrNotJudged)
	}
	return bytes.Equal(a.Body, b.Body) && a.Header.Get("Location") == b.Header.Get("Location"), nil
}

const perRequest = 30 * time.Second

// client has connections of its own: those of the default client are closed by each
// httptest.Server that ends, also under a request that has just taken one.
var client = &http.Client{Timeout: perRequest, Transport: http.DefaultTransport.(*http.Transport).Clone()}

func (t *Target) post(ctx context.Context, body []byte, header map[string]string) (Answer, error) {
	return t.do(ctx, http.MethodPost, body, header)
}

func (t *Target) do(ctx context.Context, method string, body []byte, header map[string]string) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, t.URL, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	request.Header = t.Header.Clone()
	if request.Header == nil {
		request.Header = http.Header{}
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	answer, err := io.ReadAll(response.Body)
	return Answer{Status: response.StatusCode, Header: response.Header, Body: answer}, err
}

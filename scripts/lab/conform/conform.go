// Package conform holds any service at a URL, ours or a reader's own, against
// published lists of cases: the idempotency key header
// (draft-ietf-httpapi-idempotency-key-header) and Standard Webhooks, on both sides.
package conform

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Case is one thing that a service should do.
type Case struct {
	ID   string
	Says string
	Run  func(ctx context.Context, t *Target) error // nil: it does
}

// Target is the service under test.
type Target struct {
	URL    string
	Header http.Header // sent with every request: Authorization

	// Body makes the body of a request that has not been sent before. A service
	// whose requests can be made once only (single-use tokens) needs a new one for
	// each case.
	Body func(ctx context.Context) ([]byte, error)

	// Secret signs webhooks: whsec_ and base64.
	Secret string
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

func (a Answer) ok() bool { return a.Status >= 200 && a.Status < 300 }

func (t *Target) post(ctx context.Context, body []byte, header map[string]string) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	request.Header = t.Header.Clone()
	if request.Header == nil {
		request.Header = http.Header{}
	}
	request.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := (&http.Client{Timeout: 30 * time.Second}).Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	answer, err := io.ReadAll(response.Body)
	return Answer{Status: response.StatusCode, Header: response.Header, Body: answer}, err
}

const keyHeader = "Idempotency-Key"

// Idempotency are the cases for an endpoint that takes an idempotency key.
var Idempotency = []Case{
	{"key-required", "a request without a key is refused with 400", func(ctx context.Context, t *Target) error {
		body, err := t.Body(ctx)
		if err != nil {
			return err
		}
		return t.wantStatus(ctx, body, nil, http.StatusBadRequest)
	}},
	{"key-empty", "an empty key is refused with 400", func(ctx context.Context, t *Target) error {
		body, err := t.Body(ctx)
		if err != nil {
			return err
		}
		return t.wantStatus(ctx, body, map[string]string{keyHeader: `""`}, http.StatusBadRequest)
	}},
	{"key-over-long", "a key of 10,000 characters is refused with 400", func(ctx context.Context, t *Target) error {
		body, err := t.Body(ctx)
		if err != nil {
			return err
		}
		return t.wantStatus(ctx, body, map[string]string{keyHeader: string(bytes.Repeat([]byte("k"), 10_000))}, http.StatusBadRequest)
	}},
	{"first-time", "a new key does the work: 2xx", func(ctx context.Context, t *Target) error {
		_, _, err := t.first(ctx)
		return err
	}},
	{"replay-equal", "the same request again gets the same status and, byte for byte, the same body", func(ctx context.Context, t *Target) error {
		first, again, err := t.first(ctx)
		if err != nil {
			return err
		}
		for range 3 {
			a, err := again()
			if err != nil {
				return err
			}
			if a.Status != first.Status || !bytes.Equal(a.Body, first.Body) {
				return fmt.Errorf("first %d %s, then %d %s", first.Status, first.Body, a.Status, a.Body)
			}
		}
		return nil
	}},
	{"other-key-other-work", "the same request under another key is other work", func(ctx context.Context, t *Target) error {
		a, _, err := t.first(ctx)
		if err != nil {
			return err
		}
		b, _, err := t.first(ctx)
		if err == nil && bytes.Equal(a.Body, b.Body) && a.Header.Get("Location") == b.Header.Get("Location") {
			err = fmt.Errorf("two keys, one answer: %s", a.Body)
		}
		return err
	}},
	{"mismatch", "the same key with other content is refused with 422", func(ctx context.Context, t *Target) error {
		key := uuid.NewString()
		body, err := t.Body(ctx)
		if err != nil {
			return err
		}
		if a, err := t.post(ctx, body, map[string]string{keyHeader: key}); err != nil || !a.ok() {
			return fmt.Errorf("the first request: %d %s, %w", a.Status, a.Body, err)
		}
		other, err := t.Body(ctx)
		if err != nil {
			return err
		}
		if bytes.Equal(body, other) {
			other = append(other, bytes.TrimSpace([]byte(`{"extra":true}`))...)
		}
		return t.wantStatus(ctx, other, map[string]string{keyHeader: key}, http.StatusUnprocessableEntity)
	}},
	{"concurrent", "twenty at once under one key are one piece of work: whoever gets an answer gets the same; the others are told to come back (409)", concurrent},
	{"errors-are-problems", "a refusal is application/problem+json", func(ctx context.Context, t *Target) error {
		body, err := t.Body(ctx)
		if err != nil {
			return err
		}
		a, err := t.post(ctx, body, nil)
		if err == nil && a.Header.Get("Content-Type") != "application/problem+json" {
			err = fmt.Errorf("Content-Type: %s", a.Header.Get("Content-Type"))
		}
		return err
	}},
	{"refused-is-not-recorded", "a malformed request does not use its key up", func(ctx context.Context, t *Target) error {
		key := uuid.NewString()
		if a, err := t.post(ctx, []byte(`{`), map[string]string{keyHeader: key}); err != nil || a.Status != http.StatusBadRequest {
			return fmt.Errorf("malformed: status %d, %w", a.Status, err)
		}
		body, err := t.Body(ctx)
		if err != nil {
			return err
		}
		a, err := t.post(ctx, body, map[string]string{keyHeader: key})
		if err == nil && !a.ok() {
			err = fmt.Errorf("mended: status %d: %s", a.Status, a.Body)
		}
		return err
	}},
}

func (t *Target) wantStatus(ctx context.Context, body []byte, header map[string]string, want int) error {
	a, err := t.post(ctx, body, header)
	if err == nil && a.Status != want {
		err = fmt.Errorf("status %d instead of %d: %s", a.Status, want, a.Body)
	}
	return err
}

// first sends a new request under a new key, and returns how to send it again.
func (t *Target) first(ctx context.Context) (a Answer, again func() (Answer, error), err error) {
	key := uuid.NewString()
	body, err := t.Body(ctx)
	if err != nil {
		return a, nil, err
	}
	again = func() (Answer, error) { return t.post(ctx, body, map[string]string{keyHeader: key}) }
	a, err = again()
	if err == nil && !a.ok() {
		err = fmt.Errorf("status %d: %s", a.Status, a.Body)
	}
	return a, again, err
}

func concurrent(ctx context.Context, t *Target) error {
	key := uuid.NewString()
	body, err := t.Body(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	bodies := map[string]int{}
	var wrong error
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			a, err := t.post(ctx, body, map[string]string{keyHeader: key})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				wrong = err
			case a.ok():
				bodies[fmt.Sprint(a.Status)+string(a.Body)]++
			case a.Status != http.StatusConflict:
				wrong = fmt.Errorf("status %d: %s", a.Status, a.Body)
			}
		})
	}
	clients.Wait()
	if wrong == nil && len(bodies) != 1 {
		wrong = fmt.Errorf("%d different answers", len(bodies))
	}
	return wrong
}

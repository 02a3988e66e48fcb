package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// maxAnswer bounds what is read of an answer. The largest is a page of a statement,
// of some hundred kilobytes.
const maxAnswer = 4 << 20

// Request is one call to another service.
type Request struct {
	Method, URL string
	Bearer      string // our key there; "": the service wants none

	// IdempotencyKey names the call, so that the other side knows it when it comes
	// again; "": it takes none, or a second call does no harm.
	IdempotencyKey string

	In  any // sent as JSON; nil: no body
	Out any // what the body of a 2xx is decoded into; nil: the caller looks at the body
}

// Call makes one call and returns its answer, whatever the status: which answers are
// a definite "no" is for the caller to say, who knows what the other side documents.
//
// An error means that the outcome is unknown. The request may have arrived and been
// carried out, so an error is never a refusal. Where the other side takes a key, make
// the same call again; where it takes none, do not.
func Call(ctx context.Context, client *http.Client, r Request) (status int, body []byte, err error) {
	request, err := r.build(ctx)
	if err != nil {
		return 0, nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("outcome unknown: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, fmt.Errorf("outcome unknown, the answer broke off: %w", err)
	}
	if len(body) > maxAnswer {
		return 0, nil, fmt.Errorf("outcome unknown, the answer is longer than %d bytes", maxAnswer)
	}
	if r.Out != nil && response.StatusCode >= 200 && response.StatusCode < 300 {
		if err := json.Unmarshal(body, r.Out); err != nil {
			return 0, nil, fmt.Errorf("outcome unknown, the answer is not understood: %w", err)
		}
	}
	return response.StatusCode, body, nil
}

func (r Request) build(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	if r.In != nil {
		encoded, err := json.Marshal(r.In)
		if err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
		body = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, r.URL, body)
	if err != nil {
		return nil, err
	}
	if r.In != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if r.Bearer != "" {
		request.Header.Set("Authorization", "Bearer "+r.Bearer)
	}
	if r.IdempotencyKey != "" {
		request.Header.Set("Idempotency-Key", r.IdempotencyKey)
	}
	return request, nil
}

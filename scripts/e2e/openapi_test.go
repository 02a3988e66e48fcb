package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"example.com/failwell/scripts/stack"
)

// documented holds every request that any test of this package makes, and its answer,
// against the service's openapi.yaml. An answer that the document does not describe, and a
// request that it does not allow and the service carries out, is a fault of one of the
// two, and fails the package.
type documented struct {
	next    http.RoundTripper
	routers map[string]routers.Router // by base URL

	mu      sync.Mutex
	checked int
	faults  []string
}

func newDocumented(urls map[string]string, next http.RoundTripper) (*documented, error) {
	d := &documented{next: next, routers: map[string]routers.Router{}}
	for _, name := range stack.Services {
		doc, err := openapi3.NewLoader().LoadFromFile("../../services/" + name + "/openapi.yaml")
		if err == nil {
			err = doc.Validate(context.Background())
		}
		if err != nil {
			return nil, fmt.Errorf("%s/openapi.yaml: %w", name, err)
		}
		doc.Servers = openapi3.Servers{{URL: urls[name]}}
		router, err := gorillamux.NewRouter(doc)
		if err != nil {
			return nil, fmt.Errorf("%s/openapi.yaml: %w", name, err)
		}
		d.routers[urls[name]] = router
	}
	return d, nil
}

// RoundTrip passes the request on and checks what comes back.
func (d *documented) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := r.Clone(r.Context())
	if r.Body != nil && r.Body != http.NoBody { // both read it
		text, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body, sent.Body = io.NopCloser(bytes.NewReader(text)), io.NopCloser(bytes.NewReader(text))
	}
	response, err := d.next.RoundTrip(r)
	router := d.routers["http://"+r.URL.Host]
	if err != nil || router == nil || strings.HasPrefix(r.URL.Path, "/lab/") {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return response, err
	}
	fault := check(router, sent, response, body)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.checked++
	if fault != nil {
		d.faults = append(d.faults, fmt.Sprintf("%s %s: %d %s: %v", r.Method, r.URL, response.StatusCode, body, fault))
	}
	return response, nil
}

func check(router routers.Router, r *http.Request, response *http.Response, body []byte) error {
	route, params, err := router.FindRoute(r)
	if err != nil {
		return err
	}
	request := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if response.StatusCode < http.StatusBadRequest {
		if err := openapi3filter.ValidateRequest(r.Context(), request); err != nil {
			return fmt.Errorf("carried out, and the document does not allow it: %w", err)
		}
	}
	return openapi3filter.ValidateResponse(r.Context(), (&openapi3filter.ResponseValidationInput{
		RequestValidationInput: request, Status: response.StatusCode, Header: response.Header, Options: request.Options,
	}).SetBodyBytes(body))
}

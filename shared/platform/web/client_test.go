package web_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/failwell/shared/platform/postgres/txmark"
	"example.com/failwell/shared/platform/tracing"
	"example.com/failwell/shared/platform/web"
)

// other is another system; it counts what reaches it.
func other(t *testing.T, handle http.HandlerFunc) (string, *atomic.Int32) {
	t.Helper()
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, &calls
}

type closing struct {
	io.Reader
	closed atomic.Bool
}

func (c *closing) Close() error {
	c.closed.Store(true)
	return nil
}

func TestClient_InsideATransactionIsRefused(t *testing.T) {
	t.Parallel()
	url, calls := other(t, func(http.ResponseWriter, *http.Request) {})
	client := web.Client(time.Second)
	body := &closing{Reader: strings.NewReader("{}")}
	request, err := http.NewRequestWithContext(txmark.Mark(t.Context()), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err == nil {
		_ = response.Body.Close()
	}
	if !errors.Is(err, web.ErrInTransaction) || calls.Load() != 0 {
		t.Errorf("%d calls left, error %v", calls.Load(), err)
	}
	if !body.closed.Load() {
		t.Error("the body of the refused request stays open")
	}
	outside, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	response, err = client.Do(outside)
	if err != nil {
		t.Fatalf("the same call outside: %v", err)
	}
	_ = response.Body.Close()
}

func TestClient_CallToASilentServerEnds(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]http.HandlerFunc{
		"no answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"half an answer": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, _ := other(t, handle)
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			response, err := web.Client(100 * time.Millisecond).Do(request)
			if err == nil {
				_, err = io.ReadAll(response.Body)
				_ = response.Body.Close()
			}
			if !isTimeout(err) || time.Since(start) > 5*time.Second {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
			if !web.OutcomeUnknown(err, 0) {
				t.Error("a time-out was taken for a refusal")
			}
		})
	}
}

func TestClient_DoesNotFollowARedirect(t *testing.T) {
	t.Parallel()
	url, calls := other(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) })
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := web.Client(time.Second).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusFound || calls.Load() != 1 {
		t.Errorf("status %d after %d calls", response.StatusCode, calls.Load())
	}
}

func TestClient_SendsTheTrace(t *testing.T) {
	t.Parallel()
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	seen := make(chan string, 2)
	url, _ := other(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("traceparent") })
	for _, ctx := range []context.Context{tracing.WithTraceparent(t.Context(), traceparent), t.Context()} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := web.Client(time.Second).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		// A trace of its own when the caller has none, so that our log and the other side's can be joined.
		if want, got := tracing.Traceparent(ctx), <-seen; len(got) != len(traceparent) || want != "" && !strings.HasPrefix(got, want[:len("00-")+32]) {
			t.Errorf("got %q, of the trace %q", got, want)
		}
		if request.Header.Get("traceparent") != "" {
			t.Error("the caller's request was changed; a retry would carry a stale header")
		}
	}
}

func TestOutcomeUnknown_UnlessTheAnswerIsClear(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{
		200: false, 201: false, 302: false, 400: false, 402: false, 404: false, 409: false, 422: false,
		408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true, 599: true,
	} {
		if got := web.OutcomeUnknown(nil, status); got != want {
			t.Errorf("%d: indefinite %v", status, got)
		}
	}
	if !web.OutcomeUnknown(io.ErrUnexpectedEOF, 0) || !web.OutcomeUnknown(context.DeadlineExceeded, 0) {
		t.Error("a broken connection was taken for a refusal")
	}
}

package web_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/failwell/shared/platform/postgres/txmark"
	"example.com/failwell/shared/platform/web"
)

func TestCall_SendsWhatTheRequestSaysAndNothingElse(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	url, _ := other(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- fmt.Sprintf("%s %s %q %q %q %s", r.Method, r.URL, r.Header.Get("Authorization"), r.Header.Get("Idempotency-Key"), r.Header.Get("Content-Type"), body)
	})
	for _, c := range []struct {
		request web.Request
		want    string
	}{
		{web.Request{Method: http.MethodPost, URL: url + "/charges", Bearer: "sk_1", IdempotencyKey: "pay_1:authorise", In: map[string]int{"minor": 1}},
			`POST /charges "Bearer sk_1" "pay_1:authorise" "application/json" {"minor":1}`},
		{web.Request{Method: http.MethodGet, URL: url + "/charges?limit=1"}, `GET /charges?limit=1 "" "" "" `},
	} {
		if _, _, err := web.Call(t.Context(), web.Client(time.Minute), c.request); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, <-seen); diff != "" {
			t.Error(diff)
		}
	}
}

// Which of these is a refusal is the caller's to say.
func TestCall_ReturnsEveryAnswerThatIsWhole(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 201, 302, 401, 404, 422, 429, 500, 503} {
		url, calls := other(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"code":"c"}`)
		})
		var out struct{ Code string }
		got, body, err := web.Call(t.Context(), web.Client(time.Minute), web.Request{Method: http.MethodPost, URL: url, In: struct{}{}, Out: &out})
		if err != nil || got != status || string(body) != `{"code":"c"}` || (out.Code == "c") != (status < 300) {
			t.Errorf("%d: got %d %s, out %+v, %v", status, got, body, out, err)
		}
		if calls.Load() != 1 {
			t.Errorf("%d: %d calls", status, calls.Load())
		}
	}
}

// The work may be done in each of these; to take one for a "no" books money twice.
func TestCall_SaysThatTheOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]http.HandlerFunc{
		"no answer": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then does a server see that its client is gone
			<-r.Context().Done()
		},
		"hangs up": func(w http.ResponseWriter, _ *http.Request) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = conn.Close()
			}
		},
		"half an answer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, `{"ok"`)
		},
		"not JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"empty":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"without end": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "{}"+strings.Repeat(" ", 4<<20))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, _ := other(t, handle)
			var out struct{}
			status, body, err := web.Call(t.Context(), web.Client(time.Second), web.Request{Method: http.MethodPost, URL: url, In: struct{}{}, Out: &out})
			if err == nil || !strings.Contains(err.Error(), "outcome unknown") || status != 0 || body != nil {
				t.Errorf("status %d, %d bytes, %v", status, len(body), err)
			}
		})
	}
}

func TestCall_IsRefusedInsideATransaction(t *testing.T) {
	t.Parallel()
	url, calls := other(t, func(http.ResponseWriter, *http.Request) {})
	_, _, err := web.Call(txmark.Mark(t.Context()), web.Client(time.Minute), web.Request{Method: http.MethodGet, URL: url})
	if err == nil || calls.Load() != 0 {
		t.Errorf("%d calls left, %v", calls.Load(), err)
	}
}

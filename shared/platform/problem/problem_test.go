package problem_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/failwell/shared/platform/problem"
)

func serve(err error) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	problem.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return err }).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	return w
}

func TestHandlerFunc_AnswersWithTheProblemOfAnError(t *testing.T) {
	t.Parallel()
	busy := problem.New(http.StatusConflict, "busy", "Busy", "Try again.").WithRetryAfter(1500 * time.Millisecond).WithField("key")
	w := serve(fmt.Errorf("booking: %w", busy))
	var got problem.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got != *busy {
		t.Errorf("got %+v, %v; want %+v", got, err, *busy)
	}
	if w.Code != http.StatusConflict || w.Header().Get("Retry-After") != "2" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := serve(nil); w.Body.Len() > 0 {
		t.Errorf("without an error: %s", w.Body)
	}
}

func TestHandlerFunc_TellsNoClientOfAnInternalError(t *testing.T) {
	t.Parallel()
	w := serve(errors.New("password of db-1 is wrong"))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "db-1") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A problem may be a shared value: what one request writes into it is not for the others.
func TestOf_ReturnsACopy(t *testing.T) {
	t.Parallel()
	shared := problem.New(http.StatusConflict, "busy", "Busy", "")
	problem.Of(shared).Instance = "urn:request:1"
	if shared.Instance != "" {
		t.Error("the shared problem was changed")
	}
}

package fault_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/failwell/shared/platform/fault"
)

// The armed points belong to the process, so these tests do not run in parallel.

var point = fault.OutboxRelayBeforePublish

func arm(t *testing.T, o fault.Order) {
	t.Helper()
	if err := fault.Arm(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fault.Disarm)
}

func TestPoint_FailsOnlyWhenArmed(t *testing.T) {
	arm(t, fault.Order{Point: fault.OutboxRelayAfterPublish, Action: fault.Error})
	if err := fault.Point(t.Context(), point); err != nil {
		t.Errorf("another point is armed, this one failed: %v", err)
	}
	fault.Disarm()
	if err := fault.Point(t.Context(), fault.OutboxRelayAfterPublish); err != nil {
		t.Errorf("disarmed, and failed: %v", err)
	}
}

func TestPoint_FailsAtItsHitAndLetsTheRetryThrough(t *testing.T) {
	arm(t, fault.Order{Point: point, Action: fault.Error, Hit: 3})
	for hit := 1; hit <= 5; hit++ {
		err := fault.Point(t.Context(), point)
		if want := hit == 3; want != errors.Is(err, fault.ErrInjected) {
			t.Errorf("hit %d: %v", hit, err)
		}
	}
}

func TestPoint_HitsExactlyOneOfConcurrentRequests(t *testing.T) {
	arm(t, fault.Order{Point: point, Action: fault.Error, Hit: 20})
	var failed atomic.Int32
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if fault.Point(context.Background(), point) != nil {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if failed.Load() != 1 {
		t.Errorf("%d failed", failed.Load())
	}
}

func TestDelay_EndsWithItsCaller(t *testing.T) {
	arm(t, fault.Order{Point: point, Action: fault.Delay, DelayMS: int(time.Hour.Milliseconds())})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := fault.Point(ctx, point); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	arm(t, fault.Order{Point: point, Action: fault.Delay, DelayMS: 20})
	start := time.Now()
	if err := fault.Point(t.Context(), point); err != nil || time.Since(start) < 20*time.Millisecond {
		t.Errorf("went on after %v with %v", time.Since(start), err)
	}
}

// crashEnv tells this test binary to be the process that dies.
const crashEnv = "FAULT_TEST_CRASH"

func TestCrash_RunsNothingMore(t *testing.T) {
	if os.Getenv(crashEnv) != "" {
		defer os.Stdout.WriteString("deferred function ran") //nolint:errcheck // it must not run
		arm(t, fault.Order{Point: point, Action: fault.Crash})
		_ = fault.Point(t.Context(), point)
		os.Stdout.WriteString("went on") //nolint:errcheck // it must not run
		return
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), crashEnv+"=1")
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("survived: %v, %s", err, out)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("ended with %v, want a kill", exit)
	}
	if len(out) > 0 {
		t.Errorf("code ran after the crash: %s", out)
	}
}

func TestPoint_UnregisteredPanicsEvenUnarmed(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an unregistered point passed")
		}
	}()
	_ = fault.Point(t.Context(), "outbox.relay.somewhere")
}

func TestPoints_AreEachNamedOnceAndDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range fault.Points {
		if seen[p.Name] {
			t.Errorf("%s is registered twice", p.Name)
		}
		seen[p.Name] = true
		if p.Says == "" || strings.Count(p.Name, ".") < 1 {
			t.Errorf("%q says %q", p.Name, p.Says)
		}
	}
}

func TestHandler_RefusesOrdersThatWouldDoNothing(t *testing.T) {
	t.Cleanup(fault.Disarm)
	for name, body := range map[string]string{
		"unknown point":    `{"point":"outbox.relay.somewhere","action":"error"}`,
		"unknown action":   `{"point":"` + point + `","action":"explode"}`,
		"misspelt field":   `{"point":"` + point + `","action":"delay","dealy_ms":5}`,
		"malformed":        `{"point":`,
		"empty":            ``,
		"wrong type":       `{"point":"` + point + `","action":"error","hit":"first"}`,
		"absurdly long":    `{"point":"` + strings.Repeat("x", 5000) + `"}`,
		"nothing is named": `{}`,
	} {
		recorder := httptest.NewRecorder()
		fault.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodPut, "/lab/faults", strings.NewReader(body)))
		if recorder.Code != http.StatusUnprocessableEntity || recorder.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", name, recorder.Code, recorder.Body)
		}
	}
	recorder := httptest.NewRecorder()
	fault.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/lab/faults", nil))
	if recorder.Code != http.StatusMethodNotAllowed || recorder.Header().Get("Allow") != "GET, PUT, DELETE" {
		t.Errorf("POST: %d, Allow %q", recorder.Code, recorder.Header().Get("Allow"))
	}
	if err := fault.Point(t.Context(), point); err != nil {
		t.Errorf("a refused order armed the point: %v", err)
	}
}

func TestHandler_ArmsListsAndDisarms(t *testing.T) {
	t.Cleanup(fault.Disarm)
	call := func(method, body string) fault.Status {
		t.Helper()
		recorder := httptest.NewRecorder()
		fault.Handler().ServeHTTP(recorder, httptest.NewRequest(method, "/lab/faults", strings.NewReader(body)))
		var list []fault.Status
		if err := json.Unmarshal(recorder.Body.Bytes(), &list); err != nil || recorder.Code != http.StatusOK || len(list) != len(fault.Points) {
			t.Fatalf("%s: %d, %d points, %v", method, recorder.Code, len(list), err)
		}
		for _, status := range list {
			if status.Name == point {
				return status
			}
		}
		t.Fatalf("%s is not listed", point)
		return fault.Status{}
	}
	armed := call(http.MethodPut, `{"point":"`+point+`","action":"error","hit":2}`)
	if armed.Armed == nil || armed.Armed.Action != fault.Error {
		t.Errorf("after PUT: %+v", armed)
	}
	_ = fault.Point(t.Context(), point)
	if err := fault.Point(t.Context(), point); !errors.Is(err, fault.ErrInjected) {
		t.Errorf("armed over HTTP, got %v", err)
	}
	if used := call(http.MethodGet, ""); used.Armed != nil || used.Hits != 2 {
		t.Errorf("after two hits: %+v", used)
	}
	call(http.MethodPut, `{"point":"`+point+`","action":"crash"}`)
	if cleared := call(http.MethodDelete, ""); cleared.Armed != nil || cleared.Hits != 0 {
		t.Errorf("after DELETE: %+v", cleared)
	}
	if err := fault.Point(t.Context(), point); err != nil {
		t.Errorf("disarmed, got %v", err)
	}
}

// A point stands in every hot path, in production too: it must cost nothing there.
func BenchmarkPointUnarmed(b *testing.B) {
	for b.Loop() {
		_ = fault.Point(b.Context(), point)
	}
}

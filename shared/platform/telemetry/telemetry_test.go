package telemetry_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"example.com/failwell/shared/platform/telemetry"
	"example.com/failwell/shared/platform/tracing"
)

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

func lines(t *testing.T, out *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(out.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("not one JSON object a line: %q", line)
		}
		all = append(all, fields)
	}
	return all
}

func TestLogger_LinesCarryTheTraceOfTheirRequest(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := telemetry.Logger(&out, "orders", "info")
	if err != nil {
		t.Fatal(err)
	}
	ctx := tracing.WithTraceparent(t.Context(), traceparent)
	log.InfoContext(ctx, "accepted")
	log.With("order", "ord_1").InfoContext(ctx, "line\nbreak") // With makes a new handler, which must trace too
	log.InfoContext(t.Context(), "no request")
	got := lines(t, &out)
	if len(got) != 3 {
		t.Fatalf("%d lines: %s", len(got), out.String())
	}
	for i, want := range []any{traceID, traceID, nil} {
		if got[i]["trace_id"] != want || got[i]["service"] != "orders" {
			t.Errorf("line %d: %v", i, got[i])
		}
	}
}

func TestLogger_ObeysItsLevelAndNamesAWrongOne(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := telemetry.Logger(&out, "orders", "warn")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("too quiet")
	log.Warn("loud enough")
	if got := lines(t, &out); len(got) != 1 || got[0]["level"] != "WARN" {
		t.Errorf("got %s", out.String())
	}
	if _, err := telemetry.Logger(&out, "orders", "chatty"); err == nil || !strings.Contains(err.Error(), "LOG_LEVEL") {
		t.Errorf("got %v", err)
	}
}

func TestMetrics_AreNotSharedByServicesInOneProcess(t *testing.T) {
	t.Parallel()
	// The default registry panics when a name is registered the second time.
	for range 2 {
		families, err := telemetry.Metrics().Gather()
		if err != nil || len(families) == 0 {
			t.Errorf("%d families, %v", len(families), err)
		}
	}
}

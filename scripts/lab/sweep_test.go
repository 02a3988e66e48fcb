package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/failwell/scripts/lab/sweep"
	"example.com/failwell/shared/platform/fault"
)

func TestSweep_OfNothingIsAnError(t *testing.T) {
	err := sweepCmd{Only: "payments.refnud", Faults: []fault.Action{fault.Crash}}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "payments.refnud") {
		t.Errorf("got %v", err)
	}
}

func TestSweep_APartDoesNotOverwriteTheFullReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sweep.md")
	for name, c := range map[string]sweepCmd{
		"some points": {Only: "payments.refund", Faults: []fault.Action{fault.Crash, fault.Error, fault.Delay}, Report: file},
		"one fault":   {Faults: []fault.Action{fault.Crash}, Report: file},
	} {
		if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--report") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("it was written")
	}
}

func TestReport_ShowsWhereAnInvariantDidNotHold(t *testing.T) {
	all := sweep.All(fault.Crash, fault.Error, fault.Delay)
	done := map[sweep.Combination]swept{}
	var bad sweep.Combination
	for _, c := range all {
		s := swept{Combination: c}
		if c.Point == fault.ConsumerBeforeAck && c.Fault == fault.Error && c.Client == sweep.Gone && bad.Point == "" {
			bad, s.Error = c, "violated"
		}
		done[c] = s
	}
	text := report(all, done)
	for _, want := range []string{
		"| `consumer.before-ack` | a message is handled, the broker does not know | ✓ 3 | ✓ 3 | ✓ 3 | **✗ 2 of 3** | ✓ 3 | ✓ 3 |",
		"| `garbage.after-batch` | some garbage is gone, the rest is not | – | ✓ 12 | – | ✓ 12 | – | ✓ 12 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nis not in\n%s", want, text)
		}
	}
}

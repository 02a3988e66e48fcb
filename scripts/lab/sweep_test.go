package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/failwell/scripts/lab/sweep"
	"example.com/failwell/shared/platform/fault"
)

func TestASweepOfNothingIsAnError(t *testing.T) {
	err := sweepCmd{Only: "payments.refnud", Faults: []fault.Action{fault.Crash}}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "payments.refnud") {
		t.Errorf("got %v", err)
	}
}

func TestAPartOfASweepDoesNotOverwriteTheReportOfAll(t *testing.T) {
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

func TestASweepGoesOnWithWhatHasNotHeldInThisSource(t *testing.T) {
	all := sweep.All(fault.Crash)[:3]
	file := filepath.Join(t.TempDir(), "state.json")
	begin := func() *sweeping {
		t.Helper()
		s, err := newSweeping(all, file)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := begin()
	for _, outcome := range []swept{{Combination: all[0]}, {Combination: all[1], Error: "violated"}} {
		if err := s.tell(outcome); err != nil {
			t.Fatal(err)
		}
	}
	if left := s.todo(); len(left) != 1 || len(s.failed()) != 1 {
		t.Errorf("left %v, failed %v", left, s.failed())
	}
	if left := begin().todo(); len(left) != 2 || left[0] != all[1] || left[1] != all[2] {
		t.Errorf("after a stop, left: %v", left)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(text), s.source, "another", 1)
	if err := os.WriteFile(file, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if left := begin().todo(); len(left) != len(all) {
		t.Errorf("what another source held is taken for held here: only %v is left", left)
	}
}

func TestTheReportShowsWhereItDidNotHold(t *testing.T) {
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

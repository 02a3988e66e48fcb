package e2e

import (
	"context"
	"testing"

	"example.com/failwell/scripts/lab/sweep"
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/shared/platform/fault"
)

// Every point there is, every process that passes it, SIGKILL: once with a client
// that insists with its key, once with a client that is never heard of again. The
// process comes back; nothing is lost, nothing is done twice, nothing stays
// half-way. `lab sweep` does the same with errors and delays.
func TestCrash_AtAnyPointLosesNothingAndDoublesNothing(t *testing.T) {
	w := &sweep.World{World: &world.World{System: system, Shop: acme, Truth: truth}}
	for _, c := range sweep.All(fault.Crash) {
		t.Run(c.String(), func(t *testing.T) {
			if err := w.One(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func misbehave(ctx context.Context, t *testing.T, rules string) {
	t.Helper()
	if err := acme.Misbehave(ctx, rules); err != nil {
		t.Fatal(err)
	}
}

func starts(service string) int {
	n, _ := system.Starts(service)
	return n
}

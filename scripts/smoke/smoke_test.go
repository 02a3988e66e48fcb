// Package smoke is the short test of the whole system: real processes, one order that
// goes through, one crash. Everything else is in scripts/e2e, which takes minutes.
package smoke

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/sweep"
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

var whole *sweep.World

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "smoke:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	ctx := context.Background()
	started, err := world.Start(ctx, stack.Options{Out: os.Stderr, IgnoreGiven: true})
	if err != nil {
		return 1, err
	}
	defer started.Close()
	whole = &sweep.World{World: started}
	return m.Run(), nil
}

func TestOrder_GoesThroughAndEveryInvariantHolds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	o, err := whole.Shop.Buy(ctx, shop.CardWorks, shop.Item{SKU: "mug", Quantity: 1})
	if err != nil || o.Status != "confirmed" {
		t.Fatalf("order %+v, %v", o, err)
	}
	if err := audit.WaitQuiet(ctx, whole.Truth); err != nil {
		t.Fatal(err)
	}
	if err := audit.Demand(ctx, whole.Truth); err != nil {
		t.Fatal(err)
	}
}

// Payments dies when the processor holds the money and no row of ours says so.
func TestOrder_SurvivesACrashBetweenTheProcessorAndItsRow(t *testing.T) {
	err := whole.One(t.Context(), sweep.Combination{
		Point: fault.PaymentsAuthoriseAfterProcessor, Service: stack.Payments, Fault: fault.Crash, Client: sweep.Retries,
	})
	if err != nil {
		t.Fatal(err)
	}
}

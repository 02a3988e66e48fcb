package main

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/testenv"
)

func TestMetrics_ShowHowLongTheOldestOrderHasBeenUnderWay(t *testing.T) {
	t.Parallel()
	b, registry := newBench(t, 4), prometheus.NewRegistry()
	observeOrders(registry, b.db)
	age := func() float64 { return testenv.Metrics(t, registry)["failwell_orders_oldest_unfinished_seconds"] }
	if n := age(); n != 0 {
		t.Errorf("without an order: %v", n)
	}
	first := b.accept("first")
	if _, err := b.db.Exec(t.Context(), `UPDATE orders SET created_at = now() - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	second := b.accept("second")
	if n := age(); n < 3600 {
		t.Errorf("the second one is not the oldest: %v", n)
	}
	for _, step := range []string{"authorise", "post-sale", "capture"} {
		b.answer(first, step)
	}
	if n := age(); n >= 3600 {
		t.Errorf("the first one is confirmed: %v; %s is under way", n, second)
	}
}

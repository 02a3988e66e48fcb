package main

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/testenv"
)

func TestMetrics_ShowHowManyPayoutsAreUnknownAndForHowLong(t *testing.T) {
	t.Parallel()
	s, registry := newShop(t), prometheus.NewRegistry()
	s.observePayouts(registry)
	s.unknownPayout(payoutSent)
	if got := testenv.Metrics(t, registry); got["failwell_payouts_unknown"] != 0 || got["failwell_payouts_unknown_oldest_seconds"] != 0 {
		t.Errorf("none is unknown: %v", got)
	}
	s.unknownPayout(payoutUnknown)
	s.exec(`UPDATE payouts SET created_at = now() - interval '2 days' WHERE outcome = 'unknown'`)
	s.unknownPayout(payoutUnknown)
	if got := testenv.Metrics(t, registry); got["failwell_payouts_unknown"] != 2 || got["failwell_payouts_unknown_oldest_seconds"] < 2*24*3600 {
		t.Error(got)
	}
}

package callback_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/testenv"
)

func TestMetrics_ShowWhatWaitsAndWhatWasGivenUp(t *testing.T) {
	t.Parallel()
	w, registry := newWorld(t), prometheus.NewRegistry()
	callback.NewWorker(callback.Config{DB: w.db, Logger: slog.New(slog.DiscardHandler), Metrics: registry, Delays: []time.Duration{0}, Poll: time.Hour})
	_, err := w.db.Exec(t.Context(), `
		INSERT INTO callbacks (id, merchant_id, subject, url, payload, state)
		SELECT gen_random_uuid(), 'acme', '', '', '', state
		  FROM unnest(ARRAY['pending', 'pending', 'parked', 'delivered', 'delivered', 'delivered']) AS state`)
	if err != nil {
		t.Fatal(err)
	}
	got := testenv.Metrics(t, registry)
	if got["failwell_callback_backlog"] != 2 || got["failwell_callbacks_parked"] != 1 {
		t.Error(got)
	}
	if n, is := got[`failwell_callback_tries_total{outcome="parked"}`]; !is || n != 0 {
		t.Error("the first that is given up would be no increase")
	}
}

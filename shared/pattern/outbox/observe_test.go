package outbox_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/testenv"
)

// Whose messages they are does not matter: those of a process that is gone wait too.
func TestMetrics_ShowHowManyMessagesWaitAndForHowLong(t *testing.T) {
	t.Parallel()
	w, registry := newWorld(t), prometheus.NewRegistry()
	outbox.NewRelay(outbox.New(source, "me"), outbox.Config{DB: w.db, Publisher: refusing{}, Logger: quiet, Metrics: registry})
	if got := testenv.Metrics(t, registry); got["failwell_outbox_messages"] != 0 || got["failwell_outbox_oldest_seconds"] != 0 {
		t.Errorf("an empty outbox: %v", got)
	}
	_, err := w.db.Exec(t.Context(), `
		INSERT INTO outbox (writer, message_id, type, body, created_at)
		VALUES ('me', gen_random_uuid(), 'work', '', now()), ('gone', gen_random_uuid(), 'work', '', now() - interval '1 hour')`)
	if err != nil {
		t.Fatal(err)
	}
	if got := testenv.Metrics(t, registry); got["failwell_outbox_messages"] != 2 || got["failwell_outbox_oldest_seconds"] < 3600 {
		t.Error(got)
	}
}

// refusing is the publisher of a relay that does not run.
type refusing struct{ outbox.Publisher }

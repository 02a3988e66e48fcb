package reliableretries_test

import (
	"errors"
	"testing"
	"time"

	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/testenv"
)

func TestMetrics_ShowWhatIsParked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(string, int) error { return errors.New("no") })
	w.publish(rabbit.Message{ID: "poison", Body: []byte("not an event"), RoutingKey: "work"})
	w.run()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got := testenv.Metrics(t, w.metrics)
		if got[`failwell_queue_messages{queue="`+queue+`",state="parked"}`] == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(got)
		}
	}
}

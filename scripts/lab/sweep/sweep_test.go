package sweep

import (
	"testing"

	"example.com/failwell/shared/platform/fault"
)

func TestDelay_OutlastsEveryTimeout(t *testing.T) {
	if longest := LongestWait(); Delay <= longest {
		t.Errorf("a delay takes %s, somebody waits for %s", Delay, longest)
	}
}

func TestAll_HasEveryPointWithEveryFaultAndClient(t *testing.T) {
	faults := []fault.Action{fault.Crash, fault.Error, fault.Delay}
	swept := map[Combination]bool{}
	for _, c := range All(faults...) {
		if swept[c] {
			t.Errorf("%s is swept twice", c)
		}
		swept[c] = true
		swept[Combination{Point: c.Point, Fault: c.Fault, Client: c.Client}] = true
	}
	for _, p := range fault.Points {
		clients := []Client{Retries, Gone}
		if p.Name == fault.GarbageAfterBatch {
			clients = []Client{NoClient}
		}
		for _, f := range faults {
			for _, client := range clients {
				if !swept[Combination{Point: p.Name, Fault: f, Client: client}] {
					t.Errorf("%s, %s, %s is not swept", p.Name, f, client)
				}
			}
		}
	}
}

package sweep

import (
	"fmt"

	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

// Client is what becomes of the client that sent the request.
type Client string

// The clients.
const (
	Retries  Client = "client-retries" // asks until the answer is definite, and then once more
	Gone     Client = "client-gone"    // sends one request; when that takes long, it hangs up
	NoClient Client = "no-client"      // no request causes the collection of garbage
)

// Combination is one run of the sweep.
type Combination struct {
	Point   string
	Garbage string // the rule that the collector applies, at its point
	Service string // the process that passes the point
	Fault   fault.Action
	Client  Client
}

// String names the combination as a test or a command line does.
func (c Combination) String() string {
	point := c.Point
	if c.Garbage != "" {
		point += ":" + c.Garbage
	}
	return fmt.Sprintf("%s/%s/%s/%s", point, c.Service, c.Fault, c.Client)
}

// All is every combination of the registry's points with the given faults. A point
// that the sweep does not know how to pass is passed by orders; when no process
// passes it there, the sweep fails.
func All(faults ...fault.Action) []Combination {
	var all []Combination
	for _, point := range fault.Points {
		if point.Name == fault.GarbageAfterBatch {
			for _, h := range heaps {
				for _, f := range faults {
					all = append(all, Combination{point.Name, h.rule, h.service, f, NoClient})
				}
			}
			continue
		}
		for _, service := range stack.WhoPasses(point.Name) {
			for _, f := range faults {
				all = append(all, Combination{point.Name, "", service, f, Retries}, Combination{point.Name, "", service, f, Gone})
			}
		}
	}
	return all
}

package stack

import (
	"slices"
	"strings"
)

// sendNothing are the services without an outbox.
var sendNothing = []string{}

// WhoPasses are the services that pass a fault point: a service's own points by its name,
// those of a pattern each service that uses it.
func WhoPasses(point string) []string {
	switch owner, _, _ := strings.Cut(point, "."); owner {
	case "orders", "callback":
		return []string{Orders}
	case "payments", "twophase", "reconcile":
		return []string{Payments}
	case "ledger":
		return []string{Ledger}
	case "outbox":
		return slices.DeleteFunc(slices.Clone(Services), func(name string) bool { return slices.Contains(sendNothing, name) })
	}
	return Services
}

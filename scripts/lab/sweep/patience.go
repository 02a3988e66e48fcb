package sweep

import (
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

// Impatient is what a system that is swept waits at most, where the lab's own
// settings wait longer. A delay must outlast everybody who waits, and this is
// cheaper than to sleep for as long as the lab's settings ask for.
var Impatient = map[string][]string{
	stack.Orders:   {"SAGA_STEP_TIMEOUT=1500ms", "CALLBACK_LEASE=1500ms", "OUTBOX_TAKEOVER=1s"},
	stack.Payments: {"CALL_TIMEOUT=1s", "KEY_LEASE=1500ms", "KEY_WAIT=500ms", "REQUEST_TIMEOUT=2s", "TWOPHASE_TIMEOUT=1500ms", "OUTBOX_TAKEOVER=1s", "RECEIPT_GRACE=4s"},
	stack.Ledger:   {"TWOPHASE_TIMEOUT=1500ms", "OUTBOX_TAKEOVER=1s"},
}

const (
	// Delay is longer than any wait in Impatient. Of RECEIPT_GRACE it is half that
	// counts: after that a document may not be referred to any more.
	Delay = 3 * time.Second

	// webhookDelay is longer than the processor waits for the answer to a webhook
	// (sendTimeout in scripts/sandbox). Its patience is not ours to set.
	webhookDelay = 5500 * time.Millisecond

	// hangUpAfter is how long a client that is about to go waits, while the process
	// that it asked is held up.
	hangUpAfter = 200 * time.Millisecond
)

func delayAt(point string) time.Duration {
	if point == fault.PaymentsWebhookAfterStore {
		return webhookDelay
	}
	return Delay
}

// LongestWait is the longest of what Impatient allows.
func LongestWait() time.Duration {
	longest := time.Duration(0)
	for _, setting := range slices.Concat(slices.Collect(maps.Values(Impatient))...) {
		name, value, _ := strings.Cut(setting, "=")
		wait, err := time.ParseDuration(value)
		if err != nil {
			panic(setting + ": " + err.Error()) // a mistake in the list above
		}
		if name == "RECEIPT_GRACE" {
			wait /= 2
		}
		longest = max(longest, wait)
	}
	return longest
}

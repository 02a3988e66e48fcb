package outbox

import "context"

// Publisher is the way to the broker.
type Publisher interface {
	// Ready returns nil while the broker can be reached.
	Ready() error

	// Publish sends messages without waiting in between, then waits until the broker
	// has confirmed them. It returns an outcome for each, in their order; err says what
	// has kept some from being Confirmed.
	Publish(ctx context.Context, messages []Envelope) (outcomes []Outcome, err error)
}

// Outcome is what became of a message.
type Outcome int

// The outcomes.
const (
	Unconfirmed Outcome = iota // no answer came: the broker has it or not
	Confirmed                  // the broker has stored it
	Refused                    // the broker has not stored it: no queue is bound for it, or its queue is full
)

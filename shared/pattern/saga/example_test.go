package saga_test

import (
	"fmt"

	"example.com/failwell/shared/pattern/saga"
)

// An order whose sale the ledger refuses: the card was authorised by then, so the
// authorisation is taken back. Whoever answers twice, or late, changes nothing.
func Example() {
	plan := saga.Plan{
		{Action: "authorise", Compensation: "void"},
		{Action: "post-sale", Compensation: "reverse-sale"},
		{Action: "capture"}, // the pivot: from here on there is no way back
	}
	s := plan.Begin()
	for _, answer := range []struct {
		step    string
		outcome saga.Outcome
	}{
		{"authorise", saga.Done},
		{"authorise", saga.Done}, // delivered twice
		{"post-sale", saga.Refused},
		{"post-sale", saga.Done}, // an older try, overtaken by its own refusal
		{"void", saga.Done},
	} {
		next, ok := plan.Reply(s, answer.step, answer.outcome)
		if !ok {
			fmt.Printf("%s %s: nobody waits for it\n", answer.step, answer.outcome)
			continue
		}
		s = next
		fmt.Printf("%s %s: now %s, ask for %q\n", answer.step, answer.outcome, s.Phase, plan.Asks(s))
	}
	// Output:
	// authorise done: now forward, ask for "post-sale"
	// authorise done: nobody waits for it
	// post-sale refused: now backward, ask for "void"
	// post-sale done: nobody waits for it
	// void done: now undone, ask for ""
}

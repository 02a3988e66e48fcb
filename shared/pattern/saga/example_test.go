package saga_test

import (
	"fmt"

	"example.com/failwell/shared/pattern/saga"
)

// An order whose sale the ledger refuses: the card was authorised by then, so the
// authorisation is taken back. A reply that comes twice, or late, changes nothing.
func Example() {
	plan := saga.Plan{
		{Participant: "payments", Action: "authorise", Compensation: "void"},
		{Participant: "ledger", Action: "post-sale", Compensation: "reverse-sale"},
		{Participant: "payments", Action: "capture"}, // the pivot: once it is done there is no way back
	}
	s := plan.Begin()
	for _, answer := range []struct {
		step    string
		outcome saga.Outcome
	}{
		{"authorise", saga.Done},
		{"authorise", saga.Done}, // delivered twice
		{"post-sale", saga.Refused},
		{"post-sale", saga.Done}, // a late reply of an earlier attempt
		{"void", saga.Done},
	} {
		next, expected := plan.Next(s, answer.step, answer.outcome)
		if !expected {
			fmt.Printf("%s %s: not expected\n", answer.step, answer.outcome)
			continue
		}
		s = next
		fmt.Printf("%s %s: now %s, command %q\n", answer.step, answer.outcome, s.Phase, s.Step)
	}
	// Output:
	// authorise done: now forward, command "post-sale"
	// authorise done: not expected
	// post-sale refused: now compensating, command "void"
	// post-sale done: not expected
	// void done: now compensated, command ""
}

package saga

// Step is one action at a participant and what takes it back.
type Step struct {
	// Action is the name under which the participant is asked to act.
	Action string

	// Compensation is the name under which it is asked to undo. Empty for the
	// pivot: an action that cannot be undone. Once it was asked for, the saga can
	// only end completed, or undone by the participant's own definite refusal.
	Compensation string
}

// Plan is the order of the steps. Names are unique across actions and compensations.
type Plan []Step

// Phase says which way a saga is going.
type Phase string

// The phases of a saga. It starts Forward; Completed and Undone are the ends.
const (
	Forward   Phase = "forward"
	Backward  Phase = "backward"
	Completed Phase = "completed"
	Undone    Phase = "undone"
)

// State is how far a saga has got: the one question that is open now.
type State struct {
	Phase Phase
	Step  int
}

// Outcome is a participant's definite answer. There is no third one: a
// participant that does not know yet does not answer yet.
type Outcome string

// The two definite answers.
const (
	Done    Outcome = "done"
	Refused Outcome = "refused"
)

// Begin is the state in which the first action is asked for.
func (p Plan) Begin() State { return State{Phase: Forward} }

// Ended tells whether nothing is left to ask.
func (s State) Ended() bool { return s.Phase == Completed || s.Phase == Undone }

// Asks returns the name of the action or compensation that s waits for, or ""
// when the saga has ended.
func (p Plan) Asks(s State) string {
	switch s.Phase {
	case Forward:
		return p[s.Step].Action
	case Backward:
		return p[s.Step].Compensation
	default:
		return ""
	}
}

// Reply returns the state after an answer to step (the name of an action or a
// compensation). ok is false when the saga does not wait for that answer: a
// duplicate, or one that comes late, after the saga has turned around. It
// changes nothing then.
//
// Pattern: saga
func (p Plan) Reply(s State, step string, outcome Outcome) (next State, ok bool) {
	if s.Ended() || step != p.Asks(s) {
		return s, false
	}
	switch {
	case s.Phase == Backward && outcome == Refused:
		// A compensation must not be refused. Standing still keeps the question
		// open and visible, which is better than to claim that it was undone.
		return s, false
	case s.Phase == Backward:
		return p.undoBelow(s.Step), true
	case outcome == Refused:
		// The refused action did nothing: undo from the one before it.
		return p.undoBelow(s.Step), true
	case s.Step == len(p)-1:
		return State{Phase: Completed, Step: s.Step}, true
	default:
		return State{Phase: Forward, Step: s.Step + 1}, true
	}
}

// Cancel turns a saga around while that is still possible. The open action is
// compensated as well, because it may have been done already.
func (p Plan) Cancel(s State) (next State, ok bool) {
	if s.Phase != Forward || p[s.Step].Compensation == "" {
		return s, false
	}
	return State{Phase: Backward, Step: s.Step}, true
}

// undoBelow is the next compensation under step, or the end.
func (p Plan) undoBelow(step int) State {
	for i := step - 1; i >= 0; i-- {
		if p[i].Compensation != "" {
			return State{Phase: Backward, Step: i}
		}
	}
	return State{Phase: Undone}
}

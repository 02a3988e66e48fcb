package saga

// Step is one action at a participant and what takes it back.
type Step struct {
	// Action is the name of the command that lets the participant act.
	Action string

	// Compensation is the name of the command that takes the action back. Empty for
	// the pivot: an action that cannot be taken back. Once its command was sent, only
	// the participant's own definite refusal can still turn the saga around.
	Compensation string
}

// Plan is the order of the steps. Names are unique across actions and compensations.
type Plan []Step

// Phase says which way a saga is going.
type Phase string

// The phases of a saga. It starts Forward; Completed and Compensated are the ends.
const (
	Forward      Phase = "forward"
	Compensating Phase = "compensating"
	Completed    Phase = "completed"
	Compensated  Phase = "compensated"
)

// State is how far a saga has got: the one command whose reply it waits for.
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

// Begin is the state in which the saga waits for its first action.
func (p Plan) Begin() State { return State{Phase: Forward} }

// Ended tells whether the saga waits for nothing any more.
func (s State) Ended() bool { return s.Phase == Completed || s.Phase == Compensated }

// CurrentCommand returns the name of the action or compensation whose reply the saga
// waits for in s, or "" when it has ended.
func (p Plan) CurrentCommand(s State) string {
	switch s.Phase {
	case Forward:
		return p[s.Step].Action
	case Compensating:
		return p[s.Step].Compensation
	default:
		return ""
	}
}

// Next returns the state after a participant's reply to step (the name of an action
// or a compensation). expected is false when the saga does not wait for that reply:
// it is a duplicate, or it comes late, after the saga has turned around. Then the
// state stays as it is.
//
// Pattern: saga
func (p Plan) Next(s State, step string, outcome Outcome) (next State, expected bool) {
	if s.Ended() || step != p.CurrentCommand(s) {
		return s, false
	}
	switch {
	case s.Phase == Compensating && outcome == Refused:
		// A compensation must not be refused. The saga stands still, which a person
		// can see; to go on would claim that the action was taken back.
		return s, false
	case s.Phase == Compensating:
		return p.compensateBelow(s.Step), true
	case outcome == Refused:
		// The refused action did nothing: compensate from the one before it.
		return p.compensateBelow(s.Step), true
	case s.Step == len(p)-1:
		return State{Phase: Completed, Step: s.Step}, true
	default:
		return State{Phase: Forward, Step: s.Step + 1}, true
	}
}

// Cancel turns a saga around while that is still possible. The current action is
// compensated as well, because it may have been done already.
func (p Plan) Cancel(s State) (next State, ok bool) {
	if s.Phase != Forward || p[s.Step].Compensation == "" {
		return s, false
	}
	return State{Phase: Compensating, Step: s.Step}, true
}

// compensateBelow is the next compensation under step, or the end.
func (p Plan) compensateBelow(step int) State {
	for i := step - 1; i >= 0; i-- {
		if p[i].Compensation != "" {
			return State{Phase: Compensating, Step: i}
		}
	}
	return State{Phase: Compensated}
}

package saga

import "slices"

// Step is one action at a participant and what takes it back.
type Step struct {
	// Participant is the service that carries out both.
	Participant string

	// Action is the name of the command that lets the participant act.
	Action string

	// Compensation is the name of the command that takes the action back. Empty for
	// the pivot: an action that cannot be taken back. Once its command was sent, only
	// the participant's own definite refusal can still turn the saga around.
	Compensation string
}

// Plan is the order of the steps. Names are unique across actions and compensations: a
// saga under way is known by them, so a plan may change while sagas run (docs/changing.md).
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

// State is how far a saga has got.
type State struct {
	Phase Phase

	// Step is the action or compensation whose command was sent and whose reply the saga
	// waits for, by name. An index would mean another step in a plan that has a new one.
	// Empty at the end.
	Step string
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
func (p Plan) Begin() State { return State{Phase: Forward, Step: p[0].Action} }

// Ended tells whether the saga waits for nothing any more.
func (s State) Ended() bool { return s.Phase == Completed || s.Phase == Compensated }

// MessageType is the type of the message that carries the command of a step: participant and
// step, "payments.authorise".
func (p Plan) MessageType(step string) string { return p[p.position(step)].Participant + "." + step }

// Knows tells whether s is a state of this plan. It is not when a process with another
// plan has moved the saga: leave it to that one.
func (p Plan) Knows(s State) bool { return s.Ended() || p.position(s.Step) >= 0 }

// position is where the action or compensation stands in the plan; -1: nowhere.
func (p Plan) position(name string) int {
	return slices.IndexFunc(p, func(s Step) bool { return name != "" && (name == s.Action || name == s.Compensation) })
}

// Next returns the state after a participant's reply to step (the name of an action
// or a compensation). expected is false when the saga does not wait for that reply:
// it is a duplicate, or it comes late, after the saga has turned around. Then the
// state stays as it is.
//
// Pattern: saga
func (p Plan) Next(s State, step string, outcome Outcome) (next State, expected bool) {
	if s.Ended() || step != s.Step || !p.Knows(s) {
		return s, false
	}
	at := p.position(step)
	switch {
	case s.Phase == Compensating && outcome == Refused:
		// A compensation must not be refused. The saga stays at this step: to go on would
		// claim that the action was taken back. Its caller reports it to a person.
		return s, false
	case s.Phase == Compensating:
		return p.compensateBelow(at), true
	case outcome == Refused:
		// The refused action did nothing: compensate from the one before it.
		return p.compensateBelow(at), true
	case at == len(p)-1:
		return State{Phase: Completed}, true
	default:
		return State{Phase: Forward, Step: p[at+1].Action}, true
	}
}

// Cancel turns a saga around while that is still possible. The current action is
// compensated as well, because it may have been done already.
func (p Plan) Cancel(s State) (next State, ok bool) {
	if s.Phase != Forward || !p.Knows(s) {
		return s, false
	}
	current := p[p.position(s.Step)]
	if current.Compensation == "" {
		return s, false
	}
	return State{Phase: Compensating, Step: current.Compensation}, true
}

// compensateBelow is the next compensation under a position, or the end.
func (p Plan) compensateBelow(position int) State {
	for _, step := range slices.Backward(p[:position]) {
		if step.Compensation != "" {
			return State{Phase: Compensating, Step: step.Compensation}
		}
	}
	return State{Phase: Compensated}
}

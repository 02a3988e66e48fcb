package saga_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"example.com/failwell/shared/pattern/saga"
)

var plan = saga.Plan{
	{Participant: "payments", Action: "authorise", Compensation: "void"},
	{Participant: "ledger", Action: "post", Compensation: "reverse"},
	{Participant: "payments", Action: "capture"},
}

// The model: the real Plan, participants that follow the rules of doc.go, and a
// network that loses, repeats and reorders. Whatever the walk chooses, the saga
// must be able to end, and to end well.

// chooser makes the choices of a walk.
type chooser interface{ pick(n int) int }

type byRapid struct{ t *rapid.T }

func (c byRapid) pick(n int) int { return rapid.IntRange(0, n-1).Draw(c.t, "choice") }

type bySeed struct{ *rand.Rand }

func (c bySeed) pick(n int) int { return c.IntN(n) }

// bugs are mistakes that are often made, built into the model to see whether it
// would notice them.
type bugs struct {
	lateRegistration  bool // a compensation is due only once its action has succeeded
	silenceIsRefusal  bool // a time-out counts as "no"
	withoutTombstones bool // a compensation of what never happened leaves no trace
}

type answer struct {
	step    string
	outcome saga.Outcome
}

type world struct {
	bugs     bugs
	state    saga.State
	commands []string // in flight
	replies  []answer // in flight

	decided map[string]saga.Outcome // what a participant has answered to an action, for good
	effects map[string]int          // how often an action took effect and was not undone
	undone  map[string]bool         // compensated, or tombstone

	turned bool   // a compensation was commanded
	wrong  string // the first thing that must not happen, and did
}

func newWorld(b bugs) *world {
	w := &world{bugs: b, state: plan.Begin(), decided: map[string]saga.Outcome{}, effects: map[string]int{}, undone: map[string]bool{}}
	w.send()
	return w
}

// send sends the current command, or sends it again when its reply is overdue.
func (w *world) send() {
	if step := w.state.Step; step != "" {
		w.commands = append(w.commands, step)
		w.turned = w.turned || w.state.Phase == saga.Compensating
	}
}

func (w *world) move(next saga.State, ok bool) {
	if !ok {
		return
	}
	w.state = next
	w.send()
}

func (w *world) cancel() {
	next, ok := plan.Cancel(w.state)
	if ok && w.bugs.lateRegistration {
		next = onlyBelow(w.state.Step)
	}
	w.move(next, ok)
}

// onlyBelow is what a saga does that forgets the action whose command it has just sent.
func onlyBelow(action string) saga.State {
	at := slices.IndexFunc(plan, func(s saga.Step) bool { return s.Action == action })
	if at == 0 {
		return saga.State{Phase: saga.Compensated}
	}
	return saga.State{Phase: saga.Compensating, Step: plan[at-1].Compensation}
}

func (w *world) timeOut() {
	if w.bugs.silenceIsRefusal && w.state.Phase == saga.Forward {
		w.move(plan.Next(w.state, w.state.Step, saga.Refused))
		return
	}
	w.send()
}

// participant carries out a command and replies; refuse is what it would like to do.
func (w *world) participant(step string, refuse bool) answer {
	for _, s := range plan {
		if s.Compensation == step {
			w.compensate(s.Action)
			return answer{step, saga.Done}
		}
	}
	if before, ok := w.decided[step]; ok && !w.undone[step] {
		return answer{step, before}
	}
	if w.undone[step] {
		return answer{step, saga.Refused}
	}
	if refuse {
		w.decided[step] = saga.Refused
		return answer{step, saga.Refused}
	}
	if step == plan[len(plan)-1].Action && w.turned {
		w.wrong = "the pivot took effect after a compensation was commanded"
	}
	w.decided[step] = saga.Done
	w.effects[step]++
	return answer{step, saga.Done}
}

func (w *world) compensate(action string) {
	happened := w.effects[action] > 0
	if happened {
		w.effects[action]--
	}
	if happened || !w.bugs.withoutTombstones {
		w.undone[action] = true
	}
}

// step is one thing that can happen.
func (w *world) step(c chooser) {
	switch c.pick(7) {
	case 0, 1: // a command arrives; the message may come again
		if n := len(w.commands); n > 0 {
			i := c.pick(n)
			w.replies = append(w.replies, w.participant(w.commands[i], c.pick(4) == 0))
			if c.pick(3) > 0 {
				w.commands = append(w.commands[:i], w.commands[i+1:]...)
			}
		}
	case 2, 3: // a reply arrives; the message may come again
		if n := len(w.replies); n > 0 {
			i := c.pick(n)
			r := w.replies[i]
			if c.pick(3) > 0 {
				w.replies = append(w.replies[:i], w.replies[i+1:]...)
			}
			w.move(plan.Next(w.state, r.step, r.outcome))
		}
	case 4: // a command is parked: no participant will handle it
		if n := len(w.commands); n > 0 {
			w.commands = w.commands[:n-1]
		}
	case 5: // a reply is parked
		if n := len(w.replies); n > 0 {
			w.replies = w.replies[:n-1]
		}
	case 6:
		if c.pick(4) == 0 {
			w.cancel()
		} else {
			w.timeOut()
		}
	}
}

// settle is the fair continuation: everything in flight arrives, every command
// is sent again. A saga that is not at its end after that has no way there.
func (w *world) settle(c chooser) {
	for range 20 {
		for len(w.commands) > 0 {
			w.replies = append(w.replies, w.participant(w.commands[0], c.pick(4) == 0))
			w.commands = w.commands[1:]
		}
		for len(w.replies) > 0 {
			r := w.replies[0]
			w.replies = w.replies[1:]
			w.move(plan.Next(w.state, r.step, r.outcome))
		}
		if w.state.Ended() && len(w.commands) == 0 {
			return
		}
		w.send()
	}
	w.wrong = fmt.Sprintf("no way to an end from %+v", w.state)
}

// walk lets n things happen, then settles, and tells what went wrong.
func walk(c chooser, b bugs, n int) error {
	w := newWorld(b)
	ended := saga.State{}
	for range n {
		w.step(c)
		if ended.Phase != "" && w.state != ended {
			return fmt.Errorf("left its end %+v for %+v", ended, w.state)
		}
		if w.state.Ended() {
			ended = w.state
		}
	}
	w.settle(c)
	if w.wrong != "" {
		return fmt.Errorf("%s", w.wrong)
	}
	for _, s := range plan {
		want := map[saga.Phase]int{saga.Completed: 1, saga.Compensated: 0}[w.state.Phase]
		if w.effects[s.Action] != want {
			return fmt.Errorf("%s: %s took effect %d times, want %d", w.state.Phase, s.Action, w.effects[s.Action], want)
		}
	}
	return nil
}

func TestPlan_NoOrderOfEventsLeadsToADeadEnd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		if err := walk(byRapid{t}, bugs{}, rapid.IntRange(0, 60).Draw(t, "length")); err != nil {
			t.Fatal(err)
		}
	})
}

// The model is worth something only if it notices the usual mistakes.
func TestModel_NoticesTheUsualMistakes(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]bugs{
		"compensation registered only after success": {lateRegistration: true},
		"time-out taken for a refusal":               {silenceIsRefusal: true},
		"participants without tombstones":            {withoutTombstones: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(20_000) {
				if err := walk(bySeed{rand.New(rand.NewPCG(seed, 0))}, b, 40); err != nil {
					t.Logf("noticed after %d walks: %v", seed+1, err)
					return
				}
			}
			t.Error("not noticed in 20,000 walks")
		})
	}
}

func TestPlan_ManyRandomWalksEndWell(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50_000) {
		if err := walk(bySeed{rand.New(rand.NewPCG(seed, 0))}, bugs{}, 40); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// Package sweep takes every fault point there is and lets the process that passes
// it die there, fail there, or take longer there than anybody waits; once with a
// client that insists, once with a client that is never heard of again. Then
// everything must still be right.
package sweep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/wait"
)

// World is a running system to sweep.
type World struct{ *world.World }

// ErrNotPassed means: no process passed the point.
var ErrNotPassed = errors.New("nothing passed the point")

// ErrOtherAnswer means: a retry got another answer than the request before it. The
// books may be right all the same.
var ErrOtherAnswer = errors.New("a retry got another answer")

// One runs one combination to its end and audits the system. nil: everything held.
func (w *World) One(ctx context.Context, c Combination) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	// What was not met must not meet the next combination.
	defer func() { err = errors.Join(err, w.Calm(context.WithoutCancel(ctx))) }()
	r := &run{World: w, Combination: c}
	scene, err := r.prepare(ctx)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if err := r.arm(ctx); err != nil {
		return err
	}
	if err := scene.act(ctx); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if err := r.over(ctx); err != nil {
		return err
	}
	if err := audit.WaitQuiet(ctx, w.Truth); err != nil {
		return err
	}
	// A retry may come when the processor has forgotten the keys. It must not ask it again.
	if err := w.Shop.ForgetKeys(ctx, "0s"); err != nil {
		return err
	}
	var answered error
	if scene.askAgain != nil {
		answered = scene.askAgain(ctx)
	}
	return errors.Join(answered, audit.Demand(ctx, w.Truth), r.lives()) // one must not hide the others
}

// run is one combination on its way.
type run struct {
	*World
	Combination
	born     map[string]int // how often each process had been started when the fault was armed
	struckAt time.Time      // zero: the fault was not seen to have struck
}

// scene is what somebody does so that the point is passed.
type scene struct {
	act func(ctx context.Context) error

	// askAgain sends the request once more when all is quiet, and fails when the
	// answers to it were not all the same. nil: no client is there that could.
	askAgain func(ctx context.Context) error
}

var processes = append([]string{stack.Sandbox}, stack.Services...)

func (r *run) arm(ctx context.Context) error {
	r.born = map[string]int{}
	for _, name := range processes {
		r.born[name], _ = r.System.Starts(name)
	}
	if r.Fault == fault.Delay {
		return r.Shop.ArmDelay(ctx, r.System.URL[r.Service], r.Point, delayAt(r.Point))
	}
	return r.Shop.Arm(ctx, r.System.URL[r.Service], r.Point, string(r.Fault), 1)
}

// look is how often to look whether something has come about.
const look = 20 * time.Millisecond

// struck tells whether the fault has struck.
func (r *run) struck(ctx context.Context) bool {
	if !r.struckAt.IsZero() {
		return true
	}
	if r.Fault == fault.Crash {
		if now, _ := r.System.Starts(r.Service); now == r.born[r.Service] {
			return false
		}
	} else if armed, err := r.armed(ctx); err != nil || armed {
		return false
	}
	r.struckAt = time.Now()
	return true
}

// over waits until the fault has struck and its time is over: a process that died
// is back, and one that was held up goes on. What it does then is audited, too.
func (r *run) over(ctx context.Context) error {
	err := wait.Until(ctx, look, "the fault to strike", func() (bool, error) { return r.struck(ctx), nil })
	if err != nil {
		return fmt.Errorf("%w %s in %s", ErrNotPassed, r.Point, r.Service)
	}
	switch r.Fault {
	case fault.Crash:
		return wait.Until(ctx, look, r.Service+" to be ready again", func() (bool, error) { return r.System.Ready(ctx, r.Service), nil })
	case fault.Delay:
		wait.For(ctx, time.Until(r.struckAt.Add(delayAt(r.Point)+look)))
	case fault.Error:
	}
	return ctx.Err()
}

func (r *run) armed(ctx context.Context) (bool, error) {
	a, err := r.Shop.Get(ctx, r.System.URL[r.Service]+"/lab/faults")
	if err != nil {
		return false, err
	}
	var list []fault.Status
	if err := json.Unmarshal(a.Body, &list); err != nil {
		return false, err
	}
	for _, s := range list {
		if s.Name == r.Point {
			return s.Armed != nil, nil
		}
	}
	return false, fmt.Errorf("%s does not know %s", r.Service, r.Point)
}

// lives holds the processes' lives against what was ordered: a crash is one more
// start of the process that passed the point, and nothing else may end a process,
// however well the others make up for it.
func (r *run) lives() error {
	var wrong []error
	for _, name := range processes {
		want := 0
		if r.Fault == fault.Crash && name == r.Service {
			want = 1
		}
		now, exit := r.System.Starts(name)
		if got := now - r.born[name]; got != want {
			wrong = append(wrong, fmt.Errorf("%s was started %d times more, want %d; its last exit status is %d", name, got, want, exit))
		}
	}
	return errors.Join(wrong...)
}

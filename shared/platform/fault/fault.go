// Package fault makes a process fail at a named point, on purpose.
//
// A point stands between every two steps that write. As long as nothing is
// armed it costs one atomic load. Points are armed over HTTP (see Handler), and
// only in a process that was started with LAB_FAULTS=true.
package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"example.com/failwell/shared/platform/wait"
)

// ErrInjected is what a point armed with Error returns. It is indefinite, like
// the failures it stands for: the caller must not conclude that nothing happened.
var ErrInjected = errors.New("fault: injected error")

// Action is what happens at an armed point.
type Action string

// The actions.
const (
	Crash Action = "crash" // SIGKILL to ourselves: no deferred function runs, no buffer is flushed
	Error Action = "error" // the point returns ErrInjected
	Delay Action = "delay" // the point sleeps, then goes on
)

// Order arms a point.
type Order struct {
	Point   string `json:"point"`
	Action  Action `json:"action"`
	Hit     int    `json:"hit"`      // acts at the n-th time the point is passed from now; 0 means 1
	DelayMS int    `json:"delay_ms"` // for Delay, milliseconds
}

// The armed points are a global of the process, deliberately: a point may stand
// anywhere, and carrying an injector to each of them would bend the code that
// is to be studied.
var (
	armed atomic.Bool
	mu    sync.Mutex
	plan  = map[string]*Order{}
	hits  = map[string]int{}
)

// Point is passed by the code under study. It returns nil unless it is armed.
// It panics on a name that is none of Points, armed or not.
func Point(ctx context.Context, name string) error {
	if !known[name] {
		panic("fault: unregistered point " + name + ": add it to shared/platform/fault/points.go")
	}
	if !armed.Load() {
		return nil
	}
	order, due := pass(name)
	if !due {
		return nil
	}
	switch order.Action {
	case Crash:
		die()
	case Delay:
		wait.For(ctx, time.Duration(order.DelayMS)*time.Millisecond)
		return ctx.Err()
	case Error:
	}
	return fmt.Errorf("%w at %s", ErrInjected, name)
}

// pass counts a hit and tells whether it is the one that was ordered. An order
// is used up by acting: the retry must get through.
func pass(name string) (Order, bool) {
	mu.Lock()
	defer mu.Unlock()
	hits[name]++
	order := plan[name]
	if order == nil {
		return Order{}, false
	}
	if order.Hit--; order.Hit > 0 {
		return Order{}, false
	}
	delete(plan, name)
	return *order, true
}

func die() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill() // SIGKILL
	}
	os.Exit(137) // the first process of a container cannot kill itself; this runs no deferred function either
}

// Arm arms a point and starts counting hits.
func Arm(o Order) error {
	if !known[o.Point] {
		return fmt.Errorf("fault: no such point: %q", o.Point)
	}
	switch o.Action {
	case Crash, Error, Delay:
	default:
		return fmt.Errorf("fault: action %q is none of crash, error, delay", o.Action)
	}
	if o.Hit < 1 {
		o.Hit = 1
	}
	mu.Lock()
	defer mu.Unlock()
	plan[o.Point] = &o
	armed.Store(true)
	return nil
}

// Disarm disarms all points and forgets the counts.
func Disarm() {
	mu.Lock()
	defer mu.Unlock()
	clear(plan)
	clear(hits)
	armed.Store(false)
}

// Status is the registry with what is armed and how often each point was passed
// since the first one was armed.
type Status struct {
	Info
	Armed *Order `json:"armed,omitempty"`
	Hits  int    `json:"hits"`
}

// List returns the status of every point.
func List() []Status {
	mu.Lock()
	defer mu.Unlock()
	list := make([]Status, len(Points))
	for i, p := range Points {
		list[i] = Status{Info: p, Hits: hits[p.Name]}
		if o := plan[p.Name]; o != nil {
			armed := *o
			list[i].Armed = &armed
		}
	}
	return list
}

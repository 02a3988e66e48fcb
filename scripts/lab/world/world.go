// Package world starts what the lab plays with.
package world

import (
	"context"
	"fmt"
	"time"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/wait"
)

// World is a running system: its processes, a merchant's side of it, and all databases.
type World struct {
	System *stack.Stack
	Shop   *shop.Shop
	Truth  *audit.Databases
}

// Start starts a system. Close it.
func Start(ctx context.Context, opts stack.Options) (*World, error) {
	system, err := stack.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	truth, err := audit.Open(ctx, system.DatabaseURL, system.ReceiptsURL())
	if err != nil {
		system.Close()
		return nil, err
	}
	return &World{System: system, Shop: shop.New(system.Env()), Truth: truth}, nil
}

// CrashAt arms a SIGKILL at a fault point of a service. died waits until the service has died
// there, and is ready again.
func (w *World) CrashAt(ctx context.Context, service, point string) (died func(context.Context) error, err error) {
	before, _ := w.System.Starts(service)
	return func(ctx context.Context) error {
		return wait.Until(ctx, 10*time.Millisecond, fmt.Sprintf("%s to die at %s and be ready again", service, point), func() (bool, error) {
			now, _ := w.System.Starts(service)
			return now > before && w.System.Ready(ctx, service), nil
		})
	}, w.Shop.Arm(ctx, w.System.URL[service], point, "crash", 1)
}

// Calm takes all faults back: those of the outside world, and the armed points. A service
// that is just being started again is waited for.
func (w *World) Calm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, service := range stack.Services {
		err := wait.Until(ctx, 50*time.Millisecond, service+" to be disarmed", func() (bool, error) {
			return w.Shop.Disarm(ctx, w.System.URL[service]) == nil, nil
		})
		if err != nil {
			return err
		}
	}
	return w.Shop.Misbehave(ctx, `{"rules":[]}`)
}

// Close stops it.
func (w *World) Close() {
	w.Truth.Close()
	w.System.Close()
}

// Package world starts what the lab plays with.
package world

import (
	"context"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
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

// Close stops it.
func (w *World) Close() {
	w.Truth.Close()
	w.System.Close()
}
